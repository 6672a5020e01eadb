"""What the service keeps and is given, as users hold it: fills, adjustments, positions, round trips.

Names and meanings are those of the contract (`protos/steelyard/v1`), which says more about each field. Money is in
settle currency, quantities of positions are signed, times are aware UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


class Side(StrEnum):
    """Which side an execution is on."""

    BUY = "BUY"
    SELL = "SELL"


class Leg(StrEnum):
    """NET in one-way mode, LONG and SHORT in hedge mode."""

    NET = "NET"
    LONG = "LONG"
    SHORT = "SHORT"


class PositionMode(StrEnum):
    """How the account trades an instrument."""

    ONE_WAY = "ONE_WAY"
    HEDGE = "HEDGE"


class PositionSide(StrEnum):
    """The sign of a quantity, in words."""

    FLAT = "FLAT"
    LONG = "LONG"
    SHORT = "SHORT"


class PositionView(StrEnum):
    """How much of a position is told."""

    BASIC = "BASIC"
    FULL = "FULL"


class FiguresState(StrEnum):
    """Whether figures may be relied on."""

    CURRENT = "CURRENT"
    REFOLDING = "REFOLDING"


class MarkState(StrEnum):
    """How much a mark may be relied on."""

    FRESH = "FRESH"
    STALE = "STALE"
    MISSING = "MISSING"


class Direction(StrEnum):
    """Which way a round trip was entered."""

    LONG = "LONG"
    SHORT = "SHORT"


class RoundTripState(StrEnum):
    """Whether a round trip has come back to zero."""

    OPEN = "OPEN"
    CLOSED = "CLOSED"


class FillRelation(StrEnum):
    """What a fill did to a round trip."""

    OPENED = "OPENED"
    INCREASED = "INCREASED"
    DECREASED = "DECREASED"
    CLOSED = "CLOSED"
    REVERSED = "REVERSED"


class AdjustmentKind(StrEnum):
    """Why an entry exists that is no execution."""

    FUNDING = "FUNDING"
    OPENING = "OPENING"
    TRANSFER = "TRANSFER"
    SETTLEMENT = "SETTLEMENT"
    CORRECTION = "CORRECTION"


class PositionEventCause(StrEnum):
    """Why a position has a new version."""

    FILL = "FILL"
    ADJUSTMENT = "ADJUSTMENT"
    BUILD = "BUILD"
    REFOLD = "REFOLD"
    ROLLBACK = "ROLLBACK"
    RECONCILE = "RECONCILE"


class FillOrder(StrEnum):
    """In which order fills are listed."""

    NEWEST_FIRST = "NEWEST_FIRST"
    OLDEST_FIRST = "OLDEST_FIRST"


@dataclass(frozen=True, slots=True)
class PositionKey:
    """What a position is held under."""

    account: str
    instrument: str
    book: str = "main"
    leg: Leg = Leg.NET


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One execution, unique by (account, fill_id). The last fields are the service's and ignored when it is sent."""

    fill_id: str
    account: str
    instrument: str
    side: Side
    quantity: Decimal
    """Unsigned."""
    price: Decimal
    executed_at: datetime
    book: str = "main"
    leg: Leg = Leg.NET
    fee: Decimal | None = None
    """What was paid; negative is a rebate."""
    fee_currency: str | None = None
    fee_rate: Decimal | None = None
    """Settle currency per unit of fee currency."""
    source_sequence: int | None = None
    order_id: str | None = None
    note: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    revision: int = 1
    busted: bool = False
    recorded_at: datetime | None = None
    applied_version: int | None = None
    import_id: str | None = None
    pending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """An entry that is no execution: FUNDING has an amount, the others set quantity, average or both."""

    key: PositionKey
    kind: AdjustmentKind
    effective_at: datetime
    adjustment_id: str | None = None
    quantity: Decimal | None = None
    average_price: Decimal | None = None
    amount: Decimal | None = None
    """Positive was received."""
    note: str | None = None
    source_sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """The latest price of an instrument, with its own time and source."""

    instrument: str
    price: Decimal | None = None
    at: datetime | None = None
    source: str = ""
    state: MarkState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodFigures:
    """What one cost method makes of the same entries."""

    average_price: Decimal | None
    cost: Decimal
    gross_realized_pnl: Decimal
    realized_pnl: Decimal
    net_realized_pnl: Decimal
    unrealized_pnl: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleFigures:
    """The round trip that is open, else the last one."""

    trip_id: str
    direction: Direction
    gross_realized_pnl: Decimal
    fees: Decimal
    funding: Decimal
    realized_pnl: Decimal
    net_realized_pnl: Decimal
    max_quantity: Decimal
    fill_count: int
    opened_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionFeatures:
    """Ratios that models read."""

    unrealized_pnl_pct: Decimal | None
    time_held_minutes: int | None
    position_size_norm: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueFigures:
    """What the venue itself last said of a position."""

    quantity: Decimal | None
    average_price: Decimal | None
    unrealized_pnl: Decimal | None
    realized_pnl: Decimal | None
    reported_at: datetime | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The current holding of a key. Plain figures are by the account's cost method, over the life of the position."""

    name: str
    account: str
    book: str
    instrument: str
    leg: Leg
    mode: PositionMode
    side: PositionSide
    quantity: Decimal
    unmatched_quantity: Decimal
    average_price: Decimal | None
    cost: Decimal
    gross_realized_pnl: Decimal
    fees: Decimal
    funding: Decimal
    realized_pnl: Decimal
    net_realized_pnl: Decimal
    total_pnl: Decimal | None
    unvalued_fees: dict[str, Decimal]
    fees_complete: bool
    unrealized_pnl: Decimal | None
    notional: Decimal | None
    exposure: Decimal | None
    mark: Mark | None
    average: MethodFigures | None
    lots: MethodFigures | None
    cycle: CycleFigures | None
    features: PositionFeatures | None
    venue: VenueFigures | None
    figures_state: FiguresState
    settle_currency: str
    created_at: datetime | None
    opened_at: datetime | None
    closed_at: datetime | None
    last_fill_at: datetime | None
    last_snapshot_at: datetime | None
    updated_at: datetime | None
    fill_count: int
    version: int
    etag: str
    labels: dict[str, str]
    annotation_etag: str
    notes: str | None = None


class VenueReportOutcome(StrEnum):
    """What a venue's report came to."""

    APPLIED = "APPLIED"
    UNCHANGED = "UNCHANGED"
    OUTDATED = "OUTDATED"


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueReport:
    """What a venue says of a position; what it does not say is None, and never zero."""

    key: PositionKey
    quantity: Decimal
    """Signed; 0: flat."""
    average_price: Decimal | None = None
    unrealized_pnl: Decimal | None = None
    realized_pnl: Decimal | None = None
    """Cumulative, all-time per instrument."""
    mark_price: Decimal | None = None
    reported_at: datetime | None = None
    """The report's own time; None: it has none, and is only compared."""
    source: str = "venue"


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionAnnotations:
    """What people say about a position; it never steps the position's version."""

    labels: dict[str, str]
    notes: str | None
    annotation_etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lot:
    """The still open part of an opening fill."""

    fill_id: str
    opened_at: datetime
    quantity: Decimal
    original_quantity: Decimal
    price: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionEvent:
    """One version of a position: why it came to be, and what it was."""

    key: PositionKey
    version: int
    seq: int
    cause: PositionEventCause
    cause_id: str
    fill_ids: tuple[str, ...]
    fill_count: int
    committed_at: datetime
    position: Position | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTrip:
    """One cycle 0 -> +/- -> 0 of a position; quantities are unsigned."""

    trip_id: str
    key: PositionKey
    direction: Direction
    state: RoundTripState
    entered_quantity: Decimal
    exited_quantity: Decimal
    open_quantity: Decimal
    max_quantity: Decimal
    average_entry_price: Decimal | None
    average_exit_price: Decimal | None
    points_per_contract: Decimal | None
    points_weighted: Decimal
    gross_realized_pnl: Decimal
    fees: Decimal
    funding: Decimal
    realized_pnl: Decimal
    net_realized_pnl: Decimal
    gross_realized_pnl_average: Decimal
    gross_realized_pnl_lots: Decimal
    fees_complete: bool
    unvalued_fees: dict[str, Decimal]
    adjusted: bool
    opened_at: datetime
    closed_at: datetime | None
    fill_count: int
    settle_currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FillInTrip:
    """A fill's part in a round trip."""

    fill_id: str
    relation: FillRelation
    quantity: Decimal
    price: Decimal
    executed_at: datetime
    fee: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionPair:
    """An exit matched with an entry."""

    entry_fill_id: str
    exit_fill_id: str
    quantity: Decimal
    entry_price: Decimal
    exit_price: Decimal
    gross_pnl: Decimal
    entry_fee: Decimal
    exit_fee: Decimal
