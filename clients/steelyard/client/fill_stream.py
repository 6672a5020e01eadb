"""Fills as a stream and corrections: numbered batches out, their answers in after the commit."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass
from functools import cached_property

from steelyard.client.caller import Caller
from steelyard.client.errors import translated
from steelyard.client.records import Fill, PositionKey
from steelyard.client.translation import message_of, record_of
from steelyard.v1 import errors_pb2, fill_pb2, fill_service_pb2, fill_service_pb2_grpc


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFailure:
    """Why a fill of a batch was not recorded, and its place there."""

    index: int
    reason: str
    message: str
    field: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchAnswer:
    """A batch of a stream that is committed."""

    batch_number: int
    recorded: int
    repeated: int
    failures: tuple[StreamFailure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionVersion:
    """A position that a write changed, and its version after it."""

    key: PositionKey
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What amending or busting a fill gave."""

    revision: int
    replayed: bool
    positions: tuple[PositionVersion, ...]


class FillStreamCalls(Caller):
    """StreamFills, AmendFill and BustFill of FillService."""

    @cached_property
    def _streams(self) -> fill_service_pb2_grpc.FillServiceStub:
        return fill_service_pb2_grpc.FillServiceStub(self.channel)

    async def stream_fills(self, batches: AsyncIterable[Iterable[Fill]]) -> AsyncIterator[BatchAnswer]:
        """Records batches of up to 5,000 fills as they come; the answers come in their order, after the commit.

        Batches are numbered from 1. One without an answer when the stream breaks is sent again: fills that are known
        by then count as repeated.
        """
        with translated():
            call = self._streams.StreamFills(_numbered(batches), metadata=self._metadata)
            async for answer in call:
                self._remember(answer)
                yield BatchAnswer(
                    batch_number=answer.batch_number,
                    recorded=answer.recorded,
                    repeated=answer.repeated,
                    failures=tuple(map(_failure, answer.failures)),
                )

    async def amend_fill(self, fill: Fill, *, expected_revision: int) -> Correction:
        """Replaces the content of the fill with this account and id. Raises `VersionMismatch`, `FillBusted`."""
        request = fill_service_pb2.AmendFillRequest(
            account=fill.account,
            fill_id=fill.fill_id,
            expected_revision=expected_revision,
            fill=message_of(fill_pb2.Fill, fill),
        )
        return record_of(Correction, await self._write(self._streams.AmendFill, request))

    async def bust_fill(self, account: str, fill_id: str, *, expected_revision: int) -> Correction:
        """Withdraws a fill for good. Raises `VersionMismatch`, `NotFound`."""
        request = fill_service_pb2.BustFillRequest(
            account=account, fill_id=fill_id, expected_revision=expected_revision
        )
        return record_of(Correction, await self._write(self._streams.BustFill, request))


async def _numbered(batches: AsyncIterable[Iterable[Fill]]) -> AsyncIterator[fill_service_pb2.StreamFillsRequest]:
    number = 0
    async for batch in batches:
        number += 1
        fills = [message_of(fill_pb2.Fill, fill) for fill in batch]
        yield fill_service_pb2.StreamFillsRequest(batch_number=number, fills=fills)


def _failure(failure: fill_service_pb2.FillFailure) -> StreamFailure:
    error = failure.error
    reason = errors_pb2.ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_")
    return StreamFailure(index=failure.index, reason=reason, message=error.message, field=error.field)
