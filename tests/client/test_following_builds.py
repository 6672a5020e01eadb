"""What the client does by itself around builds: chunks, progress, and taking a cut watch up again.

The server here is a real one whose BuildService cuts its streams on purpose, which the true one never does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from steelyard.accounting.errors import NotFound as NoSuchThing
from steelyard.accounting.errors import StoreUnavailable
from steelyard.client import Build, BuildState, NotFound, Steelyard, Unavailable
from steelyard.client.build_calls import CHUNK_BYTES
from steelyard.rpc.server import GrpcServer, ServerSettings, Services
from steelyard.telemetry.logs import silent_log
from steelyard.v1 import build_pb2, build_service_pb2, build_service_pb2_grpc, import_pb2
from tests.rpc.trouble import Store

RUNNING, SUCCEEDED = build_pb2.BUILD_STATE_RUNNING, build_pb2.BUILD_STATE_SUCCEEDED


def message(state: build_pb2.BuildState.ValueType, done: int) -> build_service_pb2.WatchBuildResponse:
    progress = build_pb2.BuildProgress(keys_done=done, keys_total=3)
    return build_service_pb2.WatchBuildResponse(build=build_pb2.Build(build_id="b", state=state, progress=progress))


class CuttingServicer(build_service_pb2_grpc.BuildServiceServicer):
    """Each watch plays the next script: states, then an error or an early end."""

    def __init__(self, *scripts: list[Any]) -> None:
        self.scripts = list(scripts)
        self.header: import_pb2.ImportHeader | None = None
        self.chunks: list[bytes] = []
        self.waits = 0

    async def WatchBuild(self, request: Any, context: Any) -> AsyncIterator[build_service_pb2.WatchBuildResponse]:
        for step in self.scripts.pop(0):
            if isinstance(step, Exception):
                raise step
            yield step

    async def WaitBuild(self, request: Any, context: Any) -> build_service_pb2.WaitBuildResponse:
        self.waits += 1
        return build_service_pb2.WaitBuildResponse(build=message(SUCCEEDED if self.waits == 3 else RUNNING, 1).build)

    async def ImportTrades(self, requests: Any, context: Any) -> build_service_pb2.ImportTradesResponse:
        async for request in requests:
            if request.HasField("header"):
                self.header = request.header
            else:
                self.chunks.append(request.chunk)
        return build_service_pb2.ImportTradesResponse(trade_import=import_pb2.Import(import_id="i"))


@asynccontextmanager
async def following(servicer: CuttingServicer) -> AsyncIterator[Steelyard]:
    settings = ServerSettings(port=0, drain_wait_s=0)
    server = GrpcServer(Services(builds=servicer), settings=settings, ping=Store().ping, log=silent_log())
    await server.start()
    async with Steelyard.connect(server.address, timeout_s=10) as steelyard:
        try:
            yield steelyard
        finally:
            await server.stop()


def cutting(*scripts: list[Any]) -> CuttingServicer:
    return CuttingServicer(*scripts)  # type: ignore[abstract] # the other methods are not called


async def watched(steelyard: Steelyard) -> list[tuple[str, int]]:
    return [(build.state, build.progress.keys_done) async for build in steelyard.watch_build("b")]


async def test_a_watch_ends_with_the_terminal_state() -> None:
    async with following(cutting([message(RUNNING, 1), message(SUCCEEDED, 3)])) as steelyard:
        assert await watched(steelyard) == [("RUNNING", 1), ("SUCCEEDED", 3)]


@pytest.mark.parametrize("cut", [[StoreUnavailable()], []], ids=["cut", "ended early, as by a drain"])
async def test_a_watch_that_was_cut_is_taken_up_again(cut: list[Exception]) -> None:
    async with following(cutting([message(RUNNING, 1), *cut], [message(SUCCEEDED, 3)])) as steelyard:
        assert await watched(steelyard) == [("RUNNING", 1), ("SUCCEEDED", 3)]


async def test_a_watch_that_is_refused_is_not_taken_up_again() -> None:
    async with following(cutting([NoSuchThing("build", "b")])) as steelyard:
        with pytest.raises(NotFound):
            await watched(steelyard)


async def test_a_watch_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steelyard.client.build_calls.WATCH_PAUSE_S", 0.001)
    monkeypatch.setattr("steelyard.client.build_calls.WATCH_ATTEMPTS", 0)
    away = [[StoreUnavailable()] for _ in range(20)]
    async with following(cutting(*away)) as steelyard:
        with pytest.raises(Unavailable):
            await watched(steelyard)


async def test_a_handle_waits_as_long_as_it_takes() -> None:
    servicer = cutting()
    async with following(servicer) as steelyard:
        handle = steelyard.build("b")
        assert (await handle.wait(timeout_s=10)).state is BuildState.SUCCEEDED
        assert (servicer.waits, isinstance(handle.latest, Build)) == (3, True)
        servicer.waits = -1_000_000
        with pytest.raises(TimeoutError):
            await handle.wait(timeout_s=0.2)


@pytest.mark.parametrize("kind", ["path", "bytes", "pieces"])
async def test_a_file_is_sent_in_chunks_with_its_progress(kind: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * (CHUNK_BYTES // 256) * 2 + b"rest"
    path = tmp_path / "day.csv"
    path.write_bytes(content)

    async def pieces() -> AsyncIterator[bytes]:
        yield content[:10]
        yield content[10:]

    source: Any = {"path": path, "bytes": content, "pieces": pieces()}[kind]
    seen: list[tuple[int, int | None]] = []
    servicer = cutting()
    async with following(servicer) as steelyard:
        outcome = await steelyard.import_trades(source, progress=lambda sent, total: seen.append((sent, total)))
    assert outcome.trade_import.import_id == "i"
    assert b"".join(servicer.chunks) == content
    assert max(map(len, servicer.chunks)) <= CHUNK_BYTES
    assert seen[-1] == (len(content), None if kind == "pieces" else len(content))
    assert servicer.header is not None
    assert servicer.header.file_name == ("day.csv" if kind == "path" else "")


async def test_a_file_that_is_not_there_is_an_os_error_and_nothing_is_sent() -> None:
    servicer = cutting()
    async with following(servicer) as steelyard:
        with pytest.raises(OSError):
            await steelyard.import_trades("/nowhere/day.csv")
        await asyncio.sleep(0.05)
    assert servicer.chunks == []


async def test_a_build_is_about_one_kind_of_thing() -> None:
    async with following(cutting()) as steelyard:
        with pytest.raises(ValueError, match="one of them"):
            await steelyard.create_build(accounts=["A"], pairs=[("A", "B")])
