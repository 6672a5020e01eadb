"""Reports of venues that callers bring: out of the contract, and what they came to, into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from steelyard.accounting.errors import InvalidField
from steelyard.accounting.keys import Leg
from steelyard.accounting.units import ZERO
from steelyard.accounting.venue_report import DiscrepancyKind, VenueReport
from steelyard.operations.feed_messages import FeedOutcome
from steelyard.operations.report_venue_position import VenueReportAnswer
from steelyard.rpc import decode
from steelyard.v1 import position_service_pb2

SOURCE_MAX = 64
DEFAULT_SOURCE = "venue"
OUTCOMES: Mapping[FeedOutcome, position_service_pb2.VenueReportOutcome.ValueType] = {
    FeedOutcome.APPLIED: position_service_pb2.VENUE_REPORT_OUTCOME_APPLIED,
    FeedOutcome.UNCHANGED: position_service_pb2.VENUE_REPORT_OUTCOME_UNCHANGED,
    FeedOutcome.OUTDATED: position_service_pb2.VENUE_REPORT_OUTCOME_OUTDATED,
}
_SENT_AS = {"size": "quantity", "timestamp": "reported_at"}
"""Fields of the domain's report that have another name in the request."""


def report(request: position_service_pb2.ReportVenuePositionRequest) -> VenueReport:
    """What the venue says. Raises `InvalidField`."""
    key = decode.position_key(request.key)
    quantity = decode.decimal(request.quantity, field="quantity")
    if (key.leg is Leg.LONG and quantity < 0) or (key.leg is Leg.SHORT and quantity > 0):
        raise InvalidField("quantity", f"has not the sign of a {key.leg} leg")
    return VenueReport(
        key=key,
        size=quantity.copy_abs(),
        quantity=quantity,
        average_price=_said(request, "average_price"),
        reported_at=decode.optional_timestamp(request, "reported_at"),
        unrealized_pnl=_said(request, "unrealized_pnl"),
        realized_pnl=_said(request, "realized_pnl"),
        mark_price=_said(request, "mark_price"),
        source=decode.printable(request.source, SOURCE_MAX, field="source") or DEFAULT_SOURCE,
    )


def _said(request: Any, name: str) -> Decimal | None:
    return decode.decimal(getattr(request, name), field=name) if request.HasField(name) else None


@contextmanager
def named_as_sent(request: position_service_pb2.ReportVenuePositionRequest) -> Iterator[None]:
    """Runs a block whose complaints name fields of the domain's report: they come out under the request's names."""
    try:
        yield
    except InvalidField as error:
        name = _SENT_AS.get(error.field, error.field)
        if name == "price":
            average = _said(request, "average_price")
            name = "average_price" if average is not None and average <= ZERO else "mark_price"
        raise InvalidField(name, error.why) from error


def answer(told: VenueReportAnswer) -> dict[str, Any]:
    """The fields of an answer that say what the report came to."""
    return {
        "outcome": OUTCOMES[told.outcome],
        "version": told.version,
        "size_differs": DiscrepancyKind.SIZE.value in told.discrepancies,
        "average_differs": DiscrepancyKind.AVERAGE.value in told.discrepancies,
        "replayed": told.is_replayed,
    }
