"""B16: fills recorded while a million rows are imported, against the same callers with the service to themselves.

Both write the same accounts: the import under the book `main`, the callers under a book of their own. Callers are asked
from the first byte of the file until the import's positions are built, by a worker beside the service.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc.aio

from steelyard.client import BuildState, Steelyard
from steelyard.v1 import fill_service_pb2, fill_service_pb2_grpc
from tests.bench.book_files import KEYS, BookFiles, make_files
from tests.bench.echo import Calls, calls_of
from tests.bench.harness import BenchUnavailable, Line, Run, Target, Terms, say, stage
from tests.bench.import_speed import TIMEOUT_S, empty_book, make_template
from tests.bench.production import Production, production
from tests.bench.service import working
from tests.bench.store import FOLDER, drop_database, durable_postgres
from tests.bench.traffic import Traffic

ROWS = 1_000_000
IN_FLIGHT = 8
WARM_UP_S, ALONE_S = 2.0, 10.0
HARDLY_SLOWER = Target("≤ 5 ×", ratio_max=5)
Record = Callable[[], Any]


async def busy_import(terms: Terms, wanted: frozenset[str]) -> list[Line]:
    """B16."""
    count = terms.sized(ROWS, at_least=2 * KEYS)
    with stage(f"making files of {count:,} fills"):
        files = make_files(FOLDER, count)
    runs: list[Run] = []
    try:
        async with durable_postgres() as postgres:
            await make_template(postgres)
            for number in range(terms.runs):
                url = await empty_book(postgres, f"busy{number}")
                async with production(url) as service, working(url):
                    runs.append(await _run(service, files))
                await drop_database(postgres, f"busy{number}")
    finally:
        files.remove()
    work = f"99th percentile of RecordFill, {IN_FLIGHT} in flight, while {count:,} rows are imported"
    return [Line("B16", work, "of RecordFill alone", "ms", HARDLY_SLOWER, runs, terms.scale)]


async def _run(service: Production, files: BookFiles) -> Run:
    traffic = Traffic(KEYS, book="desk")
    secret = service.metadata[0][1]
    async with (
        grpc.aio.insecure_channel(service.address) as channel,
        Steelyard.connect(service.address, api_key=secret) as client,
    ):
        stub: Any = fill_service_pb2_grpc.FillServiceStub(channel)

        async def record() -> None:
            await stub.RecordFill(
                fill_service_pb2.RecordFillRequest(fill=traffic.one()), metadata=service.metadata, timeout=TIMEOUT_S
            )

        await _until(record, asyncio.create_task(asyncio.sleep(WARM_UP_S)))
        alone = await _until(record, asyncio.create_task(asyncio.sleep(ALONE_S)))
        during = await _until(record, asyncio.create_task(_import(client, files)))
    lasting_s = during.count / during.per_s
    say(
        f"B16: p99 {alone.p99_ms:.1f} ms alone ({alone.per_s:,.0f} fills/s), {during.p99_ms:.1f} ms in "
        f"the {lasting_s:.0f} s of the import ({during.per_s:,.0f} fills/s, slowest {during.max_ms:.0f} ms)"
    )
    return Run(during.p99_ms, alone.p99_ms)


async def _until(record: Record, ended: asyncio.Task[None]) -> Calls:
    """The figures of calls made by so many callers until a task has ended."""
    took: list[float] = []
    started = time.perf_counter()

    async def caller() -> None:
        while not ended.done():
            begun = time.perf_counter()
            await record()
            took.append(time.perf_counter() - begun)

    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(caller())
    await ended
    return calls_of(took, lasting_s=time.perf_counter() - started)


async def _import(client: Steelyard, files: BookFiles) -> None:
    outcome = await client.import_trades(files.csv, timeout_s=TIMEOUT_S)
    done = outcome.trade_import
    if done.recorded != files.fills or done.build_id is None:
        raise BenchUnavailable(f"the import recorded {done.recorded} of {files.fills} fills")
    build = await client.build(done.build_id).wait(timeout_s=TIMEOUT_S)
    if build.state is not BuildState.SUCCEEDED:
        raise BenchUnavailable(f"the import's build ended {build.state}: {build.error}")
