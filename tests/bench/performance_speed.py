"""B9: a day's and a week's performance over a million round trips of a year, cached and not; and the whole year's.

The trips are made of two million fills that were folded, all of one account. Uncached, every question is about another
day or week, one at a time; cached, the same few are asked again, of a service with Redis.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import asyncpg
import grpc.aio
from google.type.date_pb2 import Date

from steelyard.accounting.trading_calendar import Calendar, Interval, day_interval, week_interval
from steelyard.v1 import performance_pb2, performance_service_pb2_grpc
from steelyard.v1 import performance_service_pb2 as wire
from tests.bench.echo import measure
from tests.bench.harness import Line, Run, Target, Terms, say, stage
from tests.bench.histories import Execution
from tests.bench.production import production, redis
from tests.bench.store import (
    durable_postgres,
    key_of,
    make_instruments,
    new_database,
    open_database,
    settle,
    store_history,
)

TRIPS, KEYS = 1_000_000, 100
ACCOUNT = "desk"
RULE = Calendar()
FIRST_DAY, DAYS = date(2025, 1, 1), 365
HELD = timedelta(seconds=40)
LASTING_S = 4.0
ONCE_S = 0.01
"""The whole year is asked for once in a run, after once that does not count: an answer takes seconds."""
UNCACHED = Target("p99 ≤ 50 ms", product_max=50.0)
CACHED = Target("p99 ≤ 5 ms", product_max=5.0)
SHOWN = Target("none")
_SUMS = """
SELECT i.settle_currency, count(*), sum(t.gross_average), sum(t.fees), sum(t.funding),
    count(*) FILTER (WHERE t.gross_average > t.fees - t.funding)
FROM round_trips t JOIN instruments i USING (instrument)
WHERE t.account = $1 AND t.closed_at >= $2 AND t.closed_at < $3 GROUP BY 1
"""

Ask = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Asker:
    """A caller of the service, and the days he asks about."""

    stub: performance_service_pb2_grpc.PerformanceServiceStub
    metadata: tuple[tuple[str, str], ...]
    days: Iterator[date]

    async def day(self) -> None:
        """How one day went."""
        request = wire.GetDailyPerformanceRequest(accounts=[ACCOUNT], day=_date(next(self.days)))
        answer = await self.stub.GetDailyPerformance(request, metadata=self.metadata)
        assert answer.currencies[0].total_trades

    async def week(self) -> None:
        """How one week went."""
        request = wire.GetWeeklyPerformanceRequest(accounts=[ACCOUNT], day=_date(next(self.days)))
        answer = await self.stub.GetWeeklyPerformance(request, metadata=self.metadata)
        assert answer.currencies[0].total_trades

    async def year(self) -> None:
        """How every day of the year went, and all of it, with everything there is to say."""
        request = wire.GetPerformanceRequest(
            accounts=[ACCOUNT],
            day_from=_date(FIRST_DAY),
            day_before=_date(FIRST_DAY + timedelta(days=DAYS)),
            grouping=performance_pb2.PERFORMANCE_GROUPING_DAY,
        )
        answer = await self.stub.GetPerformance(request, metadata=self.metadata)
        assert len(answer.groups) == DAYS


async def performance_speed(terms: Terms, _wanted: frozenset[str]) -> list[Line]:
    """B9."""
    trips = terms.sized(TRIPS, at_least=KEYS * DAYS)
    lasting_s = max(0.5, LASTING_S * terms.scale)
    async with durable_postgres() as postgres:
        url = await new_database(postgres, "performance")
        with stage(f"B9: making {trips:,} round trips of a year and folding them"):
            await _make_book(url, trips=trips)
        lines = await _uncached(url, terms, trips=trips, lasting_s=lasting_s)
        lines.append(await _cached(url, terms, trips=trips, lasting_s=lasting_s))
    return lines


async def _uncached(url: str, terms: Terms, *, trips: int, lasting_s: float) -> list[Line]:
    found: dict[str, list[Run]] = {"day": [], "week": [], "year": []}
    async with _asked(url) as asker, asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
        whole = (day_interval(FIRST_DAY, RULE)[0], day_interval(FIRST_DAY + timedelta(days=DAYS), RULE)[0])
        works: dict[str, tuple[Ask, Callable[[], Interval]]] = {
            "day": (asker.day, lambda: day_interval(next(asker.days), RULE)),
            "week": (asker.week, lambda: week_interval(next(asker.days), RULE)),
            "year": (asker.year, lambda: whole),
        }
        for number in range(terms.runs):
            for name, (ask, interval) in works.items():
                lasts_s = lasting_s if name != "year" else ONCE_S
                plain = await measure(_aggregate(pool, interval), in_flight=1, lasting_s=lasts_s)
                product = await measure(ask, in_flight=1, lasting_s=lasts_s)
                found[name].append(Run(product.p99_ms, plain.p99_ms))
                say(f"B9: run {number + 1}: a {name}: {product} against {plain}")
    against = "one indexed SQL aggregate, p99"
    day, week = (f"a {name}'s performance, {trips:,} round trips stored, uncached, p99" for name in ("day", "week"))
    year = f"a year's performance, each of {DAYS} days and all, extended figures, {trips:,} round trips"
    return [
        Line("B9", day, against, "ms", UNCACHED, found["day"], terms.scale),
        Line("B9b", week, against, "ms", UNCACHED, found["week"], terms.scale),
        Line("B9d", year, against, "ms", SHOWN, found["year"], terms.scale),
    ]


async def _cached(url: str, terms: Terms, *, trips: int, lasting_s: float) -> Line:
    runs = []
    with redis() as server:
        async with (
            _asked(url, redis_url=server.url, days=10) as asker,
            asyncpg.create_pool(url, min_size=1, max_size=1) as pool,
        ):

            async def day_and_week() -> None:
                await asker.day()
                await asker.week()

            for _ in range(10):
                await day_and_week()
            for number in range(terms.runs):
                week = _aggregate(pool, lambda: week_interval(next(asker.days), RULE))
                plain = await measure(week, in_flight=1, lasting_s=lasting_s)
                days = await measure(asker.day, in_flight=1, lasting_s=lasting_s / 2)
                weeks = await measure(asker.week, in_flight=1, lasting_s=lasting_s / 2)
                runs.append(Run(max(days.p99_ms, weeks.p99_ms), plain.p99_ms))
                say(f"B9c: run {number + 1}: days {days}, weeks {weeks}, against {plain}")
    work = f"a day's or a week's performance, {trips:,} round trips stored, cached, the slower p99"
    return Line("B9c", work, "one indexed SQL aggregate of a week, p99", "ms", CACHED, runs, terms.scale)


@asynccontextmanager
async def _asked(url: str, *, redis_url: str | None = None, days: int = DAYS - 14) -> AsyncIterator[Asker]:
    variables = {} if redis_url is None else {"STEELYARD_REDIS_URL": redis_url}
    async with (
        production(url, variables=variables) as running,
        grpc.aio.insecure_channel(running.address) as channel,
    ):
        stub = performance_service_pb2_grpc.PerformanceServiceStub(channel)
        yield Asker(stub, tuple(running.metadata), _some_day(days))


def _aggregate(pool: asyncpg.Pool, interval: Callable[[], Interval]) -> Ask:
    async def read() -> None:
        async with pool.acquire() as connection:
            assert await connection.fetch(_SUMS, ACCOUNT, *interval())

    return read


async def _make_book(url: str, *, trips: int) -> None:
    database = open_database(url)
    try:
        names = [f"I{number:03}" for number in range(KEYS)]
        await make_instruments(database, names)
        for number, name in enumerate(names):
            await store_history(database, key_of(ACCOUNT, name), _round_trips(trips // KEYS, seed=number))
        await settle(database)
    finally:
        await database.close()


def _round_trips(count: int, *, seed: int) -> Iterator[Execution]:
    """Trips spread over the year, a purchase or short sale and what closes it."""
    chance = random.Random(seed)
    step = timedelta(days=DAYS) / count
    begins = datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day, 6, tzinfo=UTC)
    cents = 2_000_000
    for number in range(count):
        at = begins + number * step + (step - HELD) * (seed / KEYS)
        size = Decimal(chance.choice((-1, 1)) * chance.randrange(1, 5_000)).scaleb(-3)
        for part, delta in enumerate((size, -size)):
            cents += chance.randrange(-50, 51)
            fee = Decimal(chance.randrange(1, 90)).scaleb(-2)
            fill_id = f"f{seed:03}-{number:06}-{part}"
            yield Execution(at + part * HELD, 0, fill_id, delta, Decimal(cents).scaleb(-2), fee)


def _some_day(count: int) -> Iterator[date]:
    chance = random.Random(9)
    while True:
        yield FIRST_DAY + timedelta(days=7 + chance.randrange(count))


def _date(day: date) -> Date:
    return Date(year=day.year, month=day.month, day=day.day)
