"""Questions about snapshots and the past, out of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from google.protobuf.message import Message

from steelyard.operations.read_positions import PositionFilter
from steelyard.operations.read_snapshots import SnapshotFilter
from steelyard.operations.take_snapshots import SnapshotCause
from steelyard.rpc import decode
from steelyard.v1 import snapshot_pb2, snapshot_service_pb2

CAUSES: Mapping[int, SnapshotCause] = {
    snapshot_pb2.SNAPSHOT_CAUSE_REQUEST: SnapshotCause.REQUEST,
    snapshot_pb2.SNAPSHOT_CAUSE_SCHEDULE: SnapshotCause.SCHEDULE,
}


def wanted_positions(request: snapshot_service_pb2.CreateSnapshotRequest) -> PositionFilter:
    """The positions to take snapshots of. Raises `InvalidField`."""
    instrument, leg = decode.optional_instrument(request.instrument), decode.optional_leg(request.leg)
    return PositionFilter(
        accounts=(decode.account(request.account),),
        book=decode.optional_book(request.book),
        instruments=() if instrument is None else (instrument,),
        legs=() if leg is None else (leg,),
        is_open_only=request.open_only,
    )


def snapshot_filter(request: snapshot_service_pb2.ListSnapshotsRequest) -> SnapshotFilter:
    """Which snapshots are meant. Raises `InvalidField`."""
    taken_from, taken_before = optional_time(request, "taken_from"), optional_time(request, "taken_before")
    decode.interval(taken_from, taken_before, field="taken_before")
    return SnapshotFilter(
        account=decode.account(request.account),
        book=decode.optional_book(request.book),
        instrument=decode.optional_instrument(request.instrument),
        leg=decode.optional_leg(request.leg),
        cause=decode.choice(request.cause, CAUSES, field="cause") if request.cause else None,
        taken_from=taken_from,
        taken_before=taken_before,
    )


def optional_time(request: Message, name: str) -> datetime | None:
    """A time that may be left out. Raises `InvalidField`."""
    return decode.timestamp(getattr(request, name), field=name) if request.HasField(name) else None
