"""SnapshotService: what positions were."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from steelyard.client.caller import Caller, Commits, new_request_id
from steelyard.client.records import Leg, Position, PositionKey
from steelyard.client.translation import record_of, set_word, timestamp
from steelyard.v1 import snapshot_service_pb2, snapshot_service_pb2_grpc


class SnapshotCause(StrEnum):
    """Why a snapshot was taken."""

    REQUEST = "REQUEST"
    SCHEDULE = "SCHEDULE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A position as it was shown at a moment; what is corrected later does not change it."""

    snapshot_id: str
    key: PositionKey
    taken_at: datetime
    cause: SnapshotCause | None
    version: int
    position: Position | None
    """In full, with the mark of that moment. None: it could not be told."""
    failure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotsTaken:
    """What a call to take snapshots came to."""

    taken_at: datetime
    taken: int
    failed: int
    snapshots: tuple[Snapshot, ...]
    """By key, at most the first 1,000."""
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionAsOf:
    """What a position was. Version, labels, notes, prices and times of the row of now are not part of it."""

    position: Position
    fill_count: int
    known_seq: int
    """The newest commit of the account that the answer knows of; 0: none."""


class SnapshotCalls(Caller):
    """The calls of SnapshotService."""

    @cached_property
    def _snapshots(self) -> snapshot_service_pb2_grpc.SnapshotServiceStub:
        return snapshot_service_pb2_grpc.SnapshotServiceStub(self.channel)

    async def create_snapshot(
        self,
        account: str,
        *,
        instrument: str = "",
        book: str = "",
        leg: Leg | None = None,
        open_only: bool = False,
        request_id: str | None = None,
    ) -> SnapshotsTaken:
        """Stores positions of an account as they are shown now: one, or all that the filter means.

        Raises `NotFound` where an instrument is named and there is no such position.
        """
        request = snapshot_service_pb2.CreateSnapshotRequest(
            request_id=new_request_id(request_id),
            account=account,
            book=book,
            instrument=instrument,
            open_only=open_only,
        )
        set_word(request, "leg", word=leg)
        return record_of(SnapshotsTaken, await self._write(self._snapshots.CreateSnapshot, request))

    def list_snapshots(
        self,
        account: str,
        *,
        instrument: str = "",
        book: str = "",
        leg: Leg | None = None,
        cause: SnapshotCause | None = None,
        taken_from: datetime | None = None,
        taken_before: datetime | None = None,
        page_size: int = 0,
        min_commit: Commits | None = None,
    ) -> AsyncIterator[Snapshot]:
        """Stored snapshots of an account, the newest first, page by page as they are read."""
        request = snapshot_service_pb2.ListSnapshotsRequest(
            account=account,
            book=book,
            instrument=instrument,
            taken_from=timestamp(taken_from) if taken_from else None,
            taken_before=timestamp(taken_before) if taken_before else None,
            page_size=page_size,
            min_commit=self._since([account], min_commit),
        )
        set_word(request, "leg", word=leg)
        set_word(request, "cause", word=cause)
        return self._pages(
            self._snapshots.ListSnapshots,
            request,
            rows=lambda answer: (record_of(Snapshot, taken) for taken in answer.snapshots),
        )

    async def get_position_as_of(
        self,
        account: str,
        instrument: str,
        *,
        book: str = "",
        leg: Leg | None = None,
        as_of: datetime | None = None,
        known_at: datetime | None = None,
        min_commit: Commits | None = None,
    ) -> PositionAsOf:
        """What a position was at `as_of`, by what was known at `known_at`; either, both or neither may be fixed.

        Raises `NotFound` where the key never had an entry.
        """
        request = snapshot_service_pb2.GetPositionAsOfRequest(
            account=account,
            book=book,
            instrument=instrument,
            as_of=timestamp(as_of) if as_of else None,
            known_at=timestamp(known_at) if known_at else None,
            min_commit=self._since([account], min_commit),
        )
        set_word(request, "leg", word=leg)
        return record_of(PositionAsOf, await self._ask(self._snapshots.GetPositionAsOf, request))
