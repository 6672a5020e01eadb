"""FillService: executions and other entries in, and back out as they were recorded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from steelyard.client.caller import Caller, Commits, new_request_id
from steelyard.client.records import Adjustment, Fill, FillOrder, Leg, Position, PositionKey
from steelyard.client.translation import message_of, record_of, set_word, timestamp
from steelyard.v1 import errors_pb2, fill_pb2, fill_service_pb2, fill_service_pb2_grpc


@dataclass(frozen=True, slots=True, kw_only=True)
class FillReceipt:
    """What recording a fill gave; a repeat gets the same one, with `replayed`."""

    fill_id: str
    replayed: bool
    key: PositionKey
    version: int
    """The position version that applied it; 0 while it is pending."""
    pending: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FillRefusal:
    """Why one fill of a batch was not recorded."""

    reason: str
    message: str
    field: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A recorded fill, and its position where that was asked for."""

    receipt: FillReceipt
    position: Position | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOutcome:
    """Per fill, in the order given, a receipt or a refusal."""

    results: tuple[FillReceipt | FillRefusal, ...]
    recorded: int
    repeated: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustmentReceipt:
    """What recording an adjustment gave."""

    adjustment_id: str
    replayed: bool
    key: PositionKey
    version: int
    position: Position | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FillHistory:
    """A fill as it counts now, and every revision of it, the first one first."""

    fill: Fill
    revisions: tuple[Fill, ...]


class FillCalls(Caller):
    """The calls of FillService."""

    @cached_property
    def _fills(self) -> fill_service_pb2_grpc.FillServiceStub:
        return fill_service_pb2_grpc.FillServiceStub(self.channel)

    async def record_fill(
        self,
        fill: Fill,
        *,
        auto_update_positions: bool = True,
        validate_only: bool = False,
        reject_overrun: bool = False,
        expected_version: int | None = None,
        etag: str | None = None,
        return_position: bool = False,
    ) -> Recorded:
        """Records one fill and updates its position. Raises `FillConflict` where its id has other content."""
        request = fill_service_pb2.RecordFillRequest(
            fill=message_of(fill_pb2.Fill, fill),
            auto_update_positions=auto_update_positions,
            validate_only=validate_only,
            reject_overrun=reject_overrun,
            expected_version=expected_version,
            etag=etag,
            return_position=return_position,
        )
        answer = await self._write(self._fills.RecordFill, request)
        return Recorded(
            receipt=record_of(FillReceipt, answer.receipt),
            position=record_of(Position, answer.position) if answer.HasField("position") else None,
        )

    async def batch_record_fills(
        self,
        fills: Iterable[Fill],
        *,
        atomic: bool = False,
        auto_update_positions: bool = True,
        validate_only: bool = False,
        reject_overrun: bool = False,
    ) -> BatchOutcome:
        """Records up to 5,000 fills, each succeeding or failing alone; `atomic` (up to 1,000): all or nothing."""
        request = fill_service_pb2.BatchRecordFillsRequest(
            fills=[message_of(fill_pb2.Fill, fill) for fill in fills],
            atomic=atomic,
            auto_update_positions=auto_update_positions,
            validate_only=validate_only,
            reject_overrun=reject_overrun,
        )
        answer = await self._write(self._fills.BatchRecordFills, request)
        return BatchOutcome(
            results=tuple(_result(result) for result in answer.results),
            recorded=answer.recorded,
            repeated=answer.repeated,
            failed=answer.failed,
        )

    async def record_adjustment(
        self,
        adjustment: Adjustment,
        *,
        request_id: str | None = None,
        expected_version: int | None = None,
        etag: str | None = None,
        validate_only: bool = False,
        return_position: bool = False,
    ) -> AdjustmentReceipt:
        """Records an entry that is no execution; give `request_id` to repeat a call whose outcome is unknown."""
        request = fill_service_pb2.RecordAdjustmentRequest(
            request_id=new_request_id(request_id),
            adjustment=message_of(fill_pb2.Adjustment, adjustment),
            expected_version=expected_version,
            etag=etag,
            validate_only=validate_only,
            return_position=return_position,
        )
        return record_of(AdjustmentReceipt, await self._write(self._fills.RecordAdjustment, request))

    async def get_fill(self, account: str, fill_id: str, *, min_commit: Commits | None = None) -> FillHistory:
        """One fill with its revisions. Raises `NotFound`."""
        request = fill_service_pb2.GetFillRequest(
            account=account, fill_id=fill_id, min_commit=self._since([account], min_commit)
        )
        return record_of(FillHistory, await self._ask(self._fills.GetFill, request))

    def list_fills(
        self,
        account: str,
        *,
        book: str = "",
        instrument: str = "",
        leg: Leg | None = None,
        import_id: str = "",
        executed_from: datetime | None = None,
        executed_before: datetime | None = None,
        include_busted: bool = False,
        order: FillOrder = FillOrder.NEWEST_FIRST,
        page_size: int = 0,
        min_commit: Commits | None = None,
    ) -> AsyncIterator[Fill]:
        """The fills of an account, page by page as they are read."""
        request = fill_service_pb2.ListFillsRequest(
            account=account,
            book=book,
            instrument=instrument,
            import_id=import_id,
            executed_from=timestamp(executed_from) if executed_from else None,
            executed_before=timestamp(executed_before) if executed_before else None,
            include_busted=include_busted,
            page_size=page_size,
            min_commit=self._since([account], min_commit),
        )
        set_word(request, "leg", word=leg)
        set_word(request, "order", word=order)
        return self._pages(
            self._fills.ListFills, request, rows=lambda answer: (record_of(Fill, fill) for fill in answer.fills)
        )


def _result(result: fill_pb2.FillResult) -> FillReceipt | FillRefusal:
    if result.HasField("receipt"):
        return record_of(FillReceipt, result.receipt)
    reason = errors_pb2.ErrorReason.Name(result.error.reason).removeprefix("ERROR_REASON_")
    return FillRefusal(reason=reason, message=result.error.message, field=result.error.field)
