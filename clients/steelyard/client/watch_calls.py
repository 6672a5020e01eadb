"""Watches: what is held, then every change, taken up again by itself when a server leaves or a connection breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cached_property

from google.protobuf.duration_pb2 import Duration

from steelyard.client.caller import Caller
from steelyard.client.errors import Unavailable, translated
from steelyard.client.records import Position
from steelyard.client.translation import record_of, set_word
from steelyard.v1 import position_service_pb2, position_service_pb2_grpc

PAUSE_S = 0.2
PAUSE_MAX_S = 5.0


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


class WatchCalls(Caller):
    """WatchPositions of PositionService."""

    @cached_property
    def _watches(self) -> position_service_pb2_grpc.PositionServiceStub:
        return position_service_pb2_grpc.PositionServiceStub(self.channel)

    async def watch_positions(
        self,
        account: str,
        *,
        book: str = "",
        instruments: Iterable[str] = (),
        mode: WatchMode = WatchMode.CONFLATED,
        min_interval: timedelta = timedelta(milliseconds=100),
        heartbeat: timedelta = timedelta(seconds=10),
    ) -> AsyncGenerator[PositionChange, None]:
        """The positions of an account and then their changes, without gap or repeat, for as long as it is read.

        A server that leaves, a broken connection and a silent one (no heartbeat) are survived: the stream is taken up
        where it was. Raises what makes that impossible, such as `ResumeTokenExpired`.
        """
        request = position_service_pb2.WatchPositionsRequest(
            account=account, book=book, instruments=instruments, min_interval=Duration(), heartbeat=Duration()
        )
        request.min_interval.FromTimedelta(min_interval)
        request.heartbeat.FromTimedelta(heartbeat)
        set_word(request, "mode", word=mode)
        attempts = 0
        while True:
            try:
                async for change in self._one_stream(request, silence_s=3 * heartbeat.total_seconds()):
                    attempts = 0
                    yield change
            except (Unavailable, TimeoutError):
                attempts += 1
            await asyncio.sleep(min(PAUSE_S * attempts, PAUSE_MAX_S))

    async def _one_stream(
        self, request: position_service_pb2.WatchPositionsRequest, *, silence_s: float
    ) -> AsyncGenerator[PositionChange, None]:
        """One stream from the request's token on; the token moves with every message that may be resumed after."""
        in_snapshot = False
        with translated():
            call = self._watches.WatchPositions(request, metadata=self._metadata)
            try:
                messages = aiter(call)
                while True:
                    async with asyncio.timeout(silence_s):
                        message = await anext(messages, None)
                    if message is None:
                        return
                    kind = message.WhichOneof("message")
                    in_snapshot = kind == "snapshot_begin" or (in_snapshot and kind != "snapshot_end")
                    # A snapshot that breaks off begins anew, and so does what is reset.
                    request.resume_token = "" if in_snapshot or kind == "reset" else message.resume_token
                    if kind == "change":
                        yield _change(message.change, is_snapshot=in_snapshot)
            finally:
                call.cancel()


def _change(change: position_service_pb2.WatchPositionChange, *, is_snapshot: bool) -> PositionChange:
    kind = position_service_pb2.PositionChangeKind.Name(change.kind).removeprefix("POSITION_CHANGE_KIND_")
    return PositionChange(
        kind=PositionChangeKind(kind), position=record_of(Position, change.position), is_snapshot=is_snapshot
    )
