"""The fold: entries in order become a position, its lots and its round trips, by both methods at once.

Problem: rebuilds fold millions of entries, so a step may cost a microsecond or two; yet every figure must be exact and
the weighted average and the lots must be kept side by side. Example: +1 @50000 then SELL 3 @51000 closes one trip
(gross +1000), opens another (-2 @51000), and splits the fee 5 / 10.

Choice: one mutable `Fold` per key and pass, fed with bare tuples, that keeps costs *before scale* (linear: points x
quantity; the multiplier is applied once per trip), works the rounded average out only when a reduction needs it, and
adds up per trip, so lifetime sums are touched once per trip. Frozen values go in and come out.
Rejected: a frozen value per step (five times slower), and scaled integers (no faster than `decimal`'s C code once
averages with 18 places enter the costs).

The sign convention: quantity and cost have the sign of the holding. A part of a fill that reduces by `part` (signed
against the holding) at a price has value v; relieving cost r, it realizes sign x scale x (-v - r), where sign is -1
for inverse instruments.
"""

from __future__ import annotations

import decimal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from steelyard.accounting.entries import Entry
from steelyard.accounting.instruments import Instrument, InstrumentKind, average_price, value_of
from steelyard.accounting.keys import Leg, OrderKey
from steelyard.accounting.lots import LotMethod, LotPile
from steelyard.accounting.position import EMPTY, FoldState
from steelyard.accounting.round_trips import NO_SUMS, FlatPoint, RoundTrip, Sums
from steelyard.accounting.trip_in_progress import TripInProgress
from steelyard.accounting.units import EXACT, ZERO, fee_share
from steelyard.accounting.venue_report import replaces_average

CHECKPOINT_EVERY = 4_000
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
        "_average",
        "_average_is_stale",
        "_checkpoints",
        "_cost_average",
        "_cost_lots",
        "_every",
        "_flip_part",
        "_instrument",
        "_is_linear",
        "_last",
        "_last_fill_at",
        "_leg",
        "_lot_method",
        "_pile",
        "_quantity",
        "_settled",
        "_since_checkpoint",
        "_stop_at",
        "_trip",
        "_trips",
        "count",
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
    ) -> None:
        """`flip_part`: the fold restarts inside a flip, so the first entry counts with this signed quantity only."""
        self._instrument = rules.instrument
        self._is_linear = rules.instrument.kind is InstrumentKind.LINEAR
        self._leg = rules.leg
        self._lot_method = rules.lot_method
        self._every = checkpoint_every
        self._stop_at = stop_at
        self._flip_part = flip_part
        self.stopped_at: FlatPoint | None = None
        """Where the fold met a known flat point and stopped; the entries from there on were not folded."""
        self.count = 0
        """Entries folded so far."""
        self._quantity = state.quantity
        self._cost_average = state.cost_average
        self._average = state.average
        self._average_is_stale = False
        self._cost_lots = state.cost_lots
        self._pile = LotPile(rules.lot_method, is_long=state.quantity > 0, lots=state.lots)
        self._settled = state.settled
        with decimal.localcontext(EXACT):
            self._trip = None if state.trip is None else TripInProgress.resume(state.trip)
        self._last: tuple[datetime, int, str] | None = state.last
        self._last_fill_at = state.last_fill_at
        self._trips: list[RoundTrip] = []
        self._checkpoints: list[Checkpoint] = []
        self._since_checkpoint = 0

    def feed(self, entries: Iterable[Entry]) -> bool:
        """Folds entries, which must continue in fold order; True once a flat point of `stop_at` was met."""
        with decimal.localcontext(EXACT):
            if self._flip_part is not None:
                entries = self._restart_inside_flip(iter(entries))
            for at, sequence, entry_id, kind, quantity, price, fee, currency, unvalued in entries:
                if kind == "FILL":
                    self._fill(at, sequence, entry_id, quantity, price, fee, currency, unvalued)
                    self._last_fill_at = at
                elif kind == "FUNDING":
                    self._fund(fee)
                else:
                    self._adjust(OrderKey(at, sequence, entry_id), kind, quantity, price)
                if self.stopped_at is not None:
                    return True
                self._last = (at, sequence, entry_id)
                self.count += 1
                self._since_checkpoint += 1
                if self._since_checkpoint >= self._every and self._quantity:
                    self._take_checkpoint()
        return False

    def drain(self) -> tuple[list[RoundTrip], list[Checkpoint]]:
        """Trips that can change no more, and checkpoints, since the last drain; the newest trip is in the state."""
        trips, checkpoints = self._trips, self._checkpoints
        self._trips, self._checkpoints = [], []
        return trips, checkpoints

    def state(self) -> FoldState:
        """The state after the entries fed so far."""
        with decimal.localcontext(EXACT):
            return self._snapshot(self._settled)

    def _snapshot(self, settled: Sums) -> FoldState:
        last = None if self._last is None else OrderKey(*self._last)
        trip = self._trip
        return FoldState(
            quantity=self._quantity,
            cost_average=self._cost_average,
            average=self._current_average(),
            cost_lots=self._cost_lots,
            lots=self._pile.lots(),
            settled=settled,
            trip=None if trip is None else trip.freeze(self._instrument, held=self._quantity, last=last),
            last=last,
            last_fill_at=self._last_fill_at,
        )

    def _take_checkpoint(self) -> None:
        self._checkpoints.append(Checkpoint(self._snapshot(NO_SUMS)))
        # A pile of lots is written whole: the next one waits until as many entries went by as it has lots.
        self._since_checkpoint = min(0, self._every - len(self._pile.items))

    # -- fills ---------------------------------------------------------------------------------------------------

    def _fill(  # noqa: PLR0913 - the columns of an entry, unpacked once
        self,
        at: datetime,
        sequence: int,
        entry_id: str,
        delta: Decimal,
        price: Decimal,
        fee: Decimal,
        currency: str | None,
        unvalued: Decimal | None,
    ) -> None:
        held = self._quantity
        if not held:
            if (self._leg is Leg.LONG and delta < 0) or (self._leg is Leg.SHORT and delta > 0):
                self._keep_unmatched(delta, fee, fills=1)
            elif not self._open(OrderKey(at, sequence, entry_id), delta, self._value(delta, price), price):
                return
            else:
                self._charge(fee, fills=1)
        elif (held > 0) is (delta > 0):
            self._enter(delta, price, fee, (at, sequence, entry_id))
        elif abs(delta) < abs(held):
            self._reduce(delta, price, fee)
        else:
            self._close(OrderKey(at, sequence, entry_id), delta, price, fee, currency, unvalued)
            return
        if currency is not None and unvalued is not None:
            self._set_aside(currency, unvalued)

    def _value(self, quantity: Decimal, price: Decimal) -> Decimal:
        return quantity * price if self._is_linear else value_of(self._instrument, quantity, price)

    def _open(
        self, order: OrderKey, quantity: Decimal, value: Decimal, price: Decimal, *, is_flip: bool = False
    ) -> bool:
        """Begins a trip at a flat point; False where that flat point is one to stop at."""
        if self._trip is not None:
            finished = self._trip.freeze(self._instrument, held=ZERO, last=None)
            self._trips.append(finished)
            self._settled = self._settled.plus(finished.sums)
            self._trip = None
        if self._stop_at and (order, quantity) in self._stop_at:
            self.stopped_at = (order, quantity)
            return False
        self._trip = TripInProgress(order, quantity, value, is_flip=is_flip)
        self._quantity = quantity
        self._cost_average = self._cost_lots = value
        self._average_is_stale = True
        self._pile = LotPile(self._lot_method, is_long=quantity > 0)
        size = abs(quantity)
        self._pile.add([size, price, size, *order])
        self._since_checkpoint = 0
        return True

    def _enter(
        self, delta: Decimal, price: Decimal, fee: Decimal, order: tuple[datetime, int, str]
    ) -> None:
        trip = self._trip
        assert trip is not None
        value = delta * price if self._is_linear else value_of(self._instrument, delta, price)
        size = abs(delta)
        self._cost_average += value
        self._cost_lots += value
        self._average_is_stale = True
        self._quantity = held = self._quantity + delta
        self._pile.add([size, price, size, *order])
        trip.entered_quantity += size
        trip.entered_value += value
        if abs(held) > trip.max_quantity:
            trip.max_quantity = abs(held)
        trip.fees += fee
        trip.fill_count += 1

    def _reduce(self, delta: Decimal, price: Decimal, fee: Decimal) -> None:
        trip = self._trip
        assert trip is not None
        average = self._current_average()
        assert average is not None
        if self._is_linear:
            value, relieved_average = delta * price, -delta * average
        else:
            value = value_of(self._instrument, delta, price)
            relieved_average = value_of(self._instrument, -delta, average)
        size = abs(delta)
        relieved_lots = self._relieve_lots(size)
        self._cost_average -= relieved_average
        self._cost_lots -= relieved_lots
        self._quantity += delta
        trip.gross_average -= value + relieved_average
        trip.gross_lots -= value + relieved_lots
        trip.exited_quantity += size
        trip.exited_value += value
        trip.fees += fee
        trip.reducing_fees += fee
        trip.fill_count += 1

    def _relieve_lots(self, size: Decimal) -> Decimal:
        """Takes `size` off the lots in their turn; the signed cost that goes with it."""
        pile, relieved = self._pile, ZERO
        items, first = pile.items, pile.first
        while True:
            lot = items[first]
            if lot[0] > size:
                lot[0] -= size
                relieved += size * lot[1] if self._is_linear else value_of(self._instrument, size, lot[1])
                break
            pile.take()
            relieved += lot[0] * lot[1] if self._is_linear else value_of(self._instrument, lot[0], lot[1])
            size -= lot[0]
            if not size:
                break
        return relieved if self._quantity > 0 else -relieved

    def _close(  # noqa: PLR0913
        self,
        order: OrderKey,
        delta: Decimal,
        price: Decimal,
        fee: Decimal,
        currency: str | None,
        unvalued: Decimal | None,
    ) -> None:
        """Closes by a fill as large as the holding or larger; the rest flips, or is unmatched on a hedge leg."""
        trip = self._trip
        assert trip is not None
        part = -self._quantity
        rest = delta - part
        closing_fee = fee_share(fee, part, delta) if rest else fee
        value = self._value(part, price)
        trip.gross_average -= value + self._cost_average
        trip.gross_lots -= value + self._cost_lots
        trip.exited_quantity += abs(part)
        trip.exited_value += value
        trip.fees += closing_fee
        trip.reducing_fees += closing_fee
        trip.fill_count += 1
        self._go_flat(order)
        if currency is not None and unvalued is not None:
            share = fee_share(unvalued, part, delta) if rest else unvalued
            trip.set_aside(currency, share)
            unvalued -= share
        if not rest:
            return
        if self._leg is not Leg.NET:
            self._keep_unmatched(rest, fee - closing_fee, fills=0)
        elif self._open(order, rest, self._value(rest, price), price, is_flip=True):
            self._charge(fee - closing_fee, fills=0)
        else:
            return
        if currency is not None and unvalued:
            self._set_aside(currency, unvalued)

    def _restart_inside_flip(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Opens with the opening part of the first entry, whose closing part was folded before; gives the others."""
        flip, part = next(entries), self._flip_part
        self._flip_part = None
        assert part is not None and flip.quantity is not None and flip.price is not None
        closed = flip.quantity - part
        if self._open(flip.order, part, self._value(part, flip.price), flip.price, is_flip=True):
            self._charge(flip.fee - fee_share(flip.fee, closed, flip.quantity), fills=0)
            if flip.unvalued_currency is not None and flip.unvalued_fee is not None:
                share = fee_share(flip.unvalued_fee, closed, flip.quantity)
                self._set_aside(flip.unvalued_currency, flip.unvalued_fee - share)
        self._last, self._last_fill_at = flip.order, flip.executed_at
        self.count += 1
        return entries

    def _go_flat(self, order: OrderKey) -> None:
        assert self._trip is not None
        self._trip.closed_at = order.executed_at
        self._trip.last = order
        self._quantity = self._cost_average = self._cost_lots = ZERO
        self._average = None
        self._average_is_stale = False
        self._pile = LotPile(self._lot_method, is_long=True)

    def _current_average(self) -> Decimal | None:
        """The weighted average, rounded when it is first asked for after an increase; unchanged by reductions."""
        if self._average_is_stale:
            self._average = average_price(self._instrument, self._quantity, self._cost_average)
            self._average_is_stale = False
        return self._average

    # -- what belongs to the current, else the last trip, else to the time before the first ---------------------------

    def _charge(self, fee: Decimal, *, fills: int) -> None:
        if self._trip is not None:
            self._trip.fees += fee
            self._trip.fill_count += fills
        else:
            self._settled = self._settled.plus(Sums(fees=fee, fill_count=fills))

    def _keep_unmatched(self, excess: Decimal, fee: Decimal, *, fills: int) -> None:
        self._charge(fee, fills=fills)
        if self._trip is not None:
            self._trip.unmatched += abs(excess)
        else:
            self._settled = self._settled.plus(Sums(unmatched=abs(excess)))

    def _set_aside(self, currency: str, unvalued: Decimal) -> None:
        if self._trip is not None:
            self._trip.set_aside(currency, unvalued)
        else:
            self._settled = self._settled.plus(Sums(unvalued_fees=((currency, unvalued),)))

    def _fund(self, amount: Decimal) -> None:
        if self._trip is not None:
            self._trip.funding += amount
        else:
            self._settled = self._settled.plus(Sums(funding=amount))

    # -- adjustments ---------------------------------------------------------------------------------------------

    def _adjust(self, order: OrderKey, kind: str, quantity: Decimal | None, average: Decimal | None) -> None:
        """Sets quantity and/or average at its time; touches no realized figure. Cash flow counts - change of cost."""
        held = self._quantity
        new = held if quantity is None else quantity
        keeps_side = bool(held and new) and (held > 0) is (new > 0)
        if kind == "VENUE" and keeps_side and average is not None:
            current = self._current_average()
            if current is not None and not replaces_average(stored=current, reported=average):
                average = None
        if keeps_side:
            if new != held or average is not None:
                self._set_holding(order, new, average)
        elif not new or average is not None:
            if held:
                self._remove_holding(order)
            if new and average is not None:
                if self._open(order, new, self._value(new, average), average):
                    assert self._trip is not None
                    self._trip.is_adjusted = True

    def _set_holding(self, order: OrderKey, new: Decimal, average: Decimal | None) -> None:
        trip, held = self._trip, self._quantity
        assert trip is not None
        by_average = average if average is not None else self._current_average()
        by_lots = average if average is not None else average_price(self._instrument, held, self._cost_lots)
        assert by_average is not None
        cost_average, cost_lots = self._value(new, by_average), self._value(new, by_lots)
        trip.correction_average -= cost_average - self._cost_average
        trip.correction_lots -= cost_lots - self._cost_lots
        if abs(new) > abs(held):
            entered = self._value(new - held, by_average)
            trip.entered_quantity += abs(new) - abs(held)
            trip.entered_value += entered
            trip.correction_average += entered
            trip.correction_lots += entered
        trip.is_adjusted = True
        trip.max_quantity = max(trip.max_quantity, abs(new))
        self._quantity, self._cost_average, self._cost_lots = new, cost_average, cost_lots
        self._average, self._average_is_stale = by_average, False
        self._pile = LotPile(self._lot_method, is_long=new > 0)
        self._pile.add([abs(new), by_lots, abs(new), *order])

    def _remove_holding(self, order: OrderKey) -> None:
        trip = self._trip
        assert trip is not None
        trip.correction_average += self._cost_average
        trip.correction_lots += self._cost_lots
        trip.is_adjusted = True
        self._go_flat(order)
