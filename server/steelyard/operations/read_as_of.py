"""What a position was at a time, by what was known at a time: a fold of entries, begun as late as may be.

Problem: a year of entries lies behind a question, and its answer has to be exact for any pair of times. What is stored
(trips, checkpoints) is what is known *now*.
Choice: whatever changed a key's past left a note from when on it did (`past_changes`). Before the earliest change since
`known_at` all is now as it was known then, so the newest trip or checkpoint there is a legal start, if its own entry
was known by then: entries in order become known in order, so that place is found by halving. Sums before it are the
lifetime less those of later trips, or those of earlier trips where these are fewer. From there on only the entries
known by then are folded, in the revisions of then.
Rejected: states by (time, knowledge), which each correction would have to close one by one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from steelyard.accounting.checkpoints import RefoldStart, start_from_nothing
from steelyard.accounting.entries import EARLIEST, Entry
from steelyard.accounting.errors import InvalidField, NotFound
from steelyard.accounting.fold import Checkpoint, FoldRules
from steelyard.accounting.keys import Account, OrderKey, PositionKey
from steelyard.accounting.marks import MarkState
from steelyard.accounting.position import FoldState, assert_identity, assert_leg
from steelyard.accounting.round_trips import CostMethod, RoundTrip, Sums
from steelyard.operations.ports import Clock, StoredPosition
from steelyard.operations.position_view import PositionRow, PositionView
from steelyard.operations.reading import AS_IT_IS, Answer, Freshness, Heads, Reading, Snapshot

LAST_SEQUENCE = 2**31 - 1
LAST_ID = "~" * 129
FIRST_STEP = timedelta(hours=1)
PROBES_MAX = 40
"""Places looked at until a start is found that was known; halving a year to seconds takes 25."""
AHEAD = timedelta(days=1)
"""Nothing was known of what was executed later than this after the moment of knowing (5 minutes, and wrong clocks)."""


@dataclass(frozen=True, slots=True)
class KeyNow:
    """A key as it is stored now, and up to where that is what was known then."""

    stored: StoredPosition
    """Without its open lots; version 0 where nothing was folded yet."""
    rules: FoldRules
    cost_method: CostMethod
    known_seq: int
    """The newest commit that counts; 0: none does."""
    is_newest: bool
    """Whether that is the newest commit of all."""
    changed_from: datetime | None
    """The earliest time from which on entries may have been others; None: all are as they were."""


@dataclass(frozen=True, slots=True)
class StartPlace:
    """A place where a fold may begin: the opening of a trip, or a checkpoint."""

    place: OrderKey
    is_known: bool
    """Whether its entry was known by then."""


class KeyHistory(Protocol):
    """What one snapshot tells of a key. `known_seq` bounds what counts."""

    async def now(self, *, known_at: datetime | None) -> KeyNow | None:
        """The key as it is stored; None where it never had an entry."""
        ...

    async def start_before(self, place: OrderKey, *, known_seq: int) -> StartPlace | None:
        """The newest place before another one where a fold may begin."""
        ...

    async def last_trip_opened_before(self, place: OrderKey) -> RoundTrip | None:
        """The newest stored trip opened strictly before a place."""
        ...

    async def checkpoint_before(self, place: OrderKey) -> Checkpoint | None:
        """The newest stored checkpoint strictly before a place."""
        ...

    async def last_fill_at(self, place: OrderKey) -> datetime | None:
        """When the newest live fill strictly before a place was executed."""
        ...

    async def sums_from(self, place: OrderKey) -> Sums:
        """What the trips opened at or after a place add up to."""
        ...

    async def sums_before(self, place: OrderKey) -> Sums:
        """What the trips opened strictly before a place add up to."""
        ...

    async def first_opening(self) -> OrderKey | None:
        """The place of the opening of the first stored trip."""
        ...

    def entries(
        self, *, start: OrderKey | None, is_inclusive: bool, end: OrderKey | None, known_seq: int | None
    ) -> AsyncIterator[Sequence[Entry]]:
        """Entries in fold order up to `end`, as known by a commit (None: as known now)."""
        ...


class HistoryStore(Protocol):
    """Opens snapshots."""

    def snapshot(
        self, key: PositionKey, *, heads: Collection[Account]
    ) -> AbstractAsyncContextManager[tuple[KeyHistory, Heads]]:
        """One consistent read of a key, and the heads of accounts that it sees."""
        ...


@dataclass(frozen=True, slots=True)
class PositionAsOf:
    """What a position was."""

    view: PositionView
    known_seq: int
    folded: int
    """Entries folded to find it."""


class ReadAsOf:
    """Answers what a position was."""

    def __init__(self, store: HistoryStore, reading: Reading, *, clock: Clock) -> None:
        self._store = store
        self._reading = reading
        self._clock = clock

    async def get(
        self,
        key: PositionKey,
        *,
        as_of: datetime | None = None,
        known_at: datetime | None = None,
        freshness: Freshness = AS_IT_IS,
    ) -> Answer[PositionAsOf]:
        """The position at `as_of` (None: with all that was executed), by what was known at `known_at` (None: now).

        Both instants count themselves. Raises `NotFound` where the key never had an entry, `InvalidField` for a
        `known_at` that lies in the future.
        """
        now = self._clock()
        if known_at is not None and known_at > now:
            raise InvalidField("known_at", "lies in the future")

        async def ask(heads: Collection[Account]) -> Snapshot[PositionAsOf]:
            async with self._store.snapshot(key, heads=heads) as (history, seen):
                found = await _position_as_of(history, key, as_of=as_of, known_at=known_at, now=now)
                return Snapshot(found, seen)

        return await self._reading.answer(ask, accounts=(key.account,), freshness=freshness)


async def _position_as_of(
    history: KeyHistory, key: PositionKey, *, as_of: datetime | None, known_at: datetime | None, now: datetime
) -> PositionAsOf:
    found = await history.now(known_at=known_at)
    if found is None:
        raise NotFound("position", "/".join(key))
    end = _end(as_of, known_at=None if found.is_newest else known_at)
    state, folded = await _state(history, found, end=end)
    told_at = min((at for at in (as_of, known_at) if at is not None), default=now)
    row = _row(key, state, found=found, at=told_at)
    return PositionAsOf(PositionView(row, told_at, MarkState.MISSING), found.known_seq, folded)


def _end(as_of: datetime | None, *, known_at: datetime | None) -> OrderKey | None:
    """The last place that may count."""
    times = [at for at in (as_of, known_at + AHEAD if known_at is not None else None) if at is not None]
    return OrderKey(min(times), LAST_SEQUENCE, LAST_ID) if times else None


async def _state(history: KeyHistory, found: KeyNow, *, end: OrderKey | None) -> tuple[FoldState, int]:
    stored = found.stored.state
    is_as_stored = found.is_newest and found.changed_from is None and found.stored.version > 0
    if is_as_stored and (end is None or stored.last is None or stored.last <= end):
        return stored, 0
    if not found.known_seq:
        return FoldState(), 0
    start = await _start(history, found, end=end)
    fold = start.fold(found.rules)
    seq = None if found.is_newest else found.known_seq
    async for batch in history.entries(start=start.from_order, is_inclusive=start.inclusive, end=end, known_seq=seq):
        fold.feed(batch)
    state = fold.state()
    assert_identity(state, found.rules.instrument)
    assert_leg(state, found.rules.leg)
    return state, fold.count


async def _start(history: KeyHistory, found: KeyNow, *, end: OrderKey | None) -> RefoldStart:
    bounds = [end] if end is not None else []
    if found.changed_from is not None:
        bounds.append(OrderKey(found.changed_from, -LAST_SEQUENCE - 1, ""))
    bound = min(bounds, default=OrderKey(datetime.max.replace(tzinfo=EARLIEST.tzinfo), LAST_SEQUENCE, LAST_ID))
    place = await _newest_known_start(history, bound, found=found)
    if place is None or not found.stored.version:
        return start_from_nothing()
    behind = place._replace(entry_id=place.entry_id + " ")
    trip = await history.last_trip_opened_before(behind)
    assert trip is not None
    settled = await _settled_before(history, found, place=trip.opened)
    if trip.opened != place:
        taken = await history.checkpoint_before(behind)
        assert taken is not None
        return RefoldStart(
            replace(taken.state, settled=settled), None, taken.order, inclusive=False, replaces_from=None
        )
    return await _at_trip(history, trip, settled=settled)


async def _settled_before(history: KeyHistory, found: KeyNow, *, place: OrderKey) -> Sums:
    """What all that came before the opening of a trip adds up to, from the side with fewer trips, judged by time."""
    stored, first = found.stored.state, await history.first_opening()
    assert first is not None
    newest = stored.last or place
    if newest.executed_at - place.executed_at <= place.executed_at - first.executed_at:
        return stored.lifetime.minus(await history.sums_from(place))
    # Before the first trip there may be funding, or what a leg could not match: entries without a trip, mostly none.
    fold = start_from_nothing().fold(found.rules)
    async for batch in history.entries(start=None, is_inclusive=True, end=first, known_seq=None):
        fold.feed([entry for entry in batch if entry[:3] < first])
    return fold.state().lifetime.plus(await history.sums_before(place))


async def _at_trip(history: KeyHistory, trip: RoundTrip, *, settled: Sums) -> RefoldStart:
    """Begins at the flat point before a trip."""
    previous = await history.last_trip_opened_before(trip.opened)
    state = FoldState(settled=settled, last_fill_at=await history.last_fill_at(trip.opened))
    if previous is not None:
        state = replace(state, settled=settled.minus(previous.sums), trip=previous, last=previous.last)
    flip_part = trip.opening_quantity if trip.is_flip else None
    return RefoldStart(state, flip_part, trip.opened, inclusive=True, replaces_from=None)


async def _newest_known_start(history: KeyHistory, bound: OrderKey, *, found: KeyNow) -> OrderKey | None:
    """The newest start before a place that was known by then, or one close to it; None: there is none."""
    known_seq = found.known_seq
    start = await history.start_before(bound, known_seq=known_seq)
    if start is None or start.is_known or found.is_newest:
        return None if start is None else start.place
    unknown, step, best = start.place, FIRST_STEP, None
    for _ in range(PROBES_MAX):
        if best is not None:
            at = best.executed_at + (unknown.executed_at - best.executed_at) / 2
        elif unknown.executed_at - EARLIEST < step:
            return None
        else:
            at, step = unknown.executed_at - step, 2 * step
        start = await history.start_before(OrderKey(at, LAST_SEQUENCE, LAST_ID), known_seq=known_seq)
        if start is None or start.place == best:
            return best
        if start.is_known:
            best = start.place
        else:
            unknown = start.place
    return best


def _row(key: PositionKey, state: FoldState, *, found: KeyNow, at: datetime) -> PositionRow:
    return PositionRow(
        key=key,
        instrument=found.rules.instrument,
        cost_method=found.cost_method,
        version=0,
        quantity=state.quantity,
        cost_average=state.cost_average,
        average_price=state.average,
        cost_lots=state.cost_lots,
        lifetime=state.lifetime,
        trip=state.trip,
        opened_at=state.opened_at,
        closed_at=state.closed_at,
        last_fill_at=state.last_fill_at,
        created_at=at,
        updated_at=at,
    )
