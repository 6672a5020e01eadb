"""Round trips: one cycle 0 -> +/- -> 0 of a position, and the sums that both methods leave behind.

`Sums` is what is added up; a position's lifetime figures are the sums of its trips (and of what came before the first
one), which is why a refold can replace the trips of a stretch and correct the lifetime by the difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from steelyard.accounting.instruments import Instrument, average_price
from steelyard.accounting.keys import OrderKey, PositionKey, TripId, trip_id
from steelyard.accounting.units import PLACES_18, ZERO, exactly, quotient


class CostMethod(StrEnum):
    """Which method's figures are the plain ones: the weighted average, or lots by the account's lot method."""

    AVERAGE = "AVERAGE"
    LOTS = "LOTS"


class Direction(StrEnum):
    """LONG entered by buying, SHORT by selling."""

    LONG = "LONG"
    SHORT = "SHORT"


Unvalued = tuple[tuple[str, Decimal], ...]
"""Fees whose value is unknown: (currency, amount), sorted by currency."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What entries add up to, in settle currency, exact. Adding and taking away are inverse to each other."""

    gross_average: Decimal = ZERO
    """Realized by price alone, weighted average method."""
    gross_lots: Decimal = ZERO
    """Realized by price alone, lot method."""
    fees: Decimal = ZERO
    """All valued fees; positive was paid."""
    reducing_fees: Decimal = ZERO
    """The fee shares of reducing parts."""
    funding: Decimal = ZERO
    """Positive was received."""
    cash_average: Decimal = ZERO
    """Cash flow by price, weighted average method: - sum of delta x price x m, and - change of cost by adjustments."""
    cash_lots: Decimal = ZERO
    unmatched: Decimal = ZERO
    """Hedge legs: quantity of closing fills beyond what the leg held, >= 0."""
    fill_count: int = 0
    """Fills, each counted once, in the trip that it closes or else opens."""
    unvalued_fees: Unvalued = ()
    """What cancels out to zero in its currency is left out."""

    def plus(self, other: Sums) -> Sums:
        """Both added."""
        return added((self, other))

    def minus(self, other: Sums) -> Sums:
        """The other taken away."""
        return added((self, _negated(other)))

    def gross(self, method: CostMethod) -> Decimal:
        """Gross realized by a method."""
        return self.gross_average if method is CostMethod.AVERAGE else self.gross_lots

    @exactly
    def realized(self, method: CostMethod) -> Decimal:
        """Gross less the fee shares of reducing parts: an opening fee leaves it unchanged."""
        return self.gross(method) - self.reducing_fees

    @exactly
    def net(self, method: CostMethod) -> Decimal:
        """Gross less all valued fees plus funding."""
        return self.gross(method) - self.fees + self.funding

    @property
    def fees_complete(self) -> bool:
        """Whether every fee could be valued; where not, net figures are incomplete."""
        return not self.unvalued_fees


NO_SUMS = Sums()

FlatPoint = tuple[OrderKey, Decimal]
"""(order of a trip's opening entry, signed opening quantity): equal flat points have equal futures, as long as the
entries from there on are the same."""


class RunningSums:
    """Sums that are being added up; used under the exact context."""

    __slots__ = (
        "cash_average",
        "cash_lots",
        "fees",
        "fill_count",
        "funding",
        "gross_average",
        "gross_lots",
        "reducing_fees",
        "unmatched",
        "unvalued",
    )

    def __init__(self, start: Sums = NO_SUMS) -> None:
        self.gross_average, self.gross_lots = start.gross_average, start.gross_lots
        self.fees, self.reducing_fees, self.funding = start.fees, start.reducing_fees, start.funding
        self.cash_average, self.cash_lots = start.cash_average, start.cash_lots
        self.unmatched, self.fill_count = start.unmatched, start.fill_count
        self.unvalued = dict(start.unvalued_fees)

    def add(self, sums: Sums) -> None:
        """Adds one more."""
        self.gross_average += sums.gross_average
        self.gross_lots += sums.gross_lots
        self.fees += sums.fees
        self.reducing_fees += sums.reducing_fees
        self.funding += sums.funding
        self.cash_average += sums.cash_average
        self.cash_lots += sums.cash_lots
        self.unmatched += sums.unmatched
        self.fill_count += sums.fill_count
        for currency, amount in sums.unvalued_fees:
            self.unvalued[currency] = self.unvalued.get(currency, ZERO) + amount

    def total(self) -> Sums:
        """What it comes to."""
        return Sums(
            self.gross_average,
            self.gross_lots,
            self.fees,
            self.reducing_fees,
            self.funding,
            self.cash_average,
            self.cash_lots,
            self.unmatched,
            self.fill_count,
            unvalued_of(self.unvalued),
        )


def unvalued_of(amounts: Mapping[str, Decimal]) -> Unvalued:
    """Amounts by currency as they are kept: sorted, without those that cancel out."""
    return tuple(sorted((currency, amount) for currency, amount in amounts.items() if amount)) if amounts else ()


@exactly
def added(sums: Iterable[Sums]) -> Sums:
    """All of them added up."""
    running = RunningSums()
    for each in sums:
        running.add(each)
    return running.total()


@exactly
def _negated(sums: Sums) -> Sums:
    return Sums(
        -sums.gross_average,
        -sums.gross_lots,
        -sums.fees,
        -sums.reducing_fees,
        -sums.funding,
        -sums.cash_average,
        -sums.cash_lots,
        -sums.unmatched,
        -sums.fill_count,
        tuple((currency, -amount) for currency, amount in sums.unvalued_fees),
    )


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """One cycle of a position, open or completed. entered - exited = open, always.

    Quantities are unsigned; values are signed sums of delta x price before scale (inverse: of delta x multiplier /
    price), so the entered one has the sign of the direction. What an adjustment adds or takes away counts as entered
    at its average or as exited at the average held before.
    """

    direction: Direction
    opened: OrderKey
    """The entry that opened it."""
    opening_quantity: Decimal
    """Signed: what the opening entry brought; after a flip only its opening part. With `opened` it names the flat
    point before this trip, from which a refold may start."""
    is_flip: bool
    """Whether the opening entry also closed the trip before (then it is in both)."""
    last: OrderKey
    """The newest entry folded into it; the closing one once `closed_at` is set."""
    closed_at: datetime | None
    entered_quantity: Decimal
    entered_value: Decimal
    exited_quantity: Decimal
    exited_value: Decimal
    open_quantity: Decimal
    """What is still held, >= 0; zero once closed."""
    max_quantity: Decimal
    is_adjusted: bool
    """Whether an adjustment changed what it holds."""
    sums: Sums

    @property
    def opened_at(self) -> datetime:
        """When the opening entry was executed."""
        return self.opened.executed_at

    @property
    def is_open(self) -> bool:
        """Whether the position has not come back to zero."""
        return self.closed_at is None

    @property
    def fill_count(self) -> int:
        """Fills in this trip; a flip is in both of its trips."""
        return self.sums.fill_count + (1 if self.is_flip else 0)

    def id_under(self, key: PositionKey) -> TripId:
        """The trip's id, a function of its key and first entry: an entry opens at most one trip."""
        return trip_id(key, self.opened.entry_id)

    @property
    def sign(self) -> int:
        """+1 for LONG, -1 for SHORT."""
        return 1 if self.direction is Direction.LONG else -1

    @property
    def is_long(self) -> bool:
        """Whether it was entered by buying."""
        return self.direction is Direction.LONG

    @property
    def flat_point(self) -> FlatPoint:
        """The flat point before this trip."""
        return (self.opened, self.opening_quantity)

    def average_entry_price(self, instrument: Instrument) -> Decimal | None:
        """Average over all that was entered, to 18 places; None where nothing was."""
        return _average(instrument, self.entered_quantity, is_long=self.is_long, value=self.entered_value)

    def average_exit_price(self, instrument: Instrument) -> Decimal | None:
        """Average over all that was exited, to 18 places; None while the trip is open."""
        if self.is_open:
            return None
        return _average(instrument, self.exited_quantity, is_long=not self.is_long, value=self.exited_value)


@exactly
def _average(instrument: Instrument, size: Decimal, *, is_long: bool, value: Decimal) -> Decimal | None:
    return average_price(instrument, size if is_long else -size, value) if size else None


@exactly
def points_of(  # noqa: PLR0917 - in the order in which one says it
    trip: RoundTrip, instrument: Instrument, method: CostMethod
) -> tuple[Decimal, Decimal | None]:
    """(quantity-weighted points, points per contract) of a trip: gross / multiplier, and that per exited quantity.

    Linear: price points. Inverse instruments have no points; both are then in settle currency per unit multiplier.
    """
    gross = trip.sums.gross(method)
    weighted = quotient(gross, instrument.multiplier, PLACES_18)
    exited = trip.exited_quantity
    per_contract = quotient(gross, instrument.multiplier * exited, PLACES_18) if exited else None
    return weighted, per_contract
