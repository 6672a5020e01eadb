"""A position as of a time beside the oracle's, as values to compare."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

from steelyard.accounting.round_trips import CostMethod
from steelyard.operations.read_as_of import PositionAsOf
from tests.oracle import OraclePosition, half_even, microseconds

PLACES = 30
"""To which the laws hold of inverse contracts; linear ones are far coarser than this, so exact."""


def _told(value: Fraction) -> Fraction:
    return half_even(value, PLACES)


def told(found: PositionAsOf) -> dict[str, Any]:
    """What the service says, exactly."""
    row = found.view.row
    figures = {method: found.view.figures(method) for method in CostMethod}
    return {
        "quantity": Fraction(row.quantity),
        "unmatched": Fraction(row.lifetime.unmatched),
        "fees": Fraction(row.lifetime.fees),
        "funding": Fraction(row.lifetime.funding),
        "unvalued": {name: Fraction(amount) for name, amount in row.lifetime.unvalued_fees},
        "fills": row.lifetime.fill_count,
        "opened_at": None if row.opened_at is None else microseconds(row.opened_at),
        "closed_at": None if row.closed_at is None else microseconds(row.closed_at),
        "average": _exact(figures[CostMethod.AVERAGE].average_price),
        "methods": [
            tuple(
                _told(Fraction(value))
                for value in (of.cost, of.gross_realized_pnl, of.realized_pnl, of.net_realized_pnl)
            )
            for of in figures.values()
        ],
        "trip": None if row.trip is None else _trip_told(row),
    }


# A trip's fees are left out: the oracle gives the excess of a leg to no trip, the service to the one it meets.
def _trip_told(row: Any) -> tuple[Any, ...]:
    trip = row.trip
    numbers = (trip.entered_quantity, trip.exited_quantity, trip.max_quantity, trip.sums.funding)
    return (trip.opened.entry_id, trip.direction.value, *map(Fraction, numbers))


def of_oracle(position: OraclePosition) -> dict[str, Any]:
    """The same of the oracle."""
    trip = position.trips[-1] if position.trips else None
    return {
        "quantity": position.quantity,
        "unmatched": position.unmatched_quantity,
        "fees": position.fees,
        "funding": position.funding,
        "unvalued": {name: amount for name, amount in position.unvalued_fees.items() if amount},
        "fills": position.fill_count,
        "opened_at": position.opened_at,
        "closed_at": position.closed_at,
        "average": position.figures["AVERAGE"].average,
        "methods": [
            tuple(map(_told, (of.cost, of.gross_realized_pnl, of.realized_pnl, of.net_realized_pnl)))
            for of in (position.figures["AVERAGE"], position.figures["FIFO"])
        ],
        "trip": None
        if trip is None
        else (
            *(trip.first_entry_id, trip.direction.upper(), trip.entered_quantity),
            *(trip.exited_quantity, trip.max_quantity, trip.funding),
        ),
    }


def _exact(value: Decimal | None) -> Fraction | None:
    return None if value is None else Fraction(value)
