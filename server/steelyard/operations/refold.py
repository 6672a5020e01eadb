"""Makes a key's position current again from its stored entries: on from where it stands, or back to an earlier start.

Entries that come after everything folded so far only extend the fold. A late one, a correction or a withdrawal goes
back to the last start before it (a checkpoint, the opening of a trip, or nothing) and may stop at a flat point that
comes out as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from steelyard.accounting import checkpoints
from steelyard.accounting.entries import EARLIEST, Entry
from steelyard.accounting.fold import Checkpoint, Fold, FoldRules
from steelyard.accounting.keys import OrderKey, PositionKey
from steelyard.accounting.position import FoldState, assert_identity, assert_leg
from steelyard.accounting.round_trips import RoundTrip
from steelyard.operations.ports import BookTransaction, KeyChange, StoredPosition

BEGINNING = OrderKey(EARLIEST, -(2**31), "")
"""A place before every entry."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a version is written."""

    name: str
    """fill, adjustment, build, ..."""
    id: str | None = None
    fill_ids: Sequence[str] = ()
    fill_count: int = 0


def extend_key(stored: StoredPosition, rules: FoldRules, *, entries: Iterable[Entry], cause: Cause) -> KeyChange:
    """Folds entries that come after everything folded so far, in fold order."""
    fold = Fold(rules, stored.state, since_checkpoint=stored.since_checkpoint)
    fold.feed(entries)
    trips, taken = fold.drain()
    return change_of(stored, rules, state=fold.state(), fold=fold, trips=trips, taken=taken, cause=cause)


async def refold_key(
    book: BookTransaction,
    *,
    stored: StoredPosition,
    rules: FoldRules,
    changed: tuple[OrderKey, OrderKey] | None,
    cause: Cause,
) -> KeyChange:
    """Folds what lies in or after a changed range of places; None: everything from the very start.

    Reads the key's live entries, so they must be stored already. Raises `InvariantBroken` where a law does not hold.
    """
    newest = stored.state.last
    if changed is not None and stored.version and (newest is None or changed[0] > newest):
        fold = Fold(rules, stored.state, since_checkpoint=stored.since_checkpoint)
        await _feed(book, fold, key=stored.key, start=newest, inclusive=False)
        trips, taken = fold.drain()
        return change_of(stored, rules, state=fold.state(), fold=fold, trips=trips, taken=taken, cause=cause)
    return await _fold_again(book, stored=stored, rules=rules, changed=changed, cause=cause)


async def _fold_again(
    book: BookTransaction,
    *,
    stored: StoredPosition,
    rules: FoldRules,
    changed: tuple[OrderKey, OrderKey] | None,
    cause: Cause,
) -> KeyChange:
    start = checkpoints.start_from_nothing()
    later: Sequence[RoundTrip] = ()
    if changed is not None and stored.version:
        start, later = await _plan(book, stored, first=changed[0])
    stops = checkpoints.stop_points(later, after=changed[1]) if changed is not None else frozenset()
    fold = start.fold(rules, stop_at=stops)
    count = await _feed(book, fold, key=stored.key, start=start.from_order, inclusive=start.inclusive)
    trips, taken = fold.drain()
    return change_of(
        stored,
        rules,
        state=checkpoints.finish(stored.state, fold, trips_from=later),
        fold=fold,
        trips=trips,
        taken=taken,
        cause=cause,
        replaces_from=start.replaces_from or BEGINNING,
        drops_checkpoints_from=BEGINNING if changed is None else changed[0],
        refolded=count if stored.version else None,
    )


async def state_before(
    book: BookTransaction, *, stored: StoredPosition, rules: FoldRules, place: OrderKey
) -> FoldState:
    """What was held before a place of the fold; writes nothing."""
    if stored.state.last is None or place > stored.state.last:
        return stored.state
    start, _ = await _plan(book, stored, first=place)
    fold = start.fold(rules)
    async for batch in book.entries(stored.key, start=start.from_order, inclusive=start.inclusive, end=place):
        fold.feed(entry for entry in batch if entry.order < place)
    return fold.state()


async def _plan(
    book: BookTransaction, stored: StoredPosition, *, first: OrderKey
) -> tuple[checkpoints.RefoldStart, Sequence[RoundTrip]]:
    key = stored.key
    at = await book.last_trip_opened_before(key, first)
    if at is None:
        return checkpoints.start_from_nothing(), ()
    later = await book.trips_from(key, at.opened)
    previous = await book.last_trip_opened_before(key, at.opened)
    is_doubtful = at.is_adjusted or (previous is not None and previous.is_adjusted)
    last_fill: datetime | None = await book.last_fill_at(key, before=at.opened) if is_doubtful else None
    taken = await book.checkpoint_before(key, first)
    start = checkpoints.choose_start(
        stored.state, first_change=first, trips_from=later, previous=previous, checkpoint=taken, last_fill_at=last_fill
    )
    return start, later


async def _feed(book: BookTransaction, fold: Fold, *, key: PositionKey, start: OrderKey | None, inclusive: bool) -> int:
    """How many entries it took, up to the last batch read."""
    count = 0
    async for batch in book.entries(key, start=start, inclusive=inclusive):
        count += len(batch)
        if fold.feed(batch):
            break
    return count


def change_of(
    stored: StoredPosition,
    rules: FoldRules,
    *,
    state: FoldState,
    fold: Fold,
    trips: Sequence[RoundTrip],
    taken: Sequence[Checkpoint],
    cause: Cause,
    replaces_from: OrderKey | None = None,
    drops_checkpoints_from: OrderKey | None = None,
    refolded: int | None = None,
) -> KeyChange:
    """The change that a finished fold makes of a stored position; the laws are asserted before anything is written."""
    assert_identity(state, rules.instrument)
    assert_leg(state, rules.leg)
    has_stopped = fold.stopped_at is not None
    return KeyChange(
        key=stored.key,
        expected_version=stored.version,
        state=state,
        cause=cause.name,
        cause_id=cause.id,
        fill_ids=cause.fill_ids,
        fill_count=cause.fill_count,
        since_checkpoint=stored.since_checkpoint if has_stopped else fold.since_checkpoint,
        trips=trips,
        replace_trips_from=replaces_from,
        replace_trips_until=fold.stopped_at[0] if fold.stopped_at is not None else None,
        checkpoints=taken,
        replace_checkpoints_from=drops_checkpoints_from,
        old_lots=stored.state.lots,
        clears_stale=None if stored.stale is None else stored.stale.touch,
        unparks=_unparked(stored, fold),
        effective_reports=frozenset(fold.effective_reports),
        refolded=refolded,
    )


def _unparked(stored: StoredPosition, fold: Fold) -> str | None:
    parked = stored.parked
    return parked.entry_id if parked is not None and parked.entry_id in fold.effective_reports else None
