"""The same surroundings for streams: errors become statuses in the middle too, and nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from steelyard.accounting.errors import NotFound
from steelyard.rpc.limits import RpcLimits
from steelyard.rpc.server import GrpcServer, ServerSettings, Services
from steelyard.v1 import build_pb2, build_service_pb2, build_service_pb2_grpc
from tests.rpc.test_layers import reason
from tests.rpc.trouble import LogLines, Store

WATCH = "/steelyard.v1.BuildService/WatchBuild"
IMPORT = "/steelyard.v1.BuildService/ImportTrades"


class StreamServicer(build_service_pb2_grpc.BuildServiceServicer):
    """Streams as the build's id says; counts the bytes that stream in."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def WatchBuild(self, request: Any, context: Any) -> AsyncIterator[build_service_pb2.WatchBuildResponse]:
        try:
            for number in range(3):
                yield build_service_pb2.WatchBuildResponse(build=build_pb2.Build(build_id=str(number)))
            if request.build_id == "unknown":
                raise NotFound("build", "unknown")
            if request.build_id == "bug":
                raise RuntimeError("the password is 1234")
            if request.build_id == "stray":
                raise asyncio.CancelledError
            if request.build_id == "endless":
                await asyncio.sleep(60)
        finally:
            self.ended.set()

    async def ImportTrades(self, requests: Any, context: Any) -> build_service_pb2.ImportTradesResponse:
        total = 0
        async for request in requests:
            total += len(request.chunk)
        if total == 0:
            await asyncio.sleep(60)
        return build_service_pb2.ImportTradesResponse(replayed=total == 6)


class Streams:
    """A server of streams and a stub of it."""

    def __init__(self, servicer: StreamServicer, server: GrpcServer, channel: grpc.aio.Channel) -> None:
        self.servicer = servicer
        self.server = server
        self.channel = channel
        self.stub = build_service_pb2_grpc.BuildServiceStub(channel)

    async def watch(self, build_id: str) -> tuple[int, grpc.StatusCode, dict[str, Any]]:
        """Watches a build: how many messages came, how it ended, its trailers."""
        call = self.stub.WatchBuild(build_service_pb2.WatchBuildRequest(build_id=build_id), timeout=10)
        count = 0
        try:
            async for _ in call:
                count += 1
        except grpc.aio.AioRpcError as error:
            return count, error.code(), dict(error.trailing_metadata() or ())
        return count, await call.code(), dict(await call.trailing_metadata())


@asynccontextmanager
async def streaming(limits: RpcLimits | None = None) -> AsyncIterator[Streams]:
    servicer = StreamServicer()  # type: ignore[abstract] # the other methods are not called
    settings = ServerSettings(port=0, limits=limits or RpcLimits(), drain_wait_s=0, drain_grace_s=1)
    server = GrpcServer(Services(builds=servicer), settings=settings, ping=Store().ping, log=LogLines())
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        try:
            yield Streams(servicer, server, channel)
        finally:
            await server.stop()


@pytest.mark.parametrize(
    "build_id, code, why",
    [
        ("fine", grpc.StatusCode.OK, None),
        ("unknown", grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
        ("bug", grpc.StatusCode.INTERNAL, "INTERNAL"),
        ("stray", grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"),
    ],
)
async def test_a_stream_ends_with_the_status_of_what_ended_it(
    build_id: str, code: grpc.StatusCode, why: str | None
) -> None:
    async with streaming() as streams:
        count, ended, trailers = await streams.watch(build_id)
        assert (count, ended) == (3, code)
        assert "x-request-id" in trailers
        if why is not None:
            assert reason(trailers) == why
            assert b"1234" not in trailers["grpc-status-details-bin"]


async def test_a_stream_its_reader_leaves_is_ended_and_no_longer_counted() -> None:
    async with streaming() as streams:
        call = streams.stub.WatchBuild(build_service_pb2.WatchBuildRequest(build_id="endless"))
        await call.read()
        assert streams.server.in_flight.count == 1
        call.cancel()
        await asyncio.wait_for(streams.servicer.ended.wait(), 5)
        assert await streams.server.in_flight.wait_idle(timeout_s=5)


async def test_a_stop_cuts_a_stream_that_does_not_end_by_itself() -> None:
    async with streaming() as streams:
        watching = asyncio.create_task(streams.watch("endless"))
        async with asyncio.timeout(5):
            while not streams.server.in_flight.count:  # noqa: ASYNC110 - the server has no event for a beginning
                await asyncio.sleep(0.01)
        assert not await streams.server.stop(), "it must say that something was cut off"
        assert (await watching)[1] in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)


async def test_a_stream_has_no_deadline_of_ours_and_a_request_stream_a_long_one() -> None:
    async with streaming(RpcLimits(unary_deadline_s=0.05, import_deadline_s=0.3)) as streams:
        watching = asyncio.create_task(streams.watch("endless"))
        await asyncio.sleep(0.5)
        assert not watching.done()
        watching.cancel()

        async def empty() -> AsyncIterator[build_service_pb2.ImportTradesRequest]:
            yield build_service_pb2.ImportTradesRequest(chunk=b"")

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await streams.stub.ImportTrades(empty())
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_bytes_in_the_middle_of_a_request_stream_that_are_no_message_are_refused() -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield build_service_pb2.ImportTradesRequest(chunk=b"abc").SerializeToString()
        yield b"\xff\xff"

    async with streaming() as streams:
        call: Any = streams.channel.stream_unary(IMPORT)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(parts())
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert reason(dict(caught.value.trailing_metadata() or ())) == "INVALID_FIELD"


async def test_a_request_stream_is_answered_once_it_is_read() -> None:
    async def parts() -> AsyncIterator[build_service_pb2.ImportTradesRequest]:
        yield build_service_pb2.ImportTradesRequest(chunk=b"abc")
        yield build_service_pb2.ImportTradesRequest(chunk=b"def")

    async with streaming() as streams:
        assert (await streams.stub.ImportTrades(parts())).replayed
