"""B1 and B11: positions asked for while nothing is cached, through every layer that calls pass in production.

B1 asks for one position after the other of 500 in full and strictly fresh, against a bare echo of an equal answer. B11
asks for pages of 500 positions, against one SQL statement that fetches their rows.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import grpc.aio

from steelyard.v1 import position_service_pb2, position_service_pb2_grpc
from tests.bench.book_files import KEYS, account_of, instrument_of
from tests.bench.echo import Calls, echoing, measure
from tests.bench.harness import Line, Run, Target, Terms, say
from tests.bench.production import production
from tests.bench.store import durable_postgres
from tests.bench.traffic import Traffic, new_book

GET = "/steelyard.v1.PositionService/GetPosition"
IN_FLIGHT = 64
LASTING_S = 4.0
PAGES = 40
AS_QUICK = Target("≥ 0.40 × (moonshot 0.60 ×)", ratio_min=0.40)
AS_STEADY = Target("≤ 4 ×", ratio_max=4)
WITHIN_30_MS = Target("p95 ≤ 30 ms", product_max=30)
ROWS = "SELECT * FROM positions LEFT JOIN marks USING (instrument) ORDER BY account, book, positions.instrument, leg"


async def read_speed(terms: Terms, wanted: frozenset[str]) -> list[Line]:
    """The wanted ones of B1 (throughput, and the 99th percentile) and B11."""
    async with durable_postgres() as postgres:
        url = await new_book(postgres, "read", Traffic(KEYS))
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(
                "INSERT INTO marks (instrument, price, marked_at, source) "
                "SELECT instrument, 20000.25, now(), 'bench' FROM instruments"
            )
            async with production(url) as service, grpc.aio.insecure_channel(service.address) as channel:
                caller = _Caller(position_service_pb2_grpc.PositionServiceStub(channel), service.metadata)
                lines = await _one(caller, terms) if "B1" in wanted else []
                if "B11" in wanted:
                    lines.append(await _pages(caller, connection, terms))
                return lines
        finally:
            await connection.close()


@dataclass(frozen=True, slots=True)
class _Caller:
    stub: Any
    metadata: Any

    async def get(self, request: position_service_pb2.GetPositionRequest) -> Any:
        return await self.stub.GetPosition(request, metadata=self.metadata)

    async def page(self, request: position_service_pb2.ListPositionsRequest) -> Any:
        return await self.stub.ListPositions(request, metadata=self.metadata)


async def _one(caller: _Caller, terms: Terms) -> list[Line]:
    asked = [
        position_service_pb2.GetPositionRequest(account=account_of(key), instrument=instrument_of(key))
        for key in range(KEYS)
    ]
    random.Random(1).shuffle(asked)
    answer = await caller.get(asked[0])
    quick: list[Run] = []
    steady: list[Run] = []
    async with (
        echoing(GET, request=position_service_pb2.GetPositionRequest, answer=answer) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        echo = _Caller(position_service_pb2_grpc.PositionServiceStub(channel), caller.metadata)
        for number in range(terms.runs):
            bare = await _calls(echo.get, asked, terms)
            told = await _calls(caller.get, asked, terms)
            say(
                f"B1: run {number + 1}: {told.per_s:,.0f} of {bare.per_s:,.0f} calls/s, "
                f"p99 {told.p99_ms:.1f} of {bare.p99_ms:.1f} ms"
            )
            quick.append(Run(told.per_s, bare.per_s))
            steady.append(Run(told.p99_ms, bare.p99_ms))
    work = f"GetPosition, full view, strictly fresh, {KEYS} keys, {IN_FLIGHT} in flight"
    return [
        Line("B1", work, "bare echo of an equal answer", "calls/s", AS_QUICK, quick, terms.scale),
        Line("B1b", "99th percentile of the same", "of the echo", "ms", AS_STEADY, steady, terms.scale),
    ]


async def _calls(
    ask: Callable[[position_service_pb2.GetPositionRequest], Awaitable[object]],
    asked: list[position_service_pb2.GetPositionRequest],
    terms: Terms,
) -> Calls:
    turn = itertools.cycle(asked)
    return await measure(lambda: ask(next(turn)), in_flight=IN_FLIGHT, lasting_s=LASTING_S * terms.scale)


async def _pages(caller: _Caller, connection: asyncpg.Connection, terms: Terms) -> Line:
    request = position_service_pb2.ListPositionsRequest(page_size=KEYS)
    runs: list[Run] = []
    for _ in range(terms.runs):
        fetched = await _p95_ms(lambda: connection.fetch(ROWS))
        told = await _p95_ms(lambda: caller.page(request))
        runs.append(Run(told, fetched))
    work = f"95th percentile of ListPositions, a page of {KEYS}"
    return Line("B11", work, "one SQL statement for their rows", "ms", WITHIN_30_MS, runs, terms.scale)


async def _p95_ms(ask: Callable[[], Awaitable[object]]) -> float:
    taken: list[float] = []
    for _ in range(PAGES):
        started = time.perf_counter()
        await ask()
        taken.append(time.perf_counter() - started)
    ordered = sorted(taken)
    return ordered[int(len(ordered) * 0.95) - 1] * 1e3
