"""B2 and B14: GetPortfolio of 100 positions, cached and not, of a service as it runs in production."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import asyncpg
import grpc.aio

from steelyard.accounting.entries import Fill, Side
from steelyard.accounting.keys import DEFAULT_BOOK, Account, FillId, InstrumentName, Leg, PositionKey
from steelyard.accounting.marks import Mark
from steelyard.operations.record_fills import RecordFills
from steelyard.storage.database import Database
from steelyard.storage.marks import MarkTable
from steelyard.storage.portfolio_reads import PORTFOLIOS
from steelyard.v1 import portfolio_service_pb2 as wire
from steelyard.v1 import portfolio_service_pb2_grpc
from tests.bench.echo import Calls, echoing, measure
from tests.bench.harness import Line, Run, Target, Terms, say, stage
from tests.bench.production import production, redis
from tests.bench.store import (
    PATTERN,
    durable_postgres,
    ledger_on,
    make_instruments,
    new_database,
    open_database,
    settle,
)

METHOD = "/steelyard.v1.PortfolioService/GetPortfolio"
POSITIONS = 100
ACCOUNT = "desk"
IN_FLIGHT = 64
LASTING_S = 4.0
AT = datetime(2026, 5, 1, 15, tzinfo=UTC)
ALONE = 1
"""Callers of an uncached portfolio at a time: its target is how long one answer takes."""
CACHED = Target("≥ 0.60 ×", ratio_min=0.60)
QUICK = Target("p99 ≤ 30 ms", product_max=30.0)


@dataclass(frozen=True, slots=True)
class Asker:
    """A caller on one channel."""

    channel: grpc.aio.Channel
    metadata: tuple[tuple[str, str], ...] = ()

    def portfolio(self, *, requests: Callable[[], wire.GetPortfolioRequest]) -> Callable[[], Awaitable[object]]:
        """Asks for portfolios."""
        ask = portfolio_service_pb2_grpc.PortfolioServiceStub(self.channel).GetPortfolio
        return lambda: ask(requests(), metadata=self.metadata)


def of_the_desk() -> wire.GetPortfolioRequest:
    """Asks for the portfolio of 100 positions."""
    return wire.GetPortfolioRequest(accounts=[ACCOUNT])


async def portfolio_speed(terms: Terms, wanted: frozenset[str]) -> list[Line]:
    """B2, B14."""
    lasting_s = max(0.5, LASTING_S * terms.scale)
    async with durable_postgres() as postgres:
        url = await new_database(postgres, "portfolio")
        with stage(f"B2, B14: a book of {POSITIONS} positions"):
            await _make_book(url)
        lines = []
        if "B2" in wanted:
            lines.append(await _cached(url, terms, lasting_s=lasting_s))
        if "B14" in wanted:
            lines.append(await _uncached(url, terms, lasting_s=lasting_s))
    return lines


async def _cached(url: str, terms: Terms, *, lasting_s: float) -> Line:
    with redis() as server:
        async with _asked(url, redis_url=server.url) as (asker, echo):
            runs = []
            for number in range(terms.runs):
                plain = await _measured(echo, of_the_desk, in_flight=IN_FLIGHT, lasting_s=lasting_s)
                product = await _measured(asker, of_the_desk, in_flight=IN_FLIGHT, lasting_s=lasting_s)
                runs.append(Run(product.per_s, plain.per_s))
                say(f"B2: run {number + 1}: {product} against {plain}")
    work = f"GetPortfolio of {POSITIONS} positions, cached, {IN_FLIGHT} in flight"
    return Line("B2", work, "a bare echo of an equal message", "calls/s", CACHED, runs, terms.scale)


async def _uncached(url: str, terms: Terms, *, lasting_s: float) -> Line:
    """Without Redis every question is read from the store."""
    async with _asked(url) as (asker, _), asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
        statement = PORTFOLIOS[False, True, False]
        arguments = statement.arguments(accounts=[ACCOUNT])

        async def read() -> None:
            async with pool.acquire() as connection:
                rows = await connection.fetch(statement.text, *arguments)
                assert len(rows) == POSITIONS

        runs = []
        for number in range(terms.runs):
            plain = await measure(read, in_flight=ALONE, lasting_s=lasting_s)
            product = await _measured(asker, of_the_desk, in_flight=ALONE, lasting_s=lasting_s)
            runs.append(Run(product.p99_ms, plain.p99_ms))
            say(f"B14: run {number + 1}: {product} against {plain}")
    work = f"GetPortfolio of {POSITIONS} positions, uncached, p99"
    return Line("B14", work, "one SQL read of the same rows, p99", "ms", QUICK, runs, terms.scale)


async def _measured(
    asker: Asker, request: Callable[[], wire.GetPortfolioRequest], *, in_flight: int, lasting_s: float
) -> Calls:
    return await measure(asker.portfolio(requests=request), in_flight=in_flight, lasting_s=lasting_s)


@asynccontextmanager
async def _asked(url: str, *, redis_url: str | None = None) -> AsyncIterator[tuple[Asker, Asker]]:
    """A caller of the service, and one of an echo of its answer."""
    variables = {} if redis_url is None else {"STEELYARD_REDIS_URL": redis_url}
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(production(url, variables=variables))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(running.address))
        asker = Asker(channel, tuple(running.metadata))
        answer = await asker.portfolio(requests=of_the_desk)()
        assert isinstance(answer, wire.GetPortfolioResponse)
        assert answer.currencies[0].open_count == POSITIONS
        echo = await stack.enter_async_context(echoing(METHOD, request=wire.GetPortfolioRequest, answer=answer))
        yield asker, Asker(await stack.enter_async_context(grpc.aio.insecure_channel(echo)), asker.metadata)


async def _make_book(url: str) -> None:
    database = open_database(url)
    try:
        names = [f"I{number:03}" for number in range(POSITIONS)]
        await make_instruments(database, names)
        await _hold(database, names)
        at = datetime.now(UTC)
        await MarkTable(database).keep({InstrumentName(name): Mark(Decimal("101.25"), at, "bench") for name in names})
        await settle(database)
    finally:
        await database.close()


async def _hold(database: Database, names: Iterable[str]) -> None:
    recording = RecordFills(ledger_on(database), lambda: AT, new_accounts=PATTERN)
    recording.start()
    fills = [
        Fill(
            key=PositionKey(Account(ACCOUNT), DEFAULT_BOOK, InstrumentName(name), Leg.NET),
            fill_id=FillId(f"{name}-{part}"),
            side=Side.BUY if part else Side.SELL,
            quantity=Decimal("1.5") + part,
            price=Decimal("100.25"),
            executed_at=AT,
            fee=Decimal("0.35"),
            source_sequence=part,
        )
        for name in names
        for part in range(2)
    ]
    await recording.record_batch(fills)
    await recording.close()
