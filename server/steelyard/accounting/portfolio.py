"""A portfolio: what positions add up to at their marks, per settle currency (DOMAIN 9).

Currencies are never summed without a rate. Unrealized figures and exposures are those of the marked positions; an
unmarked open one makes the answer incomplete and is named. Realized figures are those of all rows, closed ones too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from steelyard.accounting.instruments import Instrument, notional
from steelyard.accounting.keys import PositionKey
from steelyard.accounting.marks import Mark, MarkState
from steelyard.accounting.position import unrealized_at
from steelyard.accounting.units import ZERO, exactly


@dataclass(frozen=True, slots=True, kw_only=True)
class PortfolioRow:
    """A position as a portfolio sees it: the plain figures (those of its account's cost method), and its mark."""

    key: PositionKey
    instrument: Instrument
    quantity: Decimal
    """Signed."""
    cost: Decimal = ZERO
    """Signed cost of what is open, in settle currency."""
    average_price: Decimal | None = None
    gross_realized_pnl: Decimal = ZERO
    """Lifetime, by price alone."""
    realized_pnl: Decimal = ZERO
    """Lifetime, less the fee shares of reducing parts; the figure that `realized` sums."""
    net_realized_pnl: Decimal = ZERO
    """Lifetime, less all valued fees, plus funding."""
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    fees_complete: bool = True
    opened_at: datetime | None = None
    closed_at: datetime | None = None
    mark: Mark | None = None
    mark_state: MarkState = MarkState.MISSING

    @property
    def notional(self) -> Decimal | None:
        """Signed notional at the mark in settle currency; 0 when flat, None without a mark."""
        if not self.quantity:
            return ZERO
        return None if self.mark is None else notional(self.instrument, self.quantity, self.mark.price)

    @property
    def unrealized_pnl(self) -> Decimal | None:
        """Unrealized PnL at the mark in settle currency; 0 when flat, None without a mark."""
        price = None if self.mark is None else self.mark.price
        return unrealized_at(self.instrument, quantity=self.quantity, cost=self.cost, mark=price)


@dataclass(frozen=True, slots=True)
class PortfolioGroup:
    """The part of one instrument or one book: its positions are not netted against each other."""

    exposure: Decimal
    """Sum of |notional|."""
    unrealized_pnl: Decimal
    realized_pnl: Decimal
    quantity: Decimal
    """Signed sum."""
    open_count: int = 0
    """Positions that hold something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrencyPortfolio:
    """Everything that settles in one currency, in that currency."""

    currency: str
    gross_exposure: Decimal
    """Sum of |notional| of the marked positions."""
    net_exposure: Decimal
    """Sum of signed notional of the marked positions; also the value of the portfolio."""
    long_exposure: Decimal
    short_exposure: Decimal
    """Unsigned: gross = long + short, net = long - short."""
    unrealized_pnl: Decimal
    """Of the marked positions."""
    realized_pnl: Decimal
    """Of all rows, closed ones too."""
    total_pnl: Decimal
    """Unrealized plus realized."""
    gross_realized_pnl: Decimal
    net_realized_pnl: Decimal
    fees: Decimal
    funding: Decimal
    fees_complete: bool
    open_count: int
    long_count: int
    short_count: int
    by_instrument: Mapping[str, PortfolioGroup]
    by_book: Mapping[str, PortfolioGroup]
    stale_prices: tuple[str, ...]
    """Instruments of open positions whose mark is stale, sorted."""
    missing_prices: tuple[str, ...]
    """Instruments of open positions without a mark, sorted."""

    @property
    def value(self) -> Decimal:
        """Sum of signed notional of the marked positions."""
        return self.net_exposure

    @property
    def complete(self) -> bool:
        """Whether no open position lacks a price."""
        return not self.missing_prices


@dataclass(frozen=True, slots=True)
class Portfolio:
    """A portfolio per settle currency, and when it was worked out."""

    currencies: Mapping[str, CurrencyPortfolio]
    calculated_at: datetime

    @property
    def complete(self) -> bool:
        """Whether no open position of any currency lacks a price."""
        return all(each.complete for each in self.currencies.values())


@exactly
def portfolio_of(rows: Iterable[PortfolioRow], *, now: datetime, currencies: Iterable[str] = ()) -> Portfolio:
    """What the rows add up to, per settle currency; a named currency without positions is all zeros, never an error."""
    tallies = {currency: _Tally() for currency in currencies}
    for row in rows:
        currency = row.instrument.settle_currency
        tally = tallies.get(currency)
        if tally is None:
            tally = tallies[currency] = _Tally()
        tally.add(row)
    return Portfolio({currency: tallies[currency].figures(currency) for currency in sorted(tallies)}, now)


@dataclass(slots=True)
class _GroupTally:
    exposure: Decimal = ZERO
    unrealized: Decimal = ZERO
    realized: Decimal = ZERO
    quantity: Decimal = ZERO
    open_count: int = 0

    def add(self, row: PortfolioRow, *, exposure: Decimal, unrealized: Decimal) -> None:
        self.exposure += exposure
        self.unrealized += unrealized
        self.realized += row.realized_pnl
        self.quantity += row.quantity
        self.open_count += bool(row.quantity)

    def figures(self) -> PortfolioGroup:
        return PortfolioGroup(self.exposure, self.unrealized, self.realized, self.quantity, self.open_count)


@dataclass(slots=True)
class _Tally:
    """Sums of one settle currency while rows stream by."""

    long: Decimal = ZERO
    short: Decimal = ZERO
    gross_realized: Decimal = ZERO
    net_realized: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    fees_complete: bool = True
    long_count: int = 0
    short_count: int = 0
    everything: _GroupTally = field(default_factory=_GroupTally)
    instruments: dict[str, _GroupTally] = field(default_factory=dict)
    books: dict[str, _GroupTally] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)

    def add(self, row: PortfolioRow) -> None:
        value = row.notional
        unrealized = row.unrealized_pnl or ZERO
        exposure = ZERO if value is None else abs(value)
        if row.quantity:
            self._count(row, value)
        self.gross_realized += row.gross_realized_pnl
        self.net_realized += row.net_realized_pnl
        self.fees += row.fees
        self.funding += row.funding
        self.fees_complete = self.fees_complete and row.fees_complete
        by_instrument = self.instruments.setdefault(row.key.instrument, _GroupTally())
        by_book = self.books.setdefault(row.key.book, _GroupTally())
        for group in (self.everything, by_instrument, by_book):
            group.add(row, exposure=exposure, unrealized=unrealized)

    def _count(self, row: PortfolioRow, value: Decimal | None) -> None:
        if row.quantity > 0:
            self.long_count += 1
        else:
            self.short_count += 1
        if value is None:
            self.missing.add(row.key.instrument)
        elif value > 0:
            self.long += value
        else:
            self.short -= value
        if row.mark_state is MarkState.STALE:
            self.stale.add(row.key.instrument)

    def figures(self, currency: str) -> CurrencyPortfolio:
        total = self.everything
        return CurrencyPortfolio(
            currency=currency,
            gross_exposure=self.long + self.short,
            net_exposure=self.long - self.short,
            long_exposure=self.long,
            short_exposure=self.short,
            unrealized_pnl=total.unrealized,
            realized_pnl=total.realized,
            total_pnl=total.unrealized + total.realized,
            gross_realized_pnl=self.gross_realized,
            net_realized_pnl=self.net_realized,
            fees=self.fees,
            funding=self.funding,
            fees_complete=self.fees_complete,
            open_count=self.long_count + self.short_count,
            long_count=self.long_count,
            short_count=self.short_count,
            by_instrument={name: group.figures() for name, group in sorted(self.instruments.items())},
            by_book={name: group.figures() for name, group in sorted(self.books.items())},
            stale_prices=tuple(sorted(self.stale)),
            missing_prices=tuple(sorted(self.missing)),
        )
