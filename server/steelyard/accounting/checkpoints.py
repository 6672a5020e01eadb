"""Planning a refold: where to start after a late entry or a correction, and where to stop early.

Problem: a fill arrives late, or one is amended or busted. Everything before the first changed entry stays as it is, so
folding must begin somewhere before it, not at the beginning of time; and where the new history meets a flat point of
the old one, behind the last changed entry, all that follows is the same again.
Example: trips 1 to 900 are stored and a fill belongs into trip 898. The fold starts at the opening of trip 898 with
what was settled before it, and stops at the opening of 899 if that is opened by the same entry with the same quantity.

Choice: lifetime sums are those of the trips (and of what came before the first one), so what was settled before a trip
is the lifetime less the sums of that trip and of all later ones. Flat points thus need no state of their own; only
inside a long open trip are states kept as they are (`Checkpoint`).
Rejected: storing lifetime sums with every trip and checkpoint; one late fill would then change all rows after it.

The start is the last trip *opened* before the first change: what happens between two trips (funding, the unmatched
excess of a leg) belongs to the earlier one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from steelyard.accounting.errors import InvariantBroken
from steelyard.accounting.fold import Checkpoint, Fold, FoldRules
from steelyard.accounting.keys import OrderKey
from steelyard.accounting.position import EMPTY, FoldState
from steelyard.accounting.round_trips import FlatPoint, RoundTrip, Sums, added


@dataclass(frozen=True, slots=True)
class RefoldStart:
    """Where a refold begins and what it begins with."""

    state: FoldState
    flip_part: Decimal | None
    """Set where it begins inside a flip: the first entry counts with this signed quantity only."""
    from_order: OrderKey | None
    """The first entry to fold; None: from the very first."""
    inclusive: bool
    """Whether the entry at `from_order` is folded itself, or was the last one folded."""
    replaces_from: OrderKey | None
    """Stored trips opened at or after this one (and before the flat point where the fold stops) are replaced by those
    that the fold gives; None: all of them."""

    def fold(self, rules: FoldRules, *, stop_at: frozenset[FlatPoint] = frozenset(), since_checkpoint: int = 0) -> Fold:
        """The fold that begins here."""
        return Fold(rules, self.state, stop_at=stop_at, flip_part=self.flip_part, since_checkpoint=since_checkpoint)


def start_from_nothing() -> RefoldStart:
    """Begins with the very first entry."""
    return RefoldStart(EMPTY, None, None, inclusive=True, replaces_from=None)


def start_at_trip(
    total: FoldState,
    trips_from: Sequence[RoundTrip],
    *,
    previous: RoundTrip | None,
    last_fill_at: datetime | None = None,
) -> RefoldStart:
    """Begins at the flat point before a trip that was opened before the first change.

    `total` is the state as it is stored; `trips_from` are all stored trips from the start trip on, in order, the
    current or last one included; `previous` is the one before them, None where the start trip is the first of all.
    `last_fill_at` is the time of the newest fill before the start trip; it matters only where no fill is left from
    there on. Left out, the closing of an unadjusted previous trip is taken.
    """
    first = trips_from[0]
    _check_newest(total, trips_from)
    settled = total.lifetime.minus(_sums_of(trips_from))
    if previous is None:
        state = FoldState(settled=settled, last_fill_at=last_fill_at)
    else:
        known = None if previous.is_adjusted else previous.closed_at
        state = FoldState(
            settled=settled.minus(previous.sums),
            trip=previous,
            last=previous.last,
            last_fill_at=known if last_fill_at is None else last_fill_at,
        )
    return RefoldStart(
        state,
        first.opening_quantity if first.is_flip else None,
        first.opened,
        inclusive=True,
        replaces_from=first.opened if previous is None else previous.opened,
    )


def start_at_checkpoint(total: FoldState, checkpoint: Checkpoint, *, trips_from: Sequence[RoundTrip]) -> RefoldStart:
    """Begins after the entry of a checkpoint that lies before the first change.

    `trips_from` are all stored trips from the checkpoint's own on, in order, the current or last one included.
    Raises `InvariantBroken` where the checkpoint lies in another trip.
    """
    inside = checkpoint.state.trip
    if inside is None or not trips_from or trips_from[0].opened != inside.opened:
        raise InvariantBroken("the checkpoint does not lie in the first of these trips")
    _check_newest(total, trips_from)
    settled = total.lifetime.minus(_sums_of(trips_from))
    return RefoldStart(
        replace(checkpoint.state, settled=settled),
        None,
        checkpoint.order,
        inclusive=False,
        replaces_from=inside.opened,
    )


def choose_start(
    total: FoldState,
    *,
    first_change: OrderKey,
    trips_from: Sequence[RoundTrip],
    previous: RoundTrip | None = None,
    checkpoint: Checkpoint | None = None,
    last_fill_at: datetime | None = None,
) -> RefoldStart:
    """The latest legal start for a change at `first_change`: a checkpoint inside the start trip, else that trip.

    `trips_from` begins with the last trip opened before the change; where there is none it is empty, and the fold
    begins from nothing. A checkpoint that does not lie in that trip and before the change is passed over.
    """
    if not trips_from or trips_from[0].opened >= first_change:
        return start_from_nothing()
    if checkpoint is not None and checkpoint.order < first_change:
        inside = checkpoint.state.trip
        if inside is not None and inside.opened == trips_from[0].opened:
            return start_at_checkpoint(total, checkpoint, trips_from=trips_from)
    return start_at_trip(total, trips_from, previous=previous, last_fill_at=last_fill_at)


def stop_points(trips: Iterable[RoundTrip], *, after: OrderKey) -> frozenset[FlatPoint]:
    """The flat points of stored trips opened strictly behind the last changed entry: where a refold may stop.

    A trip without any fill (opened and closed by adjustments) is none: the time of the position's newest fill might
    lie before it.
    """
    return frozenset(trip.flat_point for trip in trips if trip.opened > after and trip.fill_count)


def finish(total: FoldState, fold: Fold, *, trips_from: Sequence[RoundTrip]) -> FoldState:
    """The state after a refold that may have stopped early.

    `total` and `trips_from` are what was stored before (at least the trips from the stop points on). Where the fold
    ran to the end its own state is the answer. Where it met a flat point, everything from there on is as stored, and
    what was settled before the current trip is what the fold has settled plus the stored trips in between.
    """
    state = fold.state()
    if fold.stopped_at is None:
        return state
    opened = fold.stopped_at[0]
    unchanged = [trip for trip in trips_from if trip.opened >= opened]
    if not unchanged or unchanged[0].opened != opened:
        raise InvariantBroken("the fold stopped at a flat point that is not among the stored trips")
    _check_newest(total, unchanged)
    return replace(total, settled=state.settled.plus(_sums_of(unchanged[:-1])))


def _check_newest(total: FoldState, trips: Sequence[RoundTrip]) -> None:
    if total.trip is None or trips[-1].opened != total.trip.opened:
        raise InvariantBroken("the last of the stored trips is not that of the position")


def _sums_of(trips: Iterable[RoundTrip]) -> Sums:
    return added([trip.sums for trip in trips])
