"""Watches: what is held, then every change, taken up again by itself when a server leaves or a connection breaks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cached_property

from google.protobuf.duration_pb2 import Duration

from steelyard.client.caller import Caller
from steelyard.client.records import Position
from steelyard.client.resuming import heard, resumed
from steelyard.client.translation import record_of, set_word
from steelyard.v1 import position_service_pb2, position_service_pb2_grpc


class WatchMode(StrEnum):
    """CONFLATED tells the newest state of each changed position; EVERY_VERSION tells each version."""

    CONFLATED = "CONFLATED"
    EVERY_VERSION = "EVERY_VERSION"


class PositionChangeKind(StrEnum):
    """ADDED from nothing or flat (and in a snapshot), CLOSED to flat, else UPDATED."""

    ADDED = "ADDED"
    UPDATED = "UPDATED"
    CLOSED = "CLOSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionChange:
    """A position as of one of its versions."""

    kind: PositionChangeKind
    position: Position
    is_snapshot: bool
    """Whether it tells what was held when the watch began, or began anew."""
    is_mark_only: bool = False
    """Whether a mark alone has changed: the version is the one told before."""


class WatchCalls(Caller):
    """WatchPositions of PositionService."""

    @cached_property
    def _watches(self) -> position_service_pb2_grpc.PositionServiceStub:
        return position_service_pb2_grpc.PositionServiceStub(self.channel)

    def watch_positions(
        self,
        account: str,
        *,
        book: str = "",
        instruments: Iterable[str] = (),
        mode: WatchMode = WatchMode.CONFLATED,
        min_interval: timedelta = timedelta(milliseconds=100),
        heartbeat: timedelta = timedelta(seconds=10),
        include_marks: bool = False,
    ) -> AsyncGenerator[PositionChange, None]:
        """The positions of an account and then their changes, without gap or repeat, for as long as it is read.

        With `include_marks` they come with their marks, and again when a mark alone has changed.

        A server that leaves, a broken connection and a silent one (no heartbeat) are survived: the stream is taken up
        where it was. Raises what makes that impossible, such as `ResumeTokenExpired`.
        """
        request = position_service_pb2.WatchPositionsRequest(
            account=account,
            book=book,
            instruments=instruments,
            min_interval=Duration(),
            heartbeat=Duration(),
            include_marks=include_marks,
        )
        request.min_interval.FromTimedelta(min_interval)
        request.heartbeat.FromTimedelta(heartbeat)
        set_word(request, "mode", word=mode)
        return resumed(lambda: self._one_stream(request, silence_s=3 * heartbeat.total_seconds()))

    async def _one_stream(
        self, request: position_service_pb2.WatchPositionsRequest, *, silence_s: float
    ) -> AsyncGenerator[PositionChange, None]:
        """One stream from the request's token on; the token moves with every message that may be resumed after."""
        in_snapshot = False
        call = self._watches.WatchPositions(request, metadata=self._metadata)
        async with aclosing(heard(call, silence_s=silence_s)) as messages:
            async for message in messages:
                kind = message.WhichOneof("message")
                in_snapshot = kind == "snapshot_begin" or (in_snapshot and kind != "snapshot_end")
                # A snapshot that breaks off begins anew, and so does what is reset.
                request.resume_token = "" if in_snapshot or kind == "reset" else message.resume_token
                if kind == "change":
                    yield _change(message.change, is_snapshot=in_snapshot)


def _change(change: position_service_pb2.WatchPositionChange, *, is_snapshot: bool) -> PositionChange:
    kind = position_service_pb2.PositionChangeKind.Name(change.kind).removeprefix("POSITION_CHANGE_KIND_")
    return PositionChange(
        kind=PositionChangeKind(kind),
        position=record_of(Position, change.position),
        is_snapshot=is_snapshot,
        is_mark_only=change.mark_only,
    )
