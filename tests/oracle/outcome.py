"""What the oracle answers: positions, figures per method, lots, round trips, execution pairs.

Money is in the settle currency as exact fractions; quantities are signed where they are a holding
(negative is short) and unsigned in a trip; times are microseconds since 1970.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from .entries import OracleKey, Terms

LOT_METHODS = ("FIFO", "LIFO", "HIFO")
METHODS = ("AVERAGE", *LOT_METHODS)


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleFigures:
    """One method's view of a position, over its whole life."""

    average: Fraction | None
    cost: Fraction
    gross_realized_pnl: Fraction
    realized_pnl: Fraction
    net_realized_pnl: Fraction
    cash_flow: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleLot:
    """The still open part of an opening fill (or adjustment); quantity and cost are signed."""

    entry_id: str
    opened_at: int
    quantity: Fraction
    price: Fraction
    cost: Fraction
    fee: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class OraclePair:
    """A piece of a lot and the reducing fill that closed it; the quantity is unsigned."""

    entry_id: str
    exit_id: str
    quantity: Fraction
    entry_price: Fraction
    exit_price: Fraction
    entered_at: int
    exited_at: int
    gross_pnl: Fraction
    entry_fee: Fraction
    exit_fee: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleTrip:
    """One cycle 0 -> +- -> 0. Averages and points come unrounded (`_exact`) and rounded to 18 places."""

    key: OracleKey
    settle_currency: str
    first_entry_id: str
    direction: str
    entered_quantity: Fraction
    exited_quantity: Fraction
    open_quantity: Fraction
    max_quantity: Fraction
    average_entry_exact: Fraction
    average_entry: Fraction
    average_exit_exact: Fraction | None
    average_exit: Fraction | None
    points_per_contract: Fraction | None
    points_weighted: Fraction | None
    gross_pnl: Mapping[str, Fraction]
    realized_pnl: Mapping[str, Fraction]
    net_pnl: Mapping[str, Fraction]
    fees: Fraction
    funding: Fraction
    unvalued_fees: Mapping[str, Fraction]
    fees_complete: bool
    opened_at: int
    closed_at: int | None
    fill_count: int
    relations: tuple[tuple[str, str], ...]
    adjusted: bool
    pairs: Mapping[str, tuple[OraclePair, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleFillEffect:
    """What one fill realized (gross, per method) and what it cost (its whole valued fee)."""

    fill_id: str
    executed_at: int
    gross_pnl: Mapping[str, Fraction]
    fee: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class OraclePosition:
    """A key after its entries. `figures` is per method of METHODS, `lots` per method of LOT_METHODS."""

    key: OracleKey
    terms: Terms
    quantity: Fraction
    unmatched_quantity: Fraction
    figures: Mapping[str, OracleFigures]
    lots: Mapping[str, tuple[OracleLot, ...]]
    trips: tuple[OracleTrip, ...]
    fees: Fraction
    funding: Fraction
    unvalued_fees: Mapping[str, Fraction]
    fees_complete: bool
    fill_count: int
    opened_at: int | None
    closed_at: int | None
    effects: tuple[OracleFillEffect, ...]

    def unrealized(self, mark: Fraction | None, *, method: str = "AVERAGE") -> Fraction | None:
        """Unrealized PnL by a method at a mark: zero when flat, None without a mark."""
        if self.quantity == 0:
            return Fraction(0)
        if mark is None:
            return None
        return self.terms.unrealized(self.quantity, self.figures[method].cost, mark)

    def identity_gap(self, mark: Fraction, *, method: str = "AVERAGE") -> Fraction:
        """Gross + unrealized - (cash flow + value of the holding at the mark): zero by law."""
        figures = self.figures[method]
        unrealized = self.terms.unrealized(self.quantity, figures.cost, mark)
        holding = -self.terms.cash_sign * self.terms.value(self.quantity, mark)
        return figures.gross_realized_pnl + unrealized - (figures.cash_flow + holding)
