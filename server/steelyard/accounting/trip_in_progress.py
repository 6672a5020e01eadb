"""The trip that a fold is working on: what is held, its lots, and what has been added up since it opened.

Everything is kept *before scale* (linear: points x quantity) and signed like the holding. Costs are not kept but
derived, cost = entered value - relieved value, and so is what was realized, - exited value - relieved value. That
leaves one addition per method for a reduction and one for both methods for an increase.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from steelyard.accounting.instruments import Instrument, InstrumentKind, average_price, value_of
from steelyard.accounting.keys import OrderKey
from steelyard.accounting.lots import LotPile
from steelyard.accounting.position import FoldState
from steelyard.accounting.round_trips import NO_SUMS, Direction, RoundTrip, Sums, unvalued_of
from steelyard.accounting.units import ZERO

_LINEAR = InstrumentKind.LINEAR  # names of their own: looking members up in their class is slow
_LONG, _SHORT = Direction.LONG, Direction.SHORT
_INVERSE_SIGN = Decimal(-1)


class TripInProgress:
    """Accumulators of one trip, open or closed (a closed one may still be given funding).

    `base` holds the sums of a trip that is taken up again, so nothing has to be unscaled. What was entered and exited
    `otherwise`, before that or by adjustments, is no cash flow of fills folded here.
    """

    __slots__ = (
        "adjusted_cost_average",
        "adjusted_cost_lots",
        "average",
        "average_is_stale",
        "base",
        "closed_at",
        "cost_average_base",
        "cost_lots_base",
        "entered_otherwise",
        "entered_quantity",
        "entered_value",
        "entering_fees",
        "exited_otherwise",
        "exited_value",
        "fill_count",
        "funding",
        "held",
        "instrument",
        "is_adjusted",
        "is_flip",
        "is_linear",
        "is_long",
        "last",
        "max_quantity",
        "opened",
        "opening_quantity",
        "pile",
        "reducing_fees",
        "relieved_average",
        "relieved_lots",
        "unmatched",
        "unvalued",
    )

    def __init__(self, instrument: Instrument, pile: LotPile, *, opened: OrderKey, quantity: Decimal) -> None:
        """A trip that opens with a signed quantity; what that is worth has to be entered."""
        self.instrument = instrument
        self.is_linear = instrument.kind is _LINEAR
        self.pile = pile
        self.opened = self.last = opened
        self.opening_quantity = quantity
        self.is_long = quantity > ZERO
        self.is_flip = self.is_adjusted = False
        self.closed_at: datetime | None = None
        self.held = self.entered_quantity = self.max_quantity = ZERO
        self.average: Decimal | None = None
        self.average_is_stale = False
        self.base: Sums = NO_SUMS
        self.cost_average_base = self.cost_lots_base = ZERO
        self.entered_value = self.entered_otherwise = self.exited_value = self.exited_otherwise = ZERO
        self.relieved_average = self.relieved_lots = ZERO
        self.adjusted_cost_average = self.adjusted_cost_lots = ZERO
        self.entering_fees = self.reducing_fees = self.funding = self.unmatched = ZERO
        self.fill_count = 0
        self.unvalued: dict[str, Decimal] | None = None

    @classmethod
    def resume(cls, trip: RoundTrip, state: FoldState, *, instrument: Instrument, pile: LotPile) -> TripInProgress:
        """Takes a frozen trip up again, with what the state holds."""
        self = cls(instrument, pile, opened=trip.opened, quantity=trip.opening_quantity)
        self.is_flip, self.is_adjusted = trip.is_flip, trip.is_adjusted
        self.closed_at, self.last = trip.closed_at, trip.last
        self.held, self.average = state.quantity, state.average
        self.entered_quantity = trip.entered_quantity if trip.is_long else -trip.entered_quantity
        self.max_quantity = trip.max_quantity
        self.base = trip.sums
        self.cost_average_base = state.cost_average - trip.entered_value
        self.cost_lots_base = state.cost_lots - trip.entered_value
        self.entered_value = self.entered_otherwise = trip.entered_value
        self.exited_value = self.exited_otherwise = trip.exited_value
        return self

    @property
    def cost_average(self) -> Decimal:
        """Signed cost of what is held, weighted average method."""
        return self.cost_average_base + self.entered_value - self.relieved_average

    @property
    def cost_lots(self) -> Decimal:
        """Signed cost of what is held, lot method."""
        return self.cost_lots_base + self.entered_value - self.relieved_lots

    def settle_increases(self) -> None:
        """What increases leave for the first reduction after them: the largest holding, and the rounded average."""
        self._note_size()
        self.average = average_price(self.instrument, self.held, self.cost_average)
        self.average_is_stale = False

    def _note_size(self) -> None:
        size = abs(self.held)
        if size > self.max_quantity:
            self.max_quantity = size

    def current_average(self) -> Decimal | None:
        """The weighted average to 18 places; unchanged by reductions, None when flat."""
        if self.average_is_stale:
            self.settle_increases()
        return self.average

    def relieve(self, quantity: Decimal) -> None:
        """Relieves the cost of a quantity (signed against the holding, smaller than it) by both methods.

        The average must be settled; it stays, and a rounding rest stays in the cost. Lots are taken in their turn.
        """
        pile, average, is_long, is_linear = self.pile, self.average, self.is_long, self.is_linear
        assert average is not None
        self.relieved_average -= quantity * average if is_linear else value_of(self.instrument, quantity, average)
        items, first, relieved = pile.items, pile.first, self.relieved_lots
        while True:
            lot = items[first]
            size, price = lot[0], lot[1]
            left = size + quantity
            if left and (left > ZERO) is is_long:
                lot[0] = left
                relieved -= quantity * price if is_linear else value_of(self.instrument, quantity, price)
                break
            pile.take()
            relieved += size * price if is_linear else value_of(self.instrument, size, price)
            if not left:
                break
            quantity = left
        self.relieved_lots = relieved

    def close(self, order: OrderKey, *, value: Decimal, fee: Decimal) -> None:
        """Closes by (a part of) a fill of this value; all remaining cost is relieved."""
        self.exited_value += value
        self.relieved_average += self.cost_average
        self.relieved_lots += self.cost_lots
        self.reducing_fees += fee
        self.fill_count += 1
        self.go_flat(order)

    def go_flat(self, order: OrderKey) -> None:
        """Nothing is held any more; the cost must have been relieved or adjusted away."""
        self._note_size()
        self.closed_at = order.executed_at
        self.last = order
        self.held = ZERO
        self.average = None
        self.average_is_stale = False
        self.pile.items.clear()

    def set_aside(self, currency: str, fee: Decimal) -> None:
        """Keeps a fee that cannot be valued."""
        if self.unvalued is None:
            self.unvalued = {}
        self.unvalued[currency] = self.unvalued.get(currency, ZERO) + fee

    # -- adjustments: they touch no realized figure; cash flow counts - change of cost --------------------------------

    def set_holding(self, order: OrderKey, *, quantity: Decimal, average: Decimal | None) -> None:
        """Holds another quantity of the same sign and/or at another average (None: each method keeps its own).

        Growth counts as entered at the new average, shrinking as exited at the average held before. Afterwards there
        is one lot.
        """
        held_average = self.current_average()
        assert held_average is not None
        by_average = held_average if average is None else average
        by_lots = average_price(self.instrument, self.held, self.cost_lots) if average is None else average
        change = quantity - self.held
        if change and (change > ZERO) is self.is_long:
            self.entered_quantity += change
            self._enter_otherwise(value_of(self.instrument, change, by_average))
        elif change:
            self._exit_otherwise(value_of(self.instrument, change, held_average))
        self._set_cost(value_of(self.instrument, quantity, by_average), value_of(self.instrument, quantity, by_lots))
        self.is_adjusted = True
        self.held = quantity
        self._note_size()
        self.average, self.average_is_stale = by_average, False
        self.pile.items.clear()
        self.pile.add([quantity, by_lots, quantity, *order])

    def remove_holding(self, order: OrderKey) -> None:
        """Holds nothing from here on, without a fill; counts as exited at the average held before."""
        held_average = self.current_average()
        assert held_average is not None
        self._exit_otherwise(value_of(self.instrument, -self.held, held_average))
        self._set_cost(ZERO, ZERO)
        self.is_adjusted = True
        self.go_flat(order)

    def _set_cost(self, by_average: Decimal, by_lots: Decimal) -> None:
        change_average, change_lots = by_average - self.cost_average, by_lots - self.cost_lots
        self.cost_average_base += change_average
        self.cost_lots_base += change_lots
        self.adjusted_cost_average += change_average
        self.adjusted_cost_lots += change_lots

    def _enter_otherwise(self, value: Decimal) -> None:
        self.entered_value += value
        self.entered_otherwise += value
        self.cost_average_base -= value
        self.cost_lots_base -= value

    def _exit_otherwise(self, value: Decimal) -> None:
        self.exited_value += value
        self.exited_otherwise += value

    # -- as values ---------------------------------------------------------------------------------------------------

    def freeze(self, *, last: OrderKey | None = None) -> RoundTrip:
        """The trip as a value; `last` is the newest entry of an open one."""
        self._note_size()
        held, entered = abs(self.held), abs(self.entered_quantity)
        return RoundTrip(
            _LONG if self.is_long else _SHORT,
            self.opened,
            self.opening_quantity,
            self.is_flip,
            self.last if self.closed_at is not None or last is None else last,
            self.closed_at,
            entered,
            self.entered_value,
            entered - held,
            self.exited_value,
            held,
            self.max_quantity,
            self.is_adjusted,
            self._sums(),
        )

    def _sums(self) -> Sums:
        scale = self.instrument.multiplier if self.is_linear else _INVERSE_SIGN
        bought = self.entered_otherwise - self.entered_value
        sold = self.exited_otherwise - self.exited_value
        sums = Sums(
            scale * (sold - self.relieved_average),
            scale * (sold - self.relieved_lots),
            self.entering_fees + self.reducing_fees,
            self.reducing_fees,
            self.funding,
            scale * (bought + sold - self.adjusted_cost_average),
            scale * (bought + sold - self.adjusted_cost_lots),
            self.unmatched,
            self.fill_count,
            () if self.unvalued is None else unvalued_of(self.unvalued),
        )
        return sums if self.base is NO_SUMS else self.base.plus(sums)
