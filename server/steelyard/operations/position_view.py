"""A position as it is told: the stored row read at a mark and a moment, by the account's cost method or by both.

The plain figures are those of the account's cost method. Marks are joined here and never stored with a position.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from steelyard.accounting.features import position_size_norm, time_held_minutes, unrealized_pnl_pct
from steelyard.accounting.instruments import Instrument, average_price, notional
from steelyard.accounting.keys import PositionKey
from steelyard.accounting.marks import Mark, MarkState
from steelyard.accounting.portfolio import PortfolioRow
from steelyard.accounting.position import FiguresState, unrealized_at
from steelyard.accounting.round_trips import NO_SUMS, CostMethod, RoundTrip, Sums
from steelyard.accounting.units import ZERO, Ratio, exactly


class Detail(StrEnum):
    """How much of a position is read: BASIC leaves out the current trip and the account's exposure."""

    BASIC = "BASIC"
    FULL = "FULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueFigures:
    """What the venue itself last said of a position; None where it did not say. Never added to figures of fills."""

    quantity: Decimal | None
    """Signed."""
    average_price: Decimal | None
    unrealized_pnl: Decimal | None
    realized_pnl: Decimal | None
    """Cumulative, all-time for the instrument."""
    reported_at: datetime | None
    """The newest report's own time."""
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionRow:
    """A position as it is stored, with the instrument, account and mark that give its numbers meaning."""

    key: PositionKey
    instrument: Instrument
    cost_method: CostMethod = CostMethod.AVERAGE
    version: int
    quantity: Decimal
    """Signed, as folded."""
    cost_average: Decimal = ZERO
    """Before scale."""
    average_price: Decimal | None = None
    cost_lots: Decimal = ZERO
    """Before scale."""
    lifetime: Sums = NO_SUMS
    trip: RoundTrip | None = None
    """The current, else the last trip; left out in BASIC detail."""
    figures_state: FiguresState = FiguresState.CURRENT
    pending_quantity: Decimal = ZERO
    """What entries bring that are counted but not folded yet (REFOLDING)."""
    pending_fees: Decimal = ZERO
    pending_fills: int = 0
    opened_at: datetime | None = None
    closed_at: datetime | None = None
    last_fill_at: datetime | None = None
    last_snapshot_at: datetime | None = None
    created_at: datetime
    updated_at: datetime
    labels: Mapping[str, str] = field(default_factory=dict)
    notes: str | None = None
    annotation_version: int = 0
    mark: Mark | None = None
    venue: VenueFigures | None = None
    """Left out in BASIC detail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodFigures:
    """What one cost method makes of a position, in settle currency, over its life."""

    average_price: Decimal | None
    cost: Decimal
    gross_realized_pnl: Decimal
    realized_pnl: Decimal
    net_realized_pnl: Decimal
    unrealized_pnl: Decimal | None

    @property
    @exactly
    def total_pnl(self) -> Decimal | None:
        """Realized plus unrealized; None where that is."""
        return None if self.unrealized_pnl is None else self.realized_pnl + self.unrealized_pnl


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionFeatures:
    """Ratios of one consistent read."""

    unrealized_pnl_pct: Ratio | None
    time_held_minutes: int | None
    position_size_norm: Ratio | None


@dataclass(frozen=True, slots=True)
class PositionView:
    """A position read at `now`."""

    row: PositionRow
    now: datetime
    mark_state: MarkState
    gross_exposure: Decimal | None = None
    """Of its account and settle currency; only in FULL detail."""

    @property
    @exactly
    def quantity(self) -> Decimal:
        """Signed; counts also what waits for a refold."""
        return self.row.quantity + self.row.pending_quantity

    @property
    @exactly
    def fees(self) -> Decimal:
        """All valued fees, also of what waits for a refold."""
        return self.row.lifetime.fees + self.row.pending_fees

    @property
    def fill_count(self) -> int:
        """Fills that count, also those that wait for a refold."""
        return self.row.lifetime.fill_count + self.row.pending_fills

    @property
    def notional(self) -> Decimal | None:
        """Signed worth at the mark in settle currency; None without a mark, 0 when flat."""
        if not self.quantity:
            return ZERO
        mark = self.row.mark
        return None if mark is None else notional(self.row.instrument, self.quantity, mark.price)

    @exactly
    def figures(self, method: CostMethod | None = None) -> MethodFigures:
        """The figures by a cost method; by default those of the account's own."""
        row, chosen = self.row, method or self.row.cost_method
        sums, instrument = row.lifetime, row.instrument
        is_average = chosen is CostMethod.AVERAGE
        raw_cost = row.cost_average if is_average else row.cost_lots
        average = row.average_price
        if row.quantity and not is_average:
            average = average_price(instrument, row.quantity, raw_cost)
        cost = raw_cost * instrument.scale
        price = None if row.mark is None else row.mark.price
        return MethodFigures(
            average_price=average,
            cost=cost,
            gross_realized_pnl=sums.gross(chosen),
            realized_pnl=sums.realized(chosen),
            net_realized_pnl=sums.net(chosen) - row.pending_fees,
            # What waits for a refold has no cost yet, so it has no part in this either.
            unrealized_pnl=unrealized_at(instrument, quantity=row.quantity, cost=cost, mark=price),
        )

    def features(self) -> PositionFeatures:
        """Ratios that models read."""
        row, figures = self.row, self.figures()
        return PositionFeatures(
            unrealized_pnl_pct=unrealized_pnl_pct(
                row.instrument,
                quantity=row.quantity,
                average_price=figures.average_price,
                unrealized_pnl=figures.unrealized_pnl,
            ),
            time_held_minutes=time_held_minutes(opened_at=row.opened_at, closed_at=row.closed_at, now=self.now),
            position_size_norm=position_size_norm(self.notional, gross_exposure=self.gross_exposure or ZERO),
        )

    def portfolio_row(self) -> PortfolioRow:
        """The position as a portfolio adds it up."""
        row, figures = self.row, self.figures()
        return PortfolioRow(
            key=row.key,
            instrument=row.instrument,
            quantity=self.quantity,
            cost=figures.cost,
            average_price=figures.average_price,
            gross_realized_pnl=figures.gross_realized_pnl,
            realized_pnl=figures.realized_pnl,
            net_realized_pnl=figures.net_realized_pnl,
            fees=self.fees,
            funding=row.lifetime.funding,
            fees_complete=row.lifetime.fees_complete,
            opened_at=row.opened_at,
            closed_at=row.closed_at,
            mark=row.mark,
            mark_state=self.mark_state,
        )
