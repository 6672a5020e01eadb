"""B11, its second part: what a position was at any instant of a year, by what was known at any other, beside one read.

A year of three kinds of keys: one that trades all day and comes back to flat, one that never does, and many quiet ones.
Every day was committed for itself, and changed its own last hour late.
"""

from __future__ import annotations

import random
import time
from datetime import datetime, timedelta

from steelyard.accounting.keys import PositionKey
from steelyard.operations.position_view import Detail
from steelyard.operations.read_as_of import ReadAsOf
from steelyard.operations.reading import Reading
from steelyard.storage.database import Database
from steelyard.storage.heads import HeadReads
from steelyard.storage.history_reads import HistoryReads
from steelyard.storage.position_reads import PositionReads
from tests.bench.harness import Line, Run, Target, Terms, say, stage
from tests.bench.histories import START, Market, flat_now_and_then, never_flat
from tests.bench.store import (
    durable_postgres,
    key_of,
    make_instruments,
    new_database,
    open_database,
    settle,
    store_history,
)

YEAR = timedelta(days=365)
HOT, INVENTORY, QUIET = 500_000, 250_000, 2_000
"""Fills of a key in the year."""
QUIET_KEYS = 100
QUESTIONS = 300
"""Asked in one run."""
INSTANT = Target("p99 ≤ 50 ms", product_max=50)
# What a year of days leaves behind, each day recorded at its own end; what is late changes the last hour of its day.
_DAYS = """
CREATE TEMP TABLE days ON COMMIT DROP AS
SELECT d AS seq, $1::timestamptz + d * interval '1 day' AS ends FROM generate_series(1, 366) d;
"""
_YEAR_OF_COMMITS = (
    "DELETE FROM account_commits",
    "DELETE FROM past_changes",
    """INSERT INTO account_commits (account, seq, commit_id, committed_at, cause)
       SELECT account, seq, seq, ends, 'fill' FROM accounts, days""",
    "UPDATE account_heads SET seq = 366, committed_at = (SELECT max(ends) FROM days)",
    """INSERT INTO past_changes (account, book, instrument, leg, recorded_at, commit_id, from_executed_at)
       SELECT account, book, instrument, leg, ends, seq, ends - interval '1 hour' FROM positions, days""",
)


async def as_of_speed(terms: Terms, _wanted: frozenset[str]) -> list[Line]:
    """B11b."""
    async with durable_postgres() as postgres:
        database = open_database(await new_database(postgres, "history"))
        try:
            keys = await _live_a_year(database, terms)
            runs = [await _run(database, keys, seed=number) for number in range(terms.runs)]
        finally:
            await database.close()
    fills = terms.sized(HOT) + terms.sized(INVENTORY) + terms.sized(QUIET_KEYS) * QUIET
    work = f"a position at any instant of a year by what was known at any other ({fills:,} fills)"
    return [Line("B11b", work, "one read of a position", "ms", INSTANT, runs, terms.scale)]


async def _live_a_year(database: Database, terms: Terms) -> list[PositionKey]:
    hot, inventory, quiet = terms.sized(HOT), terms.sized(INVENTORY), terms.sized(QUIET_KEYS)
    instruments = ["HOT", "INVENTORY", *(f"QUIET{number:03d}" for number in range(quiet))]
    keys = [key_of("desk", name) for name in instruments]
    with stage("B11: making and folding a year"):
        await make_instruments(database, instruments)
        histories = [(hot, flat_now_and_then), (inventory, never_flat), *[(QUIET, flat_now_and_then)] * quiet]
        for number, (key, (count, history)) in enumerate(zip(keys, histories, strict=True)):
            market = Market(seed=number, prefix=f"{key.instrument.lower()}-", step=YEAR / count)
            await store_history(database, key, history(count, market))
    with stage("B11: telling its days apart"):
        await _tell_days_apart(database)
        await settle(database)
    return keys


async def _tell_days_apart(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(_DAYS.replace("$1", f"'{START.isoformat()}'"))
        for statement in _YEAR_OF_COMMITS:
            await connection.execute(statement)
        await connection.execute(
            "UPDATE fills f SET commit_id = d.seq, recorded_at = d.ends - interval '1 second' FROM days d "
            "WHERE f.executed_at >= d.ends - interval '1 day' AND f.executed_at < d.ends"
        )
        await connection.execute("UPDATE history_begins SET began_at = $1", START)


async def _run(database: Database, keys: list[PositionKey], *, seed: int) -> Run:
    chance = random.Random(seed)
    now = START + YEAR + timedelta(days=2)
    as_of = ReadAsOf(HistoryReads(database), Reading(HeadReads(database), lambda: now), clock=lambda: now)
    positions = PositionReads(database)
    asked: list[float] = []
    read: list[float] = []
    for _ in range(QUESTIONS):
        key = chance.choice([keys[0], keys[1], chance.choice(keys)])
        held_at, known_at = _instant(chance), chance.choice([None, _instant(chance)])
        started = time.perf_counter()
        await as_of.get(key, as_of=held_at, known_at=known_at)
        asked.append(time.perf_counter() - started)
        started = time.perf_counter()
        await positions.position(key, detail=Detail.FULL, heads=[key.account])
        read.append(time.perf_counter() - started)
    run = Run(_percentile(asked, 0.99) * 1e3, _percentile(read, 0.99) * 1e3)
    median = _percentile(asked, 0.5) * 1e3
    say(f"B11: run {seed + 1}: p99 {run.product:.1f} ms, median {median:.1f} ms; one read p99 {run.reference:.2f} ms")
    return run


def _instant(chance: random.Random) -> datetime:
    return START + timedelta(seconds=chance.uniform(0, YEAR.total_seconds()))


def _percentile(figures: list[float], part: float) -> float:
    return sorted(figures)[min(len(figures) - 1, int(len(figures) * part))]
