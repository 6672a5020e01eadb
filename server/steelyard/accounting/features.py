"""Features of one position, as models read them; all from one consistent read (DOMAIN 9)."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from steelyard.accounting.instruments import Instrument, InstrumentKind
from steelyard.accounting.units import Ratio, exactly, ratio_of

_MINUTE = timedelta(minutes=1)
_PERCENT = Decimal(100)


@exactly
def unrealized_pnl_pct(
    instrument: Instrument, *, quantity: Decimal, average_price: Decimal | None, unrealized_pnl: Decimal | None
) -> Ratio | None:
    """Unrealized PnL in percent of what the holding cost at its average, to 18 places.

    Linear: u / (|q| x average x m) x 100; inverse: u / (|q| x m / average) x 100. None when flat, without a mark, or
    where the average is zero (possible only where any price is legal).
    """
    if not quantity or not average_price or unrealized_pnl is None:
        return None
    size = abs(quantity) * instrument.multiplier
    if instrument.kind is InstrumentKind.LINEAR:
        return ratio_of(unrealized_pnl * _PERCENT, size * average_price)
    return ratio_of(unrealized_pnl * _PERCENT * average_price, size)


def time_held_minutes(*, opened_at: datetime | None, closed_at: datetime | None, now: datetime) -> int | None:
    """Whole minutes, rounded down, that the current trip has been open or the last one was; None without a trip."""
    if opened_at is None:
        return None
    return ((now if closed_at is None else closed_at) - opened_at) // _MINUTE


@exactly
def position_size_norm(notional: Decimal | None, *, gross_exposure: Decimal) -> Ratio | None:
    """A position's share of the gross exposure of its settle currency, 0 to 1, to 18 places.

    None without a mark and where there is no exposure. Over all open marked positions the shares add up to 1.
    """
    if notional is None or not gross_exposure:
        return None
    return ratio_of(abs(notional), gross_exposure)
