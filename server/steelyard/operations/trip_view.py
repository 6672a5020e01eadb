"""A round trip as it is told: the stored trip read by its account's cost method."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from steelyard.accounting.instruments import Instrument
from steelyard.accounting.keys import PositionKey, TripId
from steelyard.accounting.lots import LotMethod
from steelyard.accounting.round_trips import CostMethod, RoundTrip, points_of


@dataclass(frozen=True, slots=True, kw_only=True)
class TripView:
    """A round trip with the records that give its numbers meaning. Money is in settle currency."""

    key: PositionKey
    trip_id: TripId
    trip: RoundTrip
    instrument: Instrument
    cost_method: CostMethod = CostMethod.AVERAGE
    lot_method: LotMethod = LotMethod.FIFO

    @property
    def average_entry_price(self) -> Decimal | None:
        """Over all that was entered, 18 places; None where nothing was."""
        return self.trip.average_entry_price(self.instrument)

    @property
    def average_exit_price(self) -> Decimal | None:
        """Over all that was exited, 18 places; None while the trip is open and where fills exited nothing."""
        return None if self.trip.is_open else self.trip.average_exit_price(self.instrument)

    @property
    def points(self) -> tuple[Decimal, Decimal | None]:
        """(weighted by quantity, per contract): gross / multiplier, and that per exited quantity."""
        return points_of(self.trip, self.instrument, self.cost_method)

    @property
    def gross_realized_pnl(self) -> Decimal:
        """By price alone."""
        return self.trip.sums.gross(self.cost_method)

    @property
    def realized_pnl(self) -> Decimal:
        """Gross less the fee shares of reducing parts."""
        return self.trip.sums.realized(self.cost_method)

    @property
    def net_realized_pnl(self) -> Decimal:
        """Gross less all valued fees plus funding."""
        return self.trip.sums.net(self.cost_method)

    @property
    def closed_at(self) -> datetime | None:
        """When it came back to zero; None while it is open."""
        return self.trip.closed_at
