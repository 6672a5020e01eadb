"""What a position is: the state that a fold leaves, and the figures that are read off it.

`FoldState` is everything needed to go on folding. Costs are kept before scale (points x quantity for linear
instruments); the figures here are money in settle currency.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from steelyard.accounting.errors import InvariantBroken
from steelyard.accounting.instruments import Instrument, InstrumentKind, average_price, notional, value_of
from steelyard.accounting.keys import Leg, OrderKey
from steelyard.accounting.lots import Lot
from steelyard.accounting.round_trips import NO_SUMS, CostMethod, RoundTrip, Sums
from steelyard.accounting.units import ZERO, exactly

INVERSE_TOLERANCE = Decimal(1).scaleb(-30)


class FiguresState(StrEnum):
    """CURRENT, or REFOLDING: quantity, fees and fill count are right, the rest is being refolded."""

    CURRENT = "CURRENT"
    REFOLDING = "REFOLDING"


@dataclass(frozen=True, slots=True)
class FoldState:
    """A position between two entries of its fold."""

    quantity: Decimal = ZERO
    """Signed."""
    cost_average: Decimal = ZERO
    """Signed cost before scale, weighted average method."""
    average: Decimal | None = None
    """Weighted average of what is open, 18 places; unchanged by reductions; None when flat."""
    cost_lots: Decimal = ZERO
    """Signed cost before scale, lot method."""
    lots: tuple[Lot, ...] = ()
    """Open lots in fold order."""
    settled: Sums = NO_SUMS
    """Sums of everything before the current (else last) trip."""
    trip: RoundTrip | None = None
    """The current, else the last trip."""
    last: OrderKey | None = None
    """The newest entry folded."""
    last_fill_at: datetime | None = None

    @property
    def lifetime(self) -> Sums:
        """Sums over the whole life of the position."""
        return self.settled if self.trip is None else self.settled.plus(self.trip.sums)

    @property
    def opened_at(self) -> datetime | None:
        """When the current, else the last, trip opened."""
        return None if self.trip is None else self.trip.opened_at

    @property
    def closed_at(self) -> datetime | None:
        """When the last trip closed; None while one is open."""
        return None if self.trip is None else self.trip.closed_at


EMPTY = FoldState()


def cost(state: FoldState, instrument: Instrument, method: CostMethod) -> Decimal:  # noqa: PLR0917 - in the order in which one says it
    """Signed cost of what is open in settle currency."""
    return _scaled(state.cost_average if method is CostMethod.AVERAGE else state.cost_lots, instrument)


@exactly
def _scaled(raw: Decimal, instrument: Instrument) -> Decimal:
    return raw * instrument.scale


@exactly
def average_entry(state: FoldState, instrument: Instrument, method: CostMethod) -> Decimal | None:  # noqa: PLR0917 - in the order in which one says it
    """Average entry price of what is open, 18 places, positive also for shorts; None when flat.

    AVERAGE: unchanged by reductions. LOTS: over the open lots.
    """
    if not state.quantity:
        return None
    if method is CostMethod.AVERAGE:
        return state.average
    return average_price(instrument, state.quantity, state.cost_lots)


def unrealized(state: FoldState, instrument: Instrument, *, mark: Decimal | None, method: CostMethod) -> Decimal | None:
    """Unrealized PnL of a folded position at a mark; None without a mark, 0 when flat."""
    return unrealized_at(instrument, quantity=state.quantity, cost=cost(state, instrument, method), mark=mark)


@exactly
def unrealized_at(instrument: Instrument, *, quantity: Decimal, cost: Decimal, mark: Decimal | None) -> Decimal | None:
    """Unrealized PnL at a mark: quantity x m x mark - cost (inverse: cost - q x m / mark); the average is never an
    input. `cost` is signed and in settle currency. None without a mark, 0 when flat."""
    if not quantity:
        return ZERO
    if mark is None:
        return None
    return instrument.sign * (value_of(instrument, quantity, mark) * instrument.scale - cost)


def exposure(state: FoldState, instrument: Instrument, *, mark: Decimal | None) -> Decimal | None:
    """Signed notional at a mark; None without a mark, 0 when flat."""
    if not state.quantity:
        return ZERO
    return None if mark is None else notional(instrument, state.quantity, mark)


@exactly
def assert_identity(state: FoldState, instrument: Instrument) -> None:
    """gross realized + unrealized = sum of cash flow + quantity x m x mark, for both methods and any mark.

    At every mark the mark's terms cancel, which leaves gross - sign x cost = cash flow. Raises `InvariantBroken`.
    """
    sums = state.lifetime
    for gross, raw, cash in (
        (sums.gross_average, state.cost_average, sums.cash_average),
        (sums.gross_lots, state.cost_lots, sums.cash_lots),
    ):
        difference = gross - instrument.sign * instrument.scale * raw - cash
        tolerance = ZERO if instrument.kind is InstrumentKind.LINEAR else INVERSE_TOLERANCE
        if abs(difference) > tolerance:
            raise InvariantBroken(f"cash-flow identity is off by {difference}")


def assert_leg(state: FoldState, leg: Leg) -> None:
    """A LONG leg is never negative, a SHORT leg never positive, and flat means no cost. Raises `InvariantBroken`."""
    if (leg is Leg.LONG and state.quantity < 0) or (leg is Leg.SHORT and state.quantity > 0):
        raise InvariantBroken(f"{leg} leg holds {state.quantity}")
    if not state.quantity and (state.cost_average or state.cost_lots or state.lots or state.average is not None):
        raise InvariantBroken("a flat position has cost, lots or an average")
    if sum((lot.quantity for lot in state.lots), ZERO) != abs(state.quantity):
        raise InvariantBroken("open lots do not add up to the quantity")
