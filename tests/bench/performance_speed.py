"""B9: a day's and a week's performance over a million round trips of a year, cached and not; and the whole year's.

The trips are rows of one account, as folds leave them, put in place at once: only questions are measured. They lie by
instrument, as after a rebuild, so that a week is all over the table. Uncached, every question is about another day or
week, one at a time; cached, the same few are asked again, of a service with Redis.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import asyncpg
import grpc.aio
from google.type.date_pb2 import Date

from steelyard.accounting.trading_calendar import Calendar, Interval, day_interval, week_interval
from steelyard.v1 import performance_pb2, performance_service_pb2_grpc
from steelyard.v1 import performance_service_pb2 as wire
from tests.bench.echo import measure
from tests.bench.harness import Line, Run, Target, Terms, say, stage
from tests.bench.production import production, redis
from tests.bench.store import (
    durable_postgres,
    make_instruments,
    new_database,
    open_database,
    settle,
)

TRIPS, KEYS = 1_000_000, 100
ACCOUNT = "desk"
RULE = Calendar()
FIRST_DAY, DAYS = date(2025, 1, 1), 365
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

# One after the other they close, each of another instrument than the one before; money has two places.
_TRIPS = """
INSERT INTO round_trips (account, trip_id, book, instrument, leg, direction, opened_at, opened_sequence,
    opened_entry_id, opening_quantity, is_flip, last_at, last_sequence, last_entry_id, closed_at, entered_quantity,
    entered_value, exited_quantity, exited_value, open_quantity, max_quantity, is_adjusted,
    gross_average, gross_lots, fees,
    reducing_fees, funding, cash_average, cash_lots, unmatched, fill_count)
SELECT $1, gen_random_uuid(), 'main', 'I' || lpad(k::text, 3, '0'), 'NET',
    CASE WHEN random() < 0.5 THEN 'LONG' ELSE 'SHORT' END,
    at - interval '40 seconds', 0, 'in-' || n, 1, false, at, 0, 'out-' || n, at, 1, 20000, 1, 20000 + won, 0, 1, false,
    won, won, fee, fee / 2, 0, won, won, 0, 2
FROM (
    SELECT n, n % $5::int AS k, $2::timestamptz + n * $3::interval AS at,
        round((random() * 1000 - 480)::numeric, 2) AS won, round(random()::numeric, 2) AS fee
    FROM generate_series(0, $4::int - 1) AS n
) AS invented
ORDER BY k, n
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
        with stage(f"B9: making {trips:,} round trips of a year"):
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
        await make_instruments(database, [f"I{number:03}" for number in range(KEYS)])
        async with database.write() as connection:
            await connection.execute("SELECT setseed(0.9)")
            await connection.execute("INSERT INTO accounts (account) VALUES ($1)", ACCOUNT)
            begins = datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day, 6, tzinfo=UTC)
            await connection.execute(_TRIPS, ACCOUNT, begins, timedelta(days=DAYS) / trips, trips, KEYS)
        await settle(database)
    finally:
        await database.close()


def _some_day(count: int) -> Iterator[date]:
    chance = random.Random(9)
    while True:
        yield FIRST_DAY + timedelta(days=7 + chance.randrange(count))


def _date(day: date) -> Date:
    return Date(year=day.year, month=day.month, day=day.day)
