"""What an exchange says a position is, against what its fills say (DOMAIN 7).

A report that may set the position becomes an entry of the fold at its own time; all others are only compared. A report
that finds nothing to change leaves no trace in the fold, but the newest such report stays among the entries: a fill
that arrives late, executed before it, is then absorbed instead of counted twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from steelyard.accounting.entries import Adjustment, AdjustmentKind, check_price, check_time
from steelyard.accounting.errors import InvalidField, NumericLimit
from steelyard.accounting.instruments import Instrument, value_of
from steelyard.accounting.keys import FillId, Leg, PositionKey
from steelyard.accounting.units import NOTIONAL_LIMIT, ZERO, exactly

AVERAGE_TOLERANCE = Decimal("0.001")
"""A reported average replaces the stored one only if it differs by strictly more than this part of it."""
SIZE_TOLERANCE = Decimal("0.0001")
"""Sizes that differ by more than this are a discrepancy (default of a setting)."""
TIME_TOLERANCE = timedelta(seconds=1)
"""LATEST: how long after a fill a report may still not know of it (default of a setting)."""
VENUE_SEQUENCE = -2_000_000_000
"""Where reports stand among entries of the same microsecond: before every fill, so at equal times the fill wins."""


class SizeAuthority(StrEnum):
    """Who says what an account holds.

    FILLS: reports are only compared. LATEST: a report sets the position unless a fill is as new. VENUE: every report
    sets it. A report without a time of its own, or that leaves open whether it means long or short, is only compared.
    """

    FILLS = "FILLS"
    LATEST = "LATEST"
    VENUE = "VENUE"


class DiscrepancyKind(StrEnum):
    """In what a report and the book differ."""

    SIZE = "SIZE"
    AVERAGE = "AVERAGE"


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueReport:
    """What a venue says; what it does not say is None, and never zero."""

    key: PositionKey
    size: Decimal
    """Unsigned."""
    quantity: Decimal | None
    """Signed; None where the report does not say whether it is long or short."""
    average_price: Decimal | None = None
    reported_at: datetime | None = None
    """The report's own time; None: it had none."""
    unrealized_pnl: Decimal | None = None
    realized_pnl: Decimal | None = None
    """Cumulative, all-time for the symbol; never added to figures from fills."""
    mark_price: Decimal | None = None
    source: str = "venue"


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a report and the book differ, by more than the tolerance."""

    kind: DiscrepancyKind
    ours: Decimal | None
    theirs: Decimal | None


@exactly
def replaces_average(*, stored: Decimal, reported: Decimal) -> bool:
    """|reported - stored| / stored > 0.001, strictly: 50000 against 50050 keeps, 50050.01 replaces."""
    return abs(reported - stored) > AVERAGE_TOLERANCE * abs(stored)


def sets_position(
    report: VenueReport, *, authority: SizeAuthority, last_fill_at: datetime | None, tolerance: timedelta
) -> bool:
    """Whether a report may set the position at its own time.

    `last_fill_at` is the newest fill executed at or before the report's time. LATEST wants the report stamped later
    than that fill plus `tolerance`: one that comes right after a fill may not know of it yet.
    """
    if report.reported_at is None or report.quantity is None or authority is SizeAuthority.FILLS:
        return False
    if authority is SizeAuthority.VENUE or last_fill_at is None:
        return True
    return report.reported_at > last_fill_at + tolerance


@exactly
def fits_leg(report: VenueReport, *, elsewhere: Decimal) -> bool:
    """Whether the reported leg can hold what other books of the account leave of it: a LONG leg holds nothing negative.

    Where it cannot, another book is wrong, and which one is not ours to say.
    """
    rest = ZERO if report.quantity is None else report.quantity - elsewhere
    return not ((report.key.leg is Leg.LONG and rest < 0) or (report.key.leg is Leg.SHORT and rest > 0))


@exactly
def differences(
    report: VenueReport, *, quantity: Decimal, average: Decimal | None, size_tolerance: Decimal = SIZE_TOLERANCE
) -> tuple[Difference, ...]:
    """Where a report differs from a held quantity (signed) and average. Averages are compared only where sizes agree.

    A report that leaves its direction open is compared by size alone.
    """
    ours = abs(quantity) if report.quantity is None else quantity
    theirs = report.size if report.quantity is None else report.quantity
    if abs(ours - theirs) > size_tolerance:
        return (Difference(DiscrepancyKind.SIZE, ours, theirs),)
    if average is None or report.average_price is None:
        return ()
    if replaces_average(stored=average, reported=report.average_price):
        return (Difference(DiscrepancyKind.AVERAGE, average, report.average_price),)
    return ()


def venue_entry(report: VenueReport, *, entry_id: FillId, elsewhere: Decimal, tie: int) -> Adjustment:
    """The entry that a report becomes where it may set the position.

    `elsewhere` is what the account's other books hold of the same leg: the reported book holds the rest of what the
    venue sees, and the venue's average is then nobody's unless the book has none of its own. `tie` counts earlier
    reports of the same microsecond.
    """
    assert report.reported_at is not None
    assert report.quantity is not None
    quantity = _rest(report.quantity, elsewhere)
    return Adjustment(
        key=report.key,
        adjustment_id=entry_id,
        kind=AdjustmentKind.VENUE,
        effective_at=report.reported_at,
        quantity=quantity,
        average_price=report.average_price if quantity else None,
        source_sequence=VENUE_SEQUENCE + tie,
    )


@exactly
def _rest(quantity: Decimal, elsewhere: Decimal) -> Decimal:
    return quantity - elsewhere


@exactly
def check_report(report: VenueReport, instrument: Instrument, *, now: datetime) -> None:
    """Refuses a report whose numbers cannot be right. Raises `InvalidField` or `NumericLimit`."""
    if report.size < 0:
        raise InvalidField("size", "must not be negative")
    if report.reported_at is not None:
        check_time(report.reported_at, field="timestamp", now=now)
    if report.average_price is not None:
        if report.size == 0:
            raise InvalidField("average_price", "a flat position has none")
        check_price(report.average_price, instrument)
        if abs(value_of(instrument, report.size, report.average_price) * instrument.scale) >= NOTIONAL_LIMIT:
            raise NumericLimit("size x average price x multiplier is 1e20 or more")
    for field in ("unrealized_pnl", "realized_pnl", "mark_price"):
        if abs(getattr(report, field) or ZERO) >= NOTIONAL_LIMIT:
            raise NumericLimit(f"{field} is 1e20 or more")
    if report.mark_price is not None:
        check_price(report.mark_price, instrument)
