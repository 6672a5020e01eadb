"""Snapshots and positions as of a time, as the contract tells them; a shown position as a JSON object and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format

from steelyard.operations.position_view import Detail, PositionView
from steelyard.operations.read_as_of import PositionAsOf
from steelyard.operations.take_snapshots import PositionSnapshot, ShownPosition, SnapshotCause
from steelyard.rpc import encode, encode_position
from steelyard.v1 import position_pb2, snapshot_pb2

CAUSES: Mapping[SnapshotCause, snapshot_pb2.SnapshotCause.ValueType] = {
    SnapshotCause.REQUEST: snapshot_pb2.SNAPSHOT_CAUSE_REQUEST,
    SnapshotCause.SCHEDULE: snapshot_pb2.SNAPSHOT_CAUSE_SCHEDULE,
}
OF_THE_ROW = (
    "version",
    "etag",
    "labels",
    "annotation_etag",
    "notes",
    "created_at",
    "updated_at",
    "last_snapshot_at",
)
"""Fields of the row of now, which a position of the past does not have."""


def shown_position(view: PositionView) -> ShownPosition:
    """A position as callers are shown it in full, by the contract's names; decimals are text."""
    told: dict[str, Any] = json_format.MessageToDict(
        encode_position.position(view, detail=Detail.FULL),
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    return told


def snapshot(taken: PositionSnapshot) -> snapshot_pb2.Snapshot:
    """A stored snapshot; its position is what was shown then."""
    told = snapshot_pb2.Snapshot(
        snapshot_id=str(taken.snapshot_id),
        key=encode.position_key(taken.key),
        taken_at=encode.timestamp(taken.taken_at),
        cause=CAUSES[taken.cause],
        version=taken.version,
        failure=taken.failure or "",
    )
    if taken.shown is not None:
        json_format.ParseDict(dict(taken.shown), told.position, ignore_unknown_fields=True)
    return told


def position_as_of(found: PositionAsOf) -> position_pb2.Position:
    """A position of the past, without what only the row of now has."""
    told = encode_position.position(found.view, detail=Detail.FULL)
    for field in OF_THE_ROW:
        told.ClearField(field)  # type: ignore[arg-type]  # names are checked by a test, not by types
    return told
