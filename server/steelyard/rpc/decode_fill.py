"""Fills and adjustments as callers send them, into domain values; every complaint names the field by its full path."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from steelyard.accounting import keys
from steelyard.accounting.entries import NO_LABELS, Adjustment, AdjustmentKind, Fill, Side
from steelyard.accounting.errors import InvalidField
from steelyard.accounting.keys import Account, FillId, PositionKey
from steelyard.accounting.units import ZERO
from steelyard.operations.read_fills import FillFilter
from steelyard.rpc import decode, limits
from steelyard.v1 import common_pb2, fill_pb2, fill_service_pb2

SIDES: Mapping[int, Side] = {common_pb2.SIDE_BUY: Side.BUY, common_pb2.SIDE_SELL: Side.SELL}
ADJUSTMENT_KINDS: Mapping[int, AdjustmentKind] = {
    fill_pb2.ADJUSTMENT_KIND_FUNDING: AdjustmentKind.FUNDING,
    fill_pb2.ADJUSTMENT_KIND_OPENING: AdjustmentKind.OPENING,
    fill_pb2.ADJUSTMENT_KIND_TRANSFER: AdjustmentKind.TRANSFER,
    fill_pb2.ADJUSTMENT_KIND_SETTLEMENT: AdjustmentKind.SETTLEMENT,
    fill_pb2.ADJUSTMENT_KIND_CORRECTION: AdjustmentKind.CORRECTION,
}
FILL_ORDERS: Mapping[int, bool] = {
    fill_service_pb2.FILL_ORDER_UNSPECIFIED: False,
    fill_service_pb2.FILL_ORDER_NEWEST_FIRST: False,
    fill_service_pb2.FILL_ORDER_OLDEST_FIRST: True,
}
"""Whether the oldest comes first."""

VersionedRequest = fill_service_pb2.RecordFillRequest | fill_service_pb2.RecordAdjustmentRequest
"""A write that may name the version it means."""


def expected_version(request: VersionedRequest) -> int | None:
    """The version a write demands, given as a number or as an etag, never as both."""
    has_number, has_etag = request.HasField("expected_version"), request.HasField("etag")
    if has_number and has_etag:
        raise InvalidField("etag", "must not be given together with expected_version")
    if has_etag:
        return decode.version_of_etag(request.etag)
    return decode.version(request.expected_version) if has_number else None


def fill(message: fill_pb2.Fill, *, field: str) -> Fill:
    """A fill to record; output only fields are ignored. Raises `InvalidField`."""
    try:
        return _fill(message)
    except InvalidField as error:
        # The full path is put together only for a complaint: it costs as much as reading the numbers.
        raise InvalidField(f"{field}.{error.field}", error.why) from error


def _fill(message: fill_pb2.Fill) -> Fill:
    given = message.HasField
    return Fill(
        key=_key_of_fill(message),
        fill_id=keys.fill_id(message.fill_id, field="fill_id"),
        side=decode.choice(message.side, SIDES, field="side"),
        quantity=decode.positive(message.quantity, field="quantity"),
        price=decode.decimal(message.price, field="price"),
        executed_at=decode.required_timestamp(message, "executed_at", field="executed_at"),
        fee=decode.decimal(message.fee, field="fee") if given("fee") else ZERO,
        fee_currency=decode.currency(message.fee_currency, field="fee_currency") if message.fee_currency else None,
        fee_rate=decode.positive(message.fee_rate, field="fee_rate") if given("fee_rate") else None,
        source_sequence=decode.source_sequence(message.source_sequence, field="source_sequence"),
        order_id=(
            decode.printable(message.order_id, limits.ORDER_ID_MAX, field="order_id") if message.order_id else None
        ),
        note=decode.note(message.note, field="note") if message.note else None,
        labels=decode.labels(message.labels, field="labels") if message.labels else NO_LABELS,
    )


def amended(message: fill_pb2.Fill, *, account: Account, fill_id: FillId) -> Fill:
    """The new content of a fill; its account and id may be left out, and never change. Raises `InvalidField`."""
    if message.account not in ("", account):
        raise InvalidField("fill.account", "never changes: bust the fill and record it anew")
    if message.fill_id not in ("", fill_id):
        raise InvalidField("fill.fill_id", "must be that of the request")
    named = fill_pb2.Fill()
    named.CopyFrom(message)
    named.account, named.fill_id = account, fill_id
    return fill(named, field="fill")


def amendment(stored: Fill, content: Fill) -> Fill:
    """The stored fill with its content replaced; its place among fills of one instant stays."""
    return content._replace(source_sequence=stored.source_sequence, revision=stored.revision)


def adjustment(message: fill_pb2.Adjustment, *, request_id: UUID, field: str = "adjustment") -> Adjustment:
    """An entry that is no execution; without an id of its own it gets one made from the request id."""
    given = message.HasField
    return Adjustment(
        key=decode.position_key(message.key, field=f"{field}.key"),
        adjustment_id=(
            keys.fill_id(message.adjustment_id, field=f"{field}.adjustment_id")
            if given("adjustment_id")
            else FillId(f"adjustment:{request_id}")
        ),
        kind=decode.choice(message.kind, ADJUSTMENT_KINDS, field=f"{field}.kind"),
        effective_at=decode.required_timestamp(message, "effective_at", field=f"{field}.effective_at"),
        quantity=decode.decimal(message.quantity, field=f"{field}.quantity") if given("quantity") else None,
        average_price=(
            decode.decimal(message.average_price, field=f"{field}.average_price") if given("average_price") else None
        ),
        amount=decode.decimal(message.amount, field=f"{field}.amount") if given("amount") else None,
        source_sequence=decode.source_sequence(message.source_sequence, field=f"{field}.source_sequence"),
        note=decode.note(message.note, field=f"{field}.note") if message.note else None,
    )


def fill_filter(request: fill_service_pb2.ListFillsRequest) -> FillFilter:
    """Which fills are asked for. Raises `InvalidField`."""
    start = decode.optional_timestamp(request, "executed_from")
    before = decode.optional_timestamp(request, "executed_before")
    decode.interval(start, before, field="executed_before")
    return FillFilter(
        account=decode.account(request.account),
        book=decode.optional_book(request.book),
        instrument=decode.optional_instrument(request.instrument),
        leg=decode.optional_leg(request.leg),
        import_id=decode.uuid(request.import_id, field="import_id") if request.import_id else None,
        executed_from=start,
        executed_before=before,
        has_withdrawn=request.include_busted,
        is_oldest_first=decode.choice(request.order, FILL_ORDERS, field="order"),
    )


_known_keys: dict[tuple[str, str, str, int], PositionKey] = {}
"""Keys read lately: fills come in thousands for the same few."""
_KNOWN_KEYS_MAX = 10_000


def _key_of_fill(message: fill_pb2.Fill) -> PositionKey:
    given = (message.account, message.book, message.instrument, message.leg)
    found = _known_keys.get(given)
    if found is None:
        found = PositionKey(
            decode.account(message.account),
            decode.book(message.book),
            decode.instrument(message.instrument),
            decode.leg(message.leg),
        )
        if len(_known_keys) >= _KNOWN_KEYS_MAX:
            _known_keys.clear()
        _known_keys[given] = found
    return found
