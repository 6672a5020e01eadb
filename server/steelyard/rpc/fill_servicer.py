"""FillService. Each method: check -> call the operation -> translate -> fill the answer.

Errors are raised and leave by themselves: the layer around every call makes statuses of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import Any

from steelyard.accounting import keys
from steelyard.accounting.entries import Fill
from steelyard.accounting.errors import InvalidField, SteelyardError
from steelyard.accounting.keys import PositionKey
from steelyard.operations.answering_once import RequestIdentity
from steelyard.operations.apply_fills import FillReceipt, WriteOptions
from steelyard.operations.correct_fills import CorrectFills, CorrectionReceipt
from steelyard.operations.ports import Clock, Commit
from steelyard.operations.read_fills import ReadFills
from steelyard.operations.record_fills import RecordFills
from steelyard.rpc import decode, decode_fill, encode, encode_fill, fill_stream, limits
from steelyard.rpc.calls import Context, current_call
from steelyard.rpc.header import freshness, read_header, write_header
from steelyard.rpc.page_tokens import PageTokens
from steelyard.v1 import fill_pb2, fill_service_pb2, fill_service_pb2_grpc, position_pb2

TellPosition = Callable[[PositionKey], Awaitable[position_pb2.Position | None]]
"""A position in full as it is now, None where there is none: `return_position` asks for it."""

Item = FillReceipt | SteelyardError


class FillServicer(fill_service_pb2_grpc.FillServiceServicer):
    """Executions and other entries: recorded, and told as they were."""

    def __init__(
        self,
        *,
        record: RecordFills,
        correct: CorrectFills,
        read: ReadFills,
        tell_position: TellPosition,
        tokens: PageTokens,
        clock: Clock,
    ) -> None:
        self._record = record
        self._correct = correct
        self._read = read
        self._tell_position = tell_position
        self._tokens = tokens
        self._clock = clock

    async def RecordFill(
        self, request: fill_service_pb2.RecordFillRequest, context: Context
    ) -> fill_service_pb2.RecordFillResponse:
        """Records one fill and updates its position."""
        _require(request, "fill")
        fill = decode_fill.fill(request.fill, field="fill")
        options = _options(request, expected_version=decode_fill.expected_version(request))
        with decode.within("fill"):
            receipt = await self._record.record(fill, options=options, caller=_caller())
        return fill_service_pb2.RecordFillResponse(
            header=write_header(receipt.commits, at=self._clock()),
            receipt=encode_fill.receipt(receipt),
            position=await self._position_after(request, receipt.key),
        )

    async def _position_after(
        self,
        request: fill_service_pb2.RecordFillRequest | fill_service_pb2.RecordAdjustmentRequest,
        key: PositionKey,
    ) -> position_pb2.Position | None:
        # What was only checked has changed no position: the stored one would be the wrong answer.
        is_told = request.return_position and not request.validate_only
        return await self._tell_position(key) if is_told else None

    async def BatchRecordFills(
        self, request: fill_service_pb2.BatchRecordFillsRequest, context: Context
    ) -> fill_service_pb2.BatchRecordFillsResponse:
        """Records many fills: each alone, or all of them or none."""
        longest = limits.ATOMIC_BATCH_FILLS_MAX if request.atomic else limits.BATCH_FILLS_MAX
        if not 1 <= len(request.fills) <= longest:
            raise InvalidField("fills", f"must be 1 to {longest:,}")
        items: list[Item | None] = [None] * len(request.fills)
        fills = _decoded(request.fills, items, is_atomic=request.atomic)
        result = await self._record.record_batch(
            list(fills.values()), options=_options(request), is_atomic=request.atomic, caller=_caller()
        )
        for place, item in zip(fills, result.items, strict=True):
            items[place] = _placed(item, place)
        return _batch_answer([item for item in items if item is not None], result.commits, at=self._clock())

    async def RecordAdjustment(
        self, request: fill_service_pb2.RecordAdjustmentRequest, context: Context
    ) -> fill_service_pb2.RecordAdjustmentResponse:
        """Records an entry that is no execution."""
        request_id = decode.uuid(request.request_id, field="request_id")
        _require(request, "adjustment")
        adjustment = decode_fill.adjustment(request.adjustment, request_id=request_id)
        expected_version = decode_fill.expected_version(request)
        with decode.within("adjustment"):
            receipt = await self._record.adjust(
                adjustment,
                request=RequestIdentity(request_id, decode.body_hash(request)),
                expected_version=expected_version,
                is_validate_only=request.validate_only,
            )
        return fill_service_pb2.RecordAdjustmentResponse(
            header=write_header(receipt.commits, at=self._clock()),
            adjustment_id=receipt.adjustment_id,
            replayed=receipt.is_replayed,
            key=encode.position_key(receipt.key),
            version=receipt.version or 0,
            position=await self._position_after(request, receipt.key),
        )

    async def StreamFills(
        self, requests: AsyncIterator[fill_service_pb2.StreamFillsRequest], context: Context
    ) -> AsyncIterator[fill_service_pb2.StreamFillsResponse]:
        """Records numbered batches as they come; an answer for each after its commit."""
        commit = partial(self._commit_batch, caller=_caller())
        async with aclosing(fill_stream.commit_batches(requests, commit=commit)) as answers:
            async for answer in answers:
                yield answer

    async def _commit_batch(
        self, batch: fill_service_pb2.StreamFillsRequest, *, caller: str
    ) -> fill_service_pb2.StreamFillsResponse:
        if not 1 <= len(batch.fills) <= limits.BATCH_FILLS_MAX:
            raise InvalidField("fills", f"must be 1 to {limits.BATCH_FILLS_MAX:,}")
        items: list[Item | None] = [None] * len(batch.fills)
        fills = _decoded(batch.fills, items, is_atomic=False)
        result = await self._record.record_stream(list(fills.values()), caller=caller)
        for place, item in zip(fills, result.items, strict=True):
            items[place] = _placed(item, place)
        return encode_fill.streamed(
            batch.batch_number,
            [item for item in items if item is not None],
            header=write_header(result.commits, at=self._clock()),
            trace_id=current_call().trace_id,
        )

    async def AmendFill(
        self, request: fill_service_pb2.AmendFillRequest, context: Context
    ) -> fill_service_pb2.AmendFillResponse:
        """Replaces a fill's content by a new revision."""
        account, fill_id = decode.account(request.account), keys.fill_id(request.fill_id)
        _require(request, "fill")
        content = decode_fill.amended(request.fill, account=account, fill_id=fill_id)
        with decode.within("fill"):
            receipt = await self._correct.amend(
                account,
                fill_id,
                expected_revision=decode.version(request.expected_revision, field="expected_revision"),
                amendment=lambda stored: decode_fill.amendment(stored, content),
            )
        return fill_service_pb2.AmendFillResponse(**self._corrected(receipt))

    async def BustFill(
        self, request: fill_service_pb2.BustFillRequest, context: Context
    ) -> fill_service_pb2.BustFillResponse:
        """Withdraws a fill for good."""
        receipt = await self._correct.bust(
            decode.account(request.account),
            keys.fill_id(request.fill_id),
            expected_revision=decode.version(request.expected_revision, field="expected_revision"),
        )
        return fill_service_pb2.BustFillResponse(**self._corrected(receipt))

    def _corrected(self, receipt: CorrectionReceipt) -> dict[str, Any]:
        return {
            "header": write_header(receipt.commits, at=self._clock()),
            "revision": receipt.revision,
            "replayed": receipt.is_replayed,
            "positions": [
                fill_service_pb2.PositionVersion(key=encode.position_key(key), version=version)
                for key, version in sorted(receipt.versions.items())
            ],
        }

    async def GetFill(
        self, request: fill_service_pb2.GetFillRequest, context: Context
    ) -> fill_service_pb2.GetFillResponse:
        """One fill with its revisions."""
        answer = await self._read.get(
            decode.account(request.account),
            keys.fill_id(request.fill_id),
            freshness=freshness(request.min_commit, context),
        )
        return fill_service_pb2.GetFillResponse(
            header=read_header(answer.seen),
            fill=encode_fill.fill(answer.value.fill),
            revisions=[encode_fill.fill(revision) for revision in answer.value.revisions],
        )

    async def ListFills(
        self, request: fill_service_pb2.ListFillsRequest, context: Context
    ) -> fill_service_pb2.ListFillsResponse:
        """The fills of an account, page by page."""
        answer = await self._read.page(
            decode_fill.fill_filter(request),
            size=decode.page_size(request.page_size),
            after=self._tokens.cursor(request),
            freshness=freshness(request.min_commit, context),
        )
        return fill_service_pb2.ListFillsResponse(
            header=read_header(answer.seen),
            fills=[encode_fill.fill(view) for view in answer.value.rows],
            next_page_token=self._tokens.next(request, answer.value.next_after),
        )


def _options(request: Any, *, expected_version: int | None = None) -> WriteOptions:
    return WriteOptions(
        is_auto_update=request.auto_update_positions if request.HasField("auto_update_positions") else True,
        is_validate_only=request.validate_only,
        is_reject_overrun=request.reject_overrun,
        expected_version=expected_version,
    )


def _require(request: Any, field: str) -> None:
    if not request.HasField(field):
        raise InvalidField(field, "is required")


def _caller() -> str:
    """Whose fills share a round of the writer fairly: a connection's."""
    return current_call().peer or ""


def _decoded(messages: Sequence[fill_pb2.Fill], items: list[Item | None], *, is_atomic: bool) -> dict[int, Fill]:
    """The fills that can be read, by their place; of the others the complaint is put into `items`, or raised."""
    fills: dict[int, Fill] = {}
    for place, message in enumerate(messages):
        try:
            fills[place] = decode_fill.fill(message, field=f"fills[{place}]")
        except InvalidField as error:
            if is_atomic:
                raise
            items[place] = error
    return fills


def _placed(item: Item, place: int) -> Item:
    """An operation's complaint about a field, named by its path from the request."""
    return InvalidField(f"fills[{place}].{item.field}", item.why) if isinstance(item, InvalidField) else item


def _batch_answer(
    items: Sequence[Item], commits: Sequence[Commit], *, at: datetime
) -> fill_service_pb2.BatchRecordFillsResponse:
    receipts = [item for item in items if isinstance(item, FillReceipt)]
    repeated = sum(receipt.is_replayed for receipt in receipts)
    return fill_service_pb2.BatchRecordFillsResponse(
        header=write_header(commits, at=at),
        results=encode_fill.results(items, trace_id=current_call().trace_id),
        recorded=len(receipts) - repeated,
        repeated=repeated,
        failed=len(items) - len(receipts),
    )
