"""Fills, receipts and what became of a batch, as the contract tells them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from steelyard.accounting.entries import Side
from steelyard.accounting.errors import InvalidField, SteelyardError
from steelyard.operations.apply_fills import FillReceipt
from steelyard.operations.read_fills import FillView
from steelyard.rpc import encode
from steelyard.rpc.status import public_text, reason_number
from steelyard.v1 import common_pb2, fill_pb2, fill_service_pb2

SIDES: Mapping[Side, common_pb2.Side.ValueType] = {Side.BUY: common_pb2.SIDE_BUY, Side.SELL: common_pb2.SIDE_SELL}


def fill(view: FillView) -> fill_pb2.Fill:
    """One revision of a fill."""
    recorded = view.fill
    return fill_pb2.Fill(
        fill_id=recorded.fill_id,
        account=recorded.key.account,
        book=recorded.key.book,
        instrument=recorded.key.instrument,
        leg=encode.LEGS[recorded.key.leg],
        side=SIDES[recorded.side],
        quantity=encode.decimal(recorded.quantity),
        price=encode.decimal(recorded.price),
        fee=encode.decimal(recorded.fee),
        fee_currency=recorded.fee_currency or view.settle_currency,
        fee_rate=encode.optional_decimal(recorded.fee_rate),
        executed_at=encode.timestamp(recorded.executed_at),
        source_sequence=recorded.source_sequence,
        order_id=recorded.order_id,
        note=recorded.note,
        labels=recorded.labels,
        revision=recorded.revision,
        busted=view.is_withdrawn,
        recorded_at=encode.timestamp(view.recorded_at),
        applied_version=view.applied_version,
        import_id=None if view.import_id is None else str(view.import_id),
        pending=view.is_pending,
    )


def receipt(given: FillReceipt) -> fill_pb2.FillReceipt:
    """What recording a fill gave."""
    return fill_pb2.FillReceipt(
        fill_id=given.fill_id,
        replayed=given.is_replayed,
        key=encode.position_key(given.key),
        version=given.version or 0,
        pending=given.is_pending,
    )


def results(items: Iterable[FillReceipt | SteelyardError], *, trace_id: str) -> list[fill_pb2.FillResult]:
    """What became of each fill of a batch, in its place."""
    return [
        fill_pb2.FillResult(receipt=receipt(item))
        if isinstance(item, FillReceipt)
        else fill_pb2.FillResult(error=_error(item, trace_id=trace_id))
        for item in items
    ]


def streamed(
    batch_number: int,
    items: Sequence[FillReceipt | SteelyardError],
    *,
    header: common_pb2.ResponseHeader,
    trace_id: str,
) -> fill_service_pb2.StreamFillsResponse:
    """The answer to one batch of a stream: counts, and what was not recorded."""
    receipts = [item for item in items if isinstance(item, FillReceipt)]
    repeated = sum(given.is_replayed for given in receipts)
    return fill_service_pb2.StreamFillsResponse(
        header=header,
        batch_number=batch_number,
        recorded=len(receipts) - repeated,
        repeated=repeated,
        failures=[
            fill_service_pb2.FillFailure(index=place, error=_error(item, trace_id=trace_id))
            for place, item in enumerate(items)
            if isinstance(item, SteelyardError)
        ],
    )


def _error(error: SteelyardError, *, trace_id: str) -> fill_pb2.FillError:
    return fill_pb2.FillError(
        reason=reason_number(error),
        message=public_text(error, trace_id=trace_id),
        field=error.field if isinstance(error, InvalidField) else "",
    )
