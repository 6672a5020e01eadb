"""Limits, breaches and checked orders, as users hold them.

Names and meanings are those of the contract (`protos/steelyard/v1`), which says more about each field. Money is in
settle currency.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from steelyard.client.records import FiguresState, Leg, Side


class LimitKind(StrEnum):
    """What a limit bounds."""

    GROSS_EXPOSURE = "GROSS_EXPOSURE"
    NET_EXPOSURE = "NET_EXPOSURE"
    INSTRUMENT_EXPOSURE = "INSTRUMENT_EXPOSURE"
    LOSS_PER_DAY = "LOSS_PER_DAY"


class LimitState(StrEnum):
    """Where a value stands against its limit."""

    WITHIN = "WITHIN"
    EXCEEDED = "EXCEEDED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of an account in one settle currency; None: no such limit. The last fields are the service's."""

    account: str
    settle_currency: str
    gross_exposure_max: Decimal | None = None
    net_exposure_max: Decimal | None = None
    instrument_exposure_max: Decimal | None = None
    """Of each instrument that has no limit of its own."""
    instrument_exposures_max: dict[str, Decimal] = field(default_factory=dict)
    day_loss_max: Decimal | None = None
    """Positive."""
    counts_unrealized: bool = False
    """Whether the unrealized PnL of what is open counts in the loss of the day."""
    created_at: datetime | None = None
    updated_at: datetime | None = None
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitCheck:
    """One limit, and where the value stands; a loss of the day is positive."""

    kind: LimitKind
    instrument: str | None
    limit: Decimal
    value: Decimal
    state: LimitState


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrencyLimits:
    """The limits of an account in one settle currency, and where it stands against each."""

    limits: Limits
    limit_exceeded: LimitState
    checks: tuple[LimitCheck, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitBreach:
    """A limit that was exceeded, until it was seen back within."""

    breach_id: str
    account: str
    settle_currency: str
    kind: LimitKind
    instrument: str | None
    limit: Decimal
    opened_value: Decimal
    opened_seq: int
    opened_at: datetime
    closed_value: Decimal | None
    closed_seq: int | None
    closed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order that is asked about, or one that is working; without a price it fills at the mark."""

    account: str
    instrument: str
    side: Side
    quantity: Decimal
    price: Decimal | None = None
    book: str = "main"
    leg: Leg = Leg.NET
    fee: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderOutcome:
    """A position before and after an order."""

    price: Decimal
    quantity_before: Decimal
    quantity_after: Decimal
    average_price_before: Decimal | None
    average_price_after: Decimal | None
    gross_realized_pnl: Decimal
    realized_pnl: Decimal
    net_realized_pnl: Decimal
    unrealized_pnl_before: Decimal | None
    unrealized_pnl_after: Decimal | None
    unmatched_quantity: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskFigures:
    """What limits are held against; net exposure lies between the low and the high one."""

    gross_exposure: Decimal
    net_exposure_low: Decimal
    net_exposure_high: Decimal
    instrument_exposure: Decimal
    unrealized_pnl: Decimal
    day_net_realized_pnl: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCheck:
    """What an order would do: now, after it alone, and in the worst case over the working orders."""

    within_limits: bool
    settle_currency: str
    outcome: OrderOutcome
    now: RiskFigures
    filled: RiskFigures
    worst: RiskFigures
    would_exceed: tuple[LimitCheck, ...]
    would_worsen: tuple[LimitCheck, ...]
    checks: tuple[LimitCheck, ...]
    position_version: int
    figures_state: FiguresState
    stale_prices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsChange:
    """The limits as a write left them."""

    limits: Limits
    replayed: bool
