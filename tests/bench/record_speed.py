"""B3, B4 and B17: fills recorded durably, one in a call and in streams, against a transaction for each in pgbench; the
streams also against their statements straight through asyncpg.

Service, callers, PostgreSQL and pgbench share the processors; each run measures all of them one after the other.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import grpc.aio

from steelyard.client import Steelyard
from steelyard.embedded import EmbeddedPostgres
from steelyard.v1 import fill_pb2, fill_service_pb2, fill_service_pb2_grpc
from tests.bench.book_files import KEYS
from tests.bench.harness import Line, Run, Target, Terms, say, stage
from tests.bench.import_speed import empty_book
from tests.bench.pgbench import best_clients, transactions_per_s
from tests.bench.production import production
from tests.bench.raw_batches import rounds_of, seconds_of
from tests.bench.service import serving
from tests.bench.store import FOLDER, drop_database, durable_postgres
from tests.bench.traffic import Traffic, new_book, stream_encoded

IN_FLIGHT = 64
LASTING_S = 5.0
STREAMS, BATCHES, BATCH = 2, 30, 1_000
STREAMED_KEYS = 100
LATE_SHARE = 20
"""One fill in so many is late in B17c."""
LATE_BY = timedelta(seconds=61)
DURABLE = Target("≥ 0.6 × (moonshot > 1 ×)", ratio_min=0.6)
STREAMED = Target("≥ 5 ×; ≥ 20,000 fills/s", ratio_min=5, product_min=20_000)
HALF = Target("≥ 0.5 ×", ratio_min=0.5)
EVEN = Target("≤ 3 ×", ratio_max=3)

NextFill = Callable[[], fill_pb2.Fill]


@dataclass(slots=True)
class _Told:
    """How long each call of each caller took, in seconds."""

    callers: list[list[float]] = field(default_factory=list)
    per_s: float = 0.0

    @property
    def unevenness(self) -> float:
        """The slowest caller's 99th percentile in those of the median caller."""
        slowest = sorted(sorted(taken)[int((len(taken) - 1) * 0.99)] for taken in self.callers if taken)
        return slowest[-1] / statistics.median(slowest)


async def record_speed(terms: Terms, wanted: frozenset[str]) -> list[Line]:
    """The wanted ones of B3, B4 and B17."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    async with durable_postgres() as postgres:
        traffic = Traffic(KEYS)
        url = await new_book(postgres, "recorded", traffic)
        # pgbench writes figures that fit nothing: it has a copy of its own.
        copied = await empty_book(postgres, "reference", template="recorded")
        seconds = max(2, round(LASTING_S * terms.scale))
        with stage("looking for pgbench's best number of clients"):
            clients = await best_clients(copied, FOLDER, lasting_s=2)

        async def transactions() -> float:
            return await transactions_per_s(copied, FOLDER, clients=clients, lasting_s=seconds)

        lines = []
        if not wanted.isdisjoint({"B3", "B17"}):
            lines += await _single(url, traffic, terms, pgbench=transactions)
        if "B4" in wanted:
            lines += await _streamed(url, traffic, terms, pgbench=transactions, raw=Raw(postgres))
        return [line for line in lines if line.id.rstrip("bc") in wanted]


async def _single(url: str, traffic: Traffic, terms: Terms, *, pgbench: Callable[[], Any]) -> list[Line]:
    runs: dict[str, list[Run]] = {"B3": [], "B17": [], "B17b": [], "B17c": []}
    hot = traffic.keys - 1
    async with _stub(url) as first, _stub(url) as second:
        for number in range(terms.runs):
            reference = await pgbench()
            alone = await _record([first], traffic.one, terms)
            one_key = await _record([first, second], lambda: traffic.of(hot), terms)
            late = await _record([first], _sometimes_late(traffic), terms)
            runs["B3"].append(Run(alone.per_s, reference))
            runs["B17"].append(Run(one_key.per_s, alone.per_s))
            runs["B17b"].append(Run(one_key.unevenness, 1.0))
            runs["B17c"].append(Run(late.per_s, alone.per_s))
            say(
                f"B3: run {number + 1}: {alone.per_s:,.0f} fills/s, pgbench {reference:,.0f}, one key "
                f"{one_key.per_s:,.0f}, some late {late.per_s:,.0f}"
            )
    scale = terms.scale
    work = f"RecordFill, {KEYS} keys, {IN_FLIGHT} in flight"
    return [
        Line("B3", work, "pgbench, one transaction a fill", "fills/s", DURABLE, runs["B3"], scale),
        Line("B17", "all of them on one key, two processes", "B3", "fills/s", HALF, runs["B17"], scale),
        Line("B17b", "the slowest caller's p99 there", "the median caller's", "×", EVEN, runs["B17b"], scale),
        Line("B17c", "5 % of fills 30 places late", "B3", "fills/s", HALF, runs["B17c"], scale),
    ]


@asynccontextmanager
async def _stub(url: str) -> AsyncIterator[Callable[[fill_pb2.Fill], Any]]:
    async with production(url) as service, grpc.aio.insecure_channel(service.address) as channel:
        stub = fill_service_pb2_grpc.FillServiceStub(channel)

        async def record(fill: fill_pb2.Fill) -> Any:
            return await stub.RecordFill(fill_service_pb2.RecordFillRequest(fill=fill), metadata=service.metadata)

        yield record


async def _record(record: Sequence[Callable[[fill_pb2.Fill], Any]], fill: NextFill, terms: Terms) -> _Told:
    told = _Told()
    begun = time.perf_counter()
    until = begun + LASTING_S * terms.scale

    async def caller(number: int, taken: list[float]) -> None:
        while (started := time.perf_counter()) < until:
            await record[number % len(record)](fill())
            taken.append(time.perf_counter() - started)

    async with asyncio.TaskGroup() as group:
        for number in range(IN_FLIGHT):
            told.callers.append([])
            group.create_task(caller(number, told.callers[-1]))
    told.per_s = sum(map(len, told.callers)) / (time.perf_counter() - begun)
    return told


def _sometimes_late(traffic: Traffic) -> NextFill:
    count = 0

    def fill() -> fill_pb2.Fill:
        nonlocal count
        count += 1
        made = traffic.one()
        if count % LATE_SHARE == 0:
            made.executed_at.FromDatetime(made.executed_at.ToDatetime() - LATE_BY)
        return made

    return fill


@dataclass(frozen=True, slots=True)
class Raw:
    """The same batches as bare statements, each run on new copies of the recorded book."""

    postgres: EmbeddedPostgres

    async def fills_per_s(self, batches: int) -> float:
        """What as many batches come to in a second: their rounds hold one batch of each stream."""
        own = Traffic(STREAMED_KEYS, book="raw")
        sent = list(own.batches(batches, size=STREAMS * BATCH))
        noted = await empty_book(self.postgres, "noted", template="reference")
        replayed = await empty_book(self.postgres, "replayed", template="reference")
        try:
            rounds = await rounds_of(noted, sent)
            return STREAMS * BATCH * batches / await seconds_of(replayed, rounds)
        finally:
            await drop_database(self.postgres, "noted")
            await drop_database(self.postgres, "replayed")


async def _streamed(url: str, traffic: Traffic, terms: Terms, *, pgbench: Callable[[], Any], raw: Raw) -> list[Line]:
    batches = terms.sized(BATCHES, at_least=4)
    own = Traffic(STREAMED_KEYS, book="streamed")
    runs: list[Run] = []
    bare_runs: list[Run] = []
    async with serving(url) as client:
        for number in range(terms.runs):
            reference = await pgbench()
            bare = await raw.fills_per_s(batches)
            sent = [
                [batch.SerializeToString() for batch in own.batches(batches, size=BATCH, part=part, parts=STREAMS)]
                for part in range(STREAMS)
            ]
            taken = await _seconds(client, sent)
            runs.append(Run(STREAMS * batches * BATCH / taken, reference))
            bare_runs.append(Run(runs[-1].product, bare))
            say(
                f"B4: run {number + 1}: {runs[-1].product:,.0f} fills/s, pgbench {reference:,.0f}, "
                f"statements alone {bare:,.0f}"
            )
    work = f"StreamFills, {STREAMED_KEYS} keys, {STREAMS} streams of batches of {BATCH:,}"
    bare_work = "their statements in the same batches through asyncpg"
    return [
        Line("B4", work, "pgbench, one transaction a fill", "fills/s", STREAMED, runs, terms.scale),
        Line("B4b", "the same streams", bare_work, "fills/s", HALF, bare_runs, terms.scale),
    ]


async def _seconds(client: Steelyard, sent: Sequence[Sequence[bytes]]) -> float:
    started = time.perf_counter()
    await asyncio.gather(*(stream_encoded(client, batches) for batches in sent))
    return time.perf_counter() - started
