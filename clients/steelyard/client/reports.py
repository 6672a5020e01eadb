"""What questions are answered with: portfolios, performance, instruments, accounts.

Names and meanings are those of the contract (`protos/steelyard/v1`), which says more about each field.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from steelyard.client.risk_records import LimitState


class InstrumentKind(StrEnum):
    """How price relates to money."""

    LINEAR = "LINEAR"
    INVERSE = "INVERSE"


class PriceRule(StrEnum):
    """Which prices are legal."""

    POSITIVE = "POSITIVE"
    ANY = "ANY"


class CostMethod(StrEnum):
    """Which method's figures are the plain ones."""

    AVERAGE = "AVERAGE"
    LOTS = "LOTS"


class LotMethod(StrEnum):
    """Which lot a reducing fill takes first."""

    FIFO = "FIFO"
    LIFO = "LIFO"
    HIFO = "HIFO"


class SizeAuthority(StrEnum):
    """Who decides how large a position is."""

    FILLS = "FILLS"
    LATEST = "LATEST"
    VENUE = "VENUE"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortfolioGroup:
    """The part of one instrument or one book in a portfolio."""

    name: str
    exposure: Decimal
    unrealized_pnl: Decimal
    realized_pnl: Decimal
    quantity: Decimal
    open_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrencyPortfolio:
    """The positions that settle in one currency, summed."""

    settle_currency: str
    gross_exposure: Decimal
    net_exposure: Decimal
    long_exposure: Decimal
    short_exposure: Decimal
    value: Decimal
    unrealized_pnl: Decimal
    realized_pnl: Decimal
    gross_realized_pnl: Decimal
    fees: Decimal
    funding: Decimal
    net_realized_pnl: Decimal
    total_pnl: Decimal
    fees_complete: bool
    open_count: int
    long_count: int
    short_count: int
    by_instrument: tuple[PortfolioGroup, ...]
    by_book: tuple[PortfolioGroup, ...]
    stale_prices: tuple[str, ...]
    missing_prices: tuple[str, ...]
    complete: bool
    calculated_at: datetime
    limit_exceeded: LimitState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrencyExposure:
    """The exposure of one settle currency."""

    settle_currency: str
    gross_exposure: Decimal
    net_exposure: Decimal
    long_exposure: Decimal
    short_exposure: Decimal
    open_count: int
    long_count: int
    short_count: int
    by_instrument: tuple[PortfolioGroup, ...]
    by_book: tuple[PortfolioGroup, ...]
    stale_prices: tuple[str, ...]
    missing_prices: tuple[str, ...]
    complete: bool
    calculated_at: datetime
    limit_exceeded: LimitState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrencyPnl:
    """The profit and loss of one settle currency."""

    settle_currency: str
    gross_realized_pnl: Decimal
    fees: Decimal
    funding: Decimal
    realized_pnl: Decimal
    net_realized_pnl: Decimal
    unrealized_pnl: Decimal
    total_pnl: Decimal
    fees_complete: bool
    by_instrument: tuple[PortfolioGroup, ...]
    by_book: tuple[PortfolioGroup, ...]
    stale_prices: tuple[str, ...]
    missing_prices: tuple[str, ...]
    complete: bool
    calculated_at: datetime
    limit_exceeded: LimitState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """Completed round trips of one settle currency, counted and summed."""

    settle_currency: str
    net_pnl: Decimal
    gross_pnl: Decimal
    fees: Decimal
    funding: Decimal
    total_trades: int
    winning_trades: int
    losing_trades: int
    scratch_trades: int
    win_rate: Decimal
    fees_complete: bool


@dataclass(frozen=True, slots=True)
class CalendarDay:
    """Trading days from local midnight to the next."""

    time_zone: str = ""


@dataclass(frozen=True, slots=True)
class SessionDay:
    """Trading days that end when the session closes."""

    close_time: str = ""
    """`HH:MM`, local."""
    time_zone: str = ""
    weekdays_only: bool | None = None


@dataclass(frozen=True, slots=True)
class DayRule:
    """How instants are given to trading days: exactly one of the two."""

    calendar: CalendarDay | None = None
    session: SessionDay | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who holds positions, and how its figures are reckoned. The last fields are the service's."""

    account: str
    cost_method: CostMethod | None = None
    lot_method: LotMethod | None = None
    size_authority: SizeAuthority | None = None
    time_zone: str = ""
    day_rule: DayRule | None = None
    sealed_before: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    version: int = 0
    etag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """What is traded, and how its price becomes money. The last fields are the service's."""

    instrument: str
    kind: InstrumentKind
    multiplier: Decimal
    quote_currency: str
    settle_currency: str = ""
    price_rule: PriceRule | None = None
    root: bool = False
    has_fills: bool = False
    created_at: datetime | None = None
    updated_at: datetime | None = None
    version: int = 0
    etag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkRejection:
    """Why a price could not be taken."""

    index: int
    instrument: str
    field: str
    message: str
