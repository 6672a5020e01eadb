"""The fold: entries in order become a position, its lots and its round trips, by both methods at once.

Problem: rebuilds fold millions of entries, so a step may cost a microsecond or two; yet every figure must be exact and
the weighted average and the lots must be kept side by side. Example: +1 @50000 then SELL 3 @51000 closes one trip
(gross +1000), opens another (-2 @51000), and splits the fee 5 / 10.

Choice: one mutable `Fold` per key and pass, fed with bare tuples. The two cases that make up nearly all of a long
history, an increase and a reduction that leaves something, are written out in one loop; turning points (opening,
closing, flips) and rare entries are methods. Costs are kept *before scale* (linear: points x quantity; the multiplier
is applied once per trip), the rounded average is worked out only when a reduction needs it, and figures are added up
per trip (`TripInProgress`), so lifetime sums are touched once per trip. Frozen values go in and come out.
Rejected: a frozen value per step (five times slower), and scaled integers (no faster than `decimal`'s C code once
averages with 18 places enter the costs).

The sign convention: quantity and cost have the sign of the holding. A part of a fill that reduces has a value v of
the other sign; relieving cost r, it realizes sign x scale x (-v - r), where sign is -1 for inverse instruments.
"""

from __future__ import annotations

import decimal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from steelyard.accounting.entries import Entry
from steelyard.accounting.instruments import Instrument, InstrumentKind, value_of
from steelyard.accounting.keys import Leg, OrderKey
from steelyard.accounting.lots import LotMethod, LotPile
from steelyard.accounting.position import EMPTY, FoldState
from steelyard.accounting.round_trips import NO_SUMS, FlatPoint, RoundTrip, RunningSums, Sums
from steelyard.accounting.trip_in_progress import TripInProgress
from steelyard.accounting.units import EXACT, ZERO, fee_share
from steelyard.accounting.venue_report import replaces_average

CHECKPOINT_EVERY = 1_000
"""Entries between two checkpoints of a stretch that never comes back to flat."""


@dataclass(frozen=True, slots=True)
class FoldRules:
    """What a key's fold depends on besides its entries."""

    instrument: Instrument
    leg: Leg
    lot_method: LotMethod = LotMethod.FIFO


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state inside an open trip after an entry; `state.settled` is empty, since sums are kept per trip."""

    state: FoldState

    @property
    def order(self) -> OrderKey:
        """The entry after which it was taken."""
        assert self.state.last is not None
        return self.state.last


class Fold:
    """Folds one key. Feed it entries in fold order, drain what is finished, ask for the state."""

    __slots__ = (
        "_checkpoints",
        "_every",
        "_flip_part",
        "_instrument",
        "_last",
        "_last_fill_at",
        "_leg",
        "_long_pile",
        "_settled",
        "_short_pile",
        "_since_checkpoint",
        "_stop_at",
        "_trip",
        "_trips",
        "count",
        "effective_reports",
        "stopped_at",
    )

    def __init__(
        self,
        rules: FoldRules,
        state: FoldState = EMPTY,
        *,
        checkpoint_every: int = CHECKPOINT_EVERY,
        stop_at: frozenset[FlatPoint] = frozenset(),
        flip_part: Decimal | None = None,
        since_checkpoint: int = 0,
    ) -> None:
        """`flip_part`: the fold restarts inside a flip, so the first entry counts with this signed quantity only.
        `since_checkpoint`: entries folded between the last checkpoint (or flat point) and `state`."""
        self._instrument = rules.instrument
        self._leg = rules.leg
        self._every = checkpoint_every
        self._stop_at = stop_at
        self._flip_part = flip_part
        self.stopped_at: FlatPoint | None = None
        """Where the fold met a known flat point and stopped; the entries from there on were not folded."""
        self.count = 0
        """Entries folded so far."""
        self.effective_reports: set[str] = set()
        """Ids of venue reports that changed something at their place; the others left no trace."""
        self._settled = RunningSums(state.settled)
        self._trip: TripInProgress | None = None
        with decimal.localcontext(EXACT):
            is_long = state.quantity > 0
            self._long_pile = LotPile(rules.lot_method, is_long=True, lots=state.lots if is_long else ())
            self._short_pile = LotPile(rules.lot_method, is_long=False, lots=() if is_long else state.lots)
            if state.trip is not None:
                pile = self._long_pile if state.trip.is_long else self._short_pile
                self._trip = TripInProgress.resume(state.trip, state, instrument=rules.instrument, pile=pile)
        self._last: tuple[datetime, int, str] | None = state.last
        self._last_fill_at = state.last_fill_at
        self._trips: list[RoundTrip] = []
        self._checkpoints: list[Checkpoint] = []
        self._since_checkpoint = since_checkpoint

    @property
    def since_checkpoint(self) -> int:
        """Entries folded since the last checkpoint or flat point: for the fold that goes on from this state."""
        return self._since_checkpoint

    @property
    def average(self) -> Decimal | None:
        """The weighted average of what is held, 18 places; None when flat."""
        with decimal.localcontext(EXACT):
            return None if self._trip is None else self._trip.current_average()

    def feed(self, entries: Iterable[Entry]) -> bool:
        """Folds entries, which must continue in fold order; True once a flat point of `stop_at` was met."""
        with decimal.localcontext(EXACT):
            waiting = iter(entries)
            if self._flip_part is not None:
                self._restart_inside_flip(waiting)
            if self.stopped_at is None:
                self._fold(waiting)
        return self.stopped_at is not None

    def drain(self) -> tuple[list[RoundTrip], list[Checkpoint]]:
        """Trips that can change no more, and checkpoints, since the last drain; the newest trip is in the state."""
        trips, checkpoints = self._trips, self._checkpoints
        self._trips, self._checkpoints = [], []
        return trips, checkpoints

    def state(self) -> FoldState:
        """The state after the entries fed so far."""
        with decimal.localcontext(EXACT):
            return self._snapshot(self._settled.total())

    def _snapshot(self, settled: Sums) -> FoldState:
        last = None if self._last is None else OrderKey(*self._last)
        trip = self._trip
        if trip is None:
            return FoldState(settled=settled, last=last, last_fill_at=self._last_fill_at)
        return FoldState(
            quantity=trip.held,
            cost_average=trip.cost_average,
            average=trip.current_average(),
            cost_lots=trip.cost_lots,
            lots=trip.pile.lots(),
            settled=settled,
            trip=trip.freeze(last=last),
            last=last,
            last_fill_at=self._last_fill_at,
        )

    def _take_checkpoint(self, trip: TripInProgress, entry: Entry) -> None:
        self._last = entry[:3]
        self._checkpoints.append(Checkpoint(self._snapshot(NO_SUMS)))
        # A pile of lots is written whole: the next one waits until as many entries went by as it has lots.
        self._since_checkpoint = min(0, self._every - len(trip.pile.items))

    # -- the loop ------------------------------------------------------------------------------------------------

    def _fold(self, entries: Iterator[Entry]) -> None:
        """Increases and reductions are written out here, since millions of them are folded; the rest are methods."""
        instrument, is_linear = self._instrument, self._instrument.kind is InstrumentKind.LINEAR
        trip, since, last, count, every = self._open_trip(), self._since_checkpoint, None, self.count, self._every
        for entry in entries:
            at, sequence, entry_id, kind, quantity, price, fee, currency, unvalued = entry
            if (
                trip is None
                or kind != "FILL"
                or quantity is None
                or price is None
                or not (rest := trip.held + quantity)
                or (rest > ZERO) is not trip.is_long
            ):
                self._since_checkpoint = since
                has_effect = self._turn(entry)
                if self.stopped_at is not None:
                    break
                if not has_effect:
                    continue
                trip, since = self._open_trip(), self._since_checkpoint
            else:
                value = quantity * price if is_linear else value_of(instrument, quantity, price)
                if (quantity > ZERO) is trip.is_long:
                    trip.entered_quantity += quantity
                    trip.entered_value += value
                    trip.entering_fees += fee
                    trip.average_is_stale = True
                    trip.pile.add([quantity, price, quantity, at, sequence, entry_id])
                else:
                    if trip.average_is_stale:
                        trip.settle_increases()
                    trip.exited_value += value
                    trip.reducing_fees += fee
                    trip.relieve(quantity)
                trip.held = rest
                trip.fill_count += 1
                if currency is not None and unvalued is not None:
                    trip.set_aside(currency, unvalued)
                self._last_fill_at = at
            last = entry
            count += 1
            since += 1
            if since >= every and trip is not None:
                self._take_checkpoint(trip, entry)
                since = self._since_checkpoint
        if last is not None:
            self._last, self.count, self._since_checkpoint = last[:3], count, since

    def _open_trip(self) -> TripInProgress | None:
        """The trip under way; None while flat."""
        return self._trip if self._trip is not None and self._trip.held else None

    # -- turning points ------------------------------------------------------------------------------------------

    def _turn(self, entry: Entry) -> bool:
        """An entry that opens, closes or flips, or is no fill; False: a venue's report that changes nothing."""
        kind = entry.kind
        if kind == "FILL":
            trip = self._open_trip()
            if trip is None:
                self._begin(entry)
            else:
                self._close(trip, entry)
            if self.stopped_at is None:
                self._last_fill_at = entry.executed_at
        elif kind == "FUNDING":
            self._fund(entry.fee)
        elif kind == "VENUE":
            return self._report(entry)
        else:
            self._adjust(entry.order, quantity=entry.quantity, average=entry.price)
        return True

    def _begin(self, entry: Entry) -> None:
        """A fill that meets a flat position: it opens a trip, or is unmatched on a leg that it cannot open."""
        quantity, price = _quantity_and_price(entry)
        if (self._leg is Leg.LONG and quantity < 0) or (self._leg is Leg.SHORT and quantity > 0):
            self._keep_unmatched(quantity, fee=entry.fee, fills=1)
        else:
            trip = self._open(entry.order, quantity=quantity, price=price)
            if trip is None:
                return
            trip.entering_fees += entry.fee
            trip.fill_count += 1
        if entry.unvalued_currency is not None and entry.unvalued_fee is not None:
            self._set_aside(entry.unvalued_currency, entry.unvalued_fee)

    def _open(self, order: OrderKey, *, quantity: Decimal, price: Decimal) -> TripInProgress | None:
        """Begins a trip at a flat point; None where that flat point is one to stop at."""
        if self._trip is not None:
            finished = self._trip.freeze()
            self._trip = None
            self._trips.append(finished)
            self._settled.add(finished.sums)
        if self._stop_at and (order, quantity) in self._stop_at:
            self.stopped_at = (order, quantity)
            return None
        pile = self._long_pile if quantity > ZERO else self._short_pile
        trip = self._trip = TripInProgress(self._instrument, pile, opened=order, quantity=quantity)
        trip.held = trip.entered_quantity = quantity
        trip.entered_value = value_of(self._instrument, quantity, price)
        trip.average_is_stale = True
        pile.add([quantity, price, quantity, *order])
        self._since_checkpoint = 0
        return trip

    def _close(self, trip: TripInProgress, entry: Entry) -> None:
        """A fill as large as the holding or larger: the rest flips, or is unmatched on a leg."""
        quantity, price = _quantity_and_price(entry)
        order, fee, currency, unvalued = entry.order, entry.fee, entry.unvalued_currency, entry.unvalued_fee
        part = -trip.held
        rest = quantity - part
        closing_fee = fee_share(fee, part, quantity) if rest else fee
        trip.close(order, value=value_of(self._instrument, part, price), fee=closing_fee)
        if currency is not None and unvalued is not None:
            share = fee_share(unvalued, part, quantity) if rest else unvalued
            trip.set_aside(currency, share)
            unvalued -= share
        if not rest:
            return
        if self._leg is not Leg.NET:
            self._keep_unmatched(rest, fee=fee - closing_fee, fills=0)
        else:
            opened = self._open(order, quantity=rest, price=price)
            if opened is None:
                return
            opened.is_flip = True
            opened.entering_fees += fee - closing_fee
        if currency is not None and unvalued:
            self._set_aside(currency, unvalued)

    def _restart_inside_flip(self, entries: Iterator[Entry]) -> None:
        """Opens with the opening part of the first entry, whose closing part was folded before."""
        flip, part = next(entries, None), self._flip_part
        if flip is None or part is None:
            return
        self._flip_part = None
        quantity, price = _quantity_and_price(flip)
        trip = self._open(flip.order, quantity=part, price=price)
        if trip is None:
            return
        trip.is_flip = True
        trip.entering_fees += flip.fee - fee_share(flip.fee, quantity - part, quantity)
        if flip.unvalued_currency is not None and flip.unvalued_fee is not None:
            share = fee_share(flip.unvalued_fee, quantity - part, quantity)
            trip.set_aside(flip.unvalued_currency, flip.unvalued_fee - share)
        self._last, self._last_fill_at = flip[:3], flip.executed_at
        self._since_checkpoint += 1
        self.count += 1

    # -- what belongs to the current, else the last trip, else to the time before the first ---------------------------

    def _keep_unmatched(self, excess: Decimal, *, fee: Decimal, fills: int) -> None:
        if self._trip is not None:
            self._trip.entering_fees += fee
            self._trip.fill_count += fills
            self._trip.unmatched += abs(excess)
        else:
            self._settled.add(Sums(fees=fee, fill_count=fills, unmatched=abs(excess)))

    def _set_aside(self, currency: str, unvalued: Decimal) -> None:
        if self._trip is not None:
            self._trip.set_aside(currency, unvalued)
        else:
            self._settled.add(Sums(unvalued_fees=((currency, unvalued),)))

    def _fund(self, amount: Decimal) -> None:
        if self._trip is not None:
            self._trip.funding += amount
        else:
            self._settled.add(Sums(funding=amount))

    # -- adjustments ---------------------------------------------------------------------------------------------

    def _report(self, entry: Entry) -> bool:
        """Takes a venue's word at its time, the average only where it differs enough; False: nothing to change."""
        trip, average = self._open_trip(), entry.price
        held = ZERO if trip is None else trip.held
        quantity = held if entry.quantity is None else entry.quantity
        if trip is not None and quantity and (quantity > ZERO) is trip.is_long:
            current = trip.current_average()
            if average is not None and current is not None and not replaces_average(stored=current, reported=average):
                average = None
            has_effect = quantity != held or average is not None
        else:
            has_effect = quantity != held and (average is not None or not quantity)
        if has_effect:
            self.effective_reports.add(entry.entry_id)
            self._adjust(entry.order, quantity=entry.quantity, average=average)
        return has_effect

    def _adjust(self, order: OrderKey, *, quantity: Decimal | None, average: Decimal | None) -> None:
        """Sets quantity and/or average at its time; a change of sign closes one trip and opens another."""
        trip = self._open_trip()
        if quantity is None:
            quantity = ZERO if trip is None else trip.held
        if trip is not None and quantity and (quantity > ZERO) is trip.is_long:
            trip.set_holding(order, quantity=quantity, average=average)
        elif not quantity or average is not None:
            if trip is not None:
                trip.remove_holding(order)
            if quantity and average is not None:
                opened = self._open(order, quantity=quantity, price=average)
                if opened is not None:
                    opened.is_adjusted = True


def _quantity_and_price(fill: Entry) -> tuple[Decimal, Decimal]:
    assert fill.quantity is not None
    assert fill.price is not None
    return fill.quantity, fill.price
