"""B10: 200 watchers of positions while 500 changes a second are committed; how late they are told, and their memory.

Twenty accounts of one position have ten watchers each, conflated, as watches are unless something else is asked for: at
most ten times a second each. The reference is a bare server whose streams carry equal messages, stamped when they are
handed out, to as many clients ten times a second.
Watchers are a process of their own, so that what they cost is not counted as the service's delay.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import grpc.aio
import psutil

from steelyard.accounting.entries import Fill, Side
from steelyard.accounting.keys import DEFAULT_BOOK, Account, FillId, InstrumentName, Leg, PositionKey
from steelyard.operations.record_fills import RecordFills
from steelyard.storage.ledger import PostgresLedger
from steelyard.v1 import position_service_pb2 as wire
from steelyard.v1 import position_service_pb2_grpc
from tests.bench.echo import calls_of
from tests.bench.harness import Line, Run, Target, Terms, say, stage
from tests.bench.service import serving_at
from tests.bench.store import PATTERN, durable_postgres, make_instruments, new_database, open_database

METHOD = "WatchPositions"
SERVICE = "steelyard.v1.PositionService"
ACCOUNTS = 20
WATCHERS = 200
PER_S = 500
EVERY_S = 0.1
"""How often a conflated watcher is told, at the most."""
LASTING_S = 8.0
SETTLING_S = 1.0
KIB = 1024
INSTRUMENT = "BTCUSD"
IN_TIME = Target("p99 ≤ 250 ms", product_max=250.0)
SMALL = Target("≤ 64 KiB", product_max=64.0)


@dataclass(frozen=True, slots=True)
class Watched:
    """How late the watchers of one server were told, and by how much each of them made it grow."""

    p99_ms: float
    kib_each: float
    told: int


async def watcher_speed(terms: Terms, _wanted: frozenset[str]) -> list[Line]:
    """B10: two lines, lateness and memory."""
    lasting_s = max(2.0, LASTING_S * terms.scale)
    async with durable_postgres() as postgres:
        url = await new_database(postgres, "watchers")
        database = open_database(url)
        await make_instruments(database, [INSTRUMENT])
        await database.close()
        runs = []
        for number in range(terms.runs):
            with stage(f"B10: run {number + 1}"):
                async with _bare_server(lasting_s) as (address, pid):
                    bare = await _watched(address, pid, lasting_s=lasting_s)
                async with serving_at(url) as address:
                    product = await _watched(address, _service(), lasting_s=lasting_s, url=url)
            runs.append((product, bare))
            say(f"B10: {product} against {bare}")
    work = f"{WATCHERS} watchers, {PER_S} changes/s"
    return [
        Line("B10", f"{work}: commit to client, p99", "a bare stream of equal messages", "ms", IN_TIME,
             [Run(product.p99_ms, bare.p99_ms) for product, bare in runs], terms.scale),
        Line("B10b", f"{work}: memory of the server for each", "a bare stream of equal messages", "KiB", SMALL,
             [Run(product.kib_each, bare.kib_each) for product, bare in runs], terms.scale),
    ]  # fmt: skip


async def _watched(address: str, pid: int, *, lasting_s: float, url: str | None = None) -> Watched:
    """Lets the watchers watch one server; with a database fills are recorded there meanwhile."""
    server = psutil.Process(pid)
    await _warm(address)
    before = server.memory_info().rss
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.watcher_speed", "watch", address, str(lasting_s)),
        stdout=PIPE,
        env={**os.environ, "GRPC_VERBOSITY": "ERROR"},
    )
    assert process.stdout is not None
    assert (await process.stdout.readline()).strip() == b"ready"
    await asyncio.sleep(SETTLING_S)
    grown = server.memory_info().rss - before
    if url is not None:
        await _record(url, lasting_s=lasting_s)
    told = json.loads(await process.stdout.readline())
    await process.wait()
    return Watched(told["p99_ms"], grown / KIB / WATCHERS, told["told"])


async def _warm(address: str) -> None:
    """One watcher comes and goes, so that what the first one costs is not counted."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = position_service_pb2_grpc.PositionServiceStub(channel).WatchPositions(_request(0))
        await call.read()
        call.cancel()


def _request(number: int) -> wire.WatchPositionsRequest:
    return wire.WatchPositionsRequest(account=f"a{number % ACCOUNTS}")


async def _record(url: str, *, lasting_s: float) -> None:
    """Records 500 fills a second, one at a time as they are due, each in an account of the twenty."""
    database = open_database(url)
    ledger = PostgresLedger(database, lambda: datetime.now(UTC))
    recording = RecordFills(ledger, lambda: datetime.now(UTC), new_accounts=PATTERN)
    recording.start()
    began, name = time.perf_counter(), f"{time.time_ns()}"
    async with asyncio.TaskGroup() as group:
        for number in range(int(PER_S * lasting_s)):
            await asyncio.sleep(max(0.0, began + number / PER_S - time.perf_counter()))
            group.create_task(recording.record(_fill(f"{name}-{number}", account=f"a{number % ACCOUNTS}")))
    await recording.close()
    await database.close()


def _fill(name: str, *, account: str) -> Fill:
    return Fill(
        key=PositionKey(Account(account), DEFAULT_BOOK, InstrumentName(INSTRUMENT), Leg.NET),
        fill_id=FillId(name),
        side=Side.BUY,
        quantity=Decimal("0.5"),
        price=Decimal("20000.25"),
        executed_at=datetime.now(UTC),
        fee=Decimal("0.01"),
        source_sequence=0,
    )


def _service() -> int:
    """The process of the service that was started here."""
    found = [child.pid for child in psutil.Process().children() if "steelyard.app" in " ".join(child.cmdline())]
    (pid,) = found[:1]
    return int(pid)


async def _watch(address: str, lasting_s: float) -> None:
    """Opens the watchers, says so, and tells how late they were told."""
    lates: list[float] = []

    async def listen(number: int, *, begun: asyncio.Semaphore) -> None:
        async with grpc.aio.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
            call = position_service_pb2_grpc.PositionServiceStub(channel).WatchPositions(_request(number))
            has_begun = False
            async for message in call:
                kind = message.WhichOneof("message")
                if kind == "snapshot_end":
                    has_begun = True
                    begun.release()
                elif kind == "change" and has_begun:
                    at = message.change.position.updated_at
                    lates.append(time.time() - (at.seconds + at.nanos / 1e9))

    begun = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(listen(number, begun=begun)) for number in range(WATCHERS)]
    for _ in tasks:
        await begun.acquire()
    print("ready", flush=True)
    await asyncio.sleep(2 * SETTLING_S + lasting_s)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    p99_ms = calls_of(lates, lasting_s=lasting_s).p99_ms
    print(json.dumps({"p99_ms": p99_ms, "told": len(lates)}), flush=True)


@asynccontextmanager
async def _bare_server(lasting_s: float) -> AsyncIterator[tuple[str, int]]:
    async with AsyncExitStack() as stack:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.watcher_speed", "serve", str(lasting_s)),
            stdout=PIPE,
            env={**os.environ, "GRPC_VERBOSITY": "ERROR"},
        )
        stack.callback(process.terminate)
        assert process.stdout is not None
        yield (await process.stdout.readline()).decode().strip(), process.pid


async def _serve(lasting_s: float) -> None:
    """Streams as many messages as the watchers of the product are told, each stamped when it is handed out."""
    pattern = _pattern()

    async def watch(_request: Any, _context: Any) -> AsyncIterator[wire.WatchPositionsResponse]:
        yield wire.WatchPositionsResponse(snapshot_end=wire.WatchSnapshotEnd())
        await asyncio.sleep(SETTLING_S)
        began = time.perf_counter()
        for number in range(int(lasting_s / EVERY_S)):
            await asyncio.sleep(max(0.0, began + number * EVERY_S - time.perf_counter()))
            message = wire.WatchPositionsResponse()
            message.CopyFrom(pattern)
            message.change.position.updated_at.FromNanoseconds(time.time_ns())
            yield message
        await asyncio.sleep(lasting_s + 4 * SETTLING_S)

    handler = grpc.unary_stream_rpc_method_handler(
        watch,
        request_deserializer=wire.WatchPositionsRequest.FromString,
        response_serializer=wire.WatchPositionsResponse.SerializeToString,
    )
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


def _pattern() -> wire.WatchPositionsResponse:
    """A message as long as one of the service's."""
    message = wire.WatchPositionsResponse(resume_token="t" * 120)
    message.change.kind = wire.POSITION_CHANGE_KIND_UPDATED
    message.change.position.notes = "p" * 1_200
    return message


def main() -> None:
    """The watchers, or the bare server."""
    import uvloop

    what, *arguments = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if what == "watch":
            runner.run(_watch(arguments[0], float(arguments[1])))
        else:
            runner.run(_serve(float(arguments[0])))


if __name__ == "__main__":
    main()
