"""SnapshotService. Each method: check -> call the operation -> translate -> fill the answer."""

from __future__ import annotations

from steelyard.operations.answering_once import RequestIdentity
from steelyard.operations.ports import Clock
from steelyard.operations.read_as_of import ReadAsOf
from steelyard.operations.read_snapshots import ReadSnapshots
from steelyard.operations.take_snapshots import TakeSnapshots
from steelyard.rpc import decode, decode_position, decode_snapshot, encode, encode_snapshot
from steelyard.rpc.calls import Context
from steelyard.rpc.header import freshness, read_header, write_header
from steelyard.rpc.page_tokens import PageTokens
from steelyard.v1 import snapshot_service_pb2, snapshot_service_pb2_grpc


class SnapshotServicer(snapshot_service_pb2_grpc.SnapshotServiceServicer):
    """What positions were."""

    def __init__(
        self, *, take: TakeSnapshots, read: ReadSnapshots, as_of: ReadAsOf, tokens: PageTokens, clock: Clock
    ) -> None:
        self._take = take
        self._read = read
        self._as_of = as_of
        self._tokens = tokens
        self._clock = clock

    async def CreateSnapshot(
        self, request: snapshot_service_pb2.CreateSnapshotRequest, context: Context
    ) -> snapshot_service_pb2.CreateSnapshotResponse:
        """Stores positions as they are shown now."""
        request_id = decode.uuid(request.request_id, field="request_id")
        receipt = await self._take.create(
            decode_snapshot.wanted_positions(request),
            request=RequestIdentity(request_id, decode.body_hash(request)),
        )
        return snapshot_service_pb2.CreateSnapshotResponse(
            header=write_header(receipt.commits, at=self._clock()),
            taken_at=encode.timestamp(receipt.taken_at),
            taken=receipt.taken,
            failed=receipt.failed,
            snapshots=[encode_snapshot.snapshot(taken) for taken in receipt.snapshots],
            replayed=receipt.is_replayed,
        )

    async def ListSnapshots(
        self, request: snapshot_service_pb2.ListSnapshotsRequest, context: Context
    ) -> snapshot_service_pb2.ListSnapshotsResponse:
        """Stored snapshots, the newest first."""
        answer = await self._read.page(
            decode_snapshot.snapshot_filter(request),
            size=decode.page_size(request.page_size),
            after=self._tokens.cursor(request),
            freshness=freshness(request.min_commit, context),
        )
        return snapshot_service_pb2.ListSnapshotsResponse(
            header=read_header(answer.seen),
            snapshots=[encode_snapshot.snapshot(taken) for taken in answer.value.rows],
            next_page_token=self._tokens.next(request, answer.value.next_after),
        )

    async def GetPositionAsOf(
        self, request: snapshot_service_pb2.GetPositionAsOfRequest, context: Context
    ) -> snapshot_service_pb2.GetPositionAsOfResponse:
        """What a position was at a time, by what was known at a time."""
        answer = await self._as_of.get(
            decode_position.key(request),
            as_of=decode_snapshot.optional_time(request, "as_of"),
            known_at=decode_snapshot.optional_time(request, "known_at"),
            freshness=freshness(request.min_commit, context),
        )
        return snapshot_service_pb2.GetPositionAsOfResponse(
            header=read_header(answer.seen),
            position=encode_snapshot.position_as_of(answer.value),
            fill_count=answer.value.view.fill_count,
            known_seq=answer.value.known_seq,
        )
