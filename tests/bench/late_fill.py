"""B8: a fill 100 places late into a long key, against the same into a short one, until it is committed and folded.

The short key holds the long one's last trips, so that both refold the same entries and only what lies before differs.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from steelyard.accounting.entries import Fill, Side
from steelyard.accounting.keys import FillId, PositionKey
from steelyard.operations.record_fills import RecordFills
from steelyard.storage.database import Database
from tests.bench.harness import Line, Run, Target, Terms, say, stage
from tests.bench.histories import Execution, Market, flat_now_and_then
from tests.bench.store import (
    NOW,
    PATTERN,
    durable_postgres,
    key_of,
    ledger_on,
    make_instruments,
    new_database,
    open_database,
    settle,
    store_history,
)

LONG, SHORT = 1_000_000, 1_000
LATE = 100
"""Entries that lie after the late fill."""
FILLS_PER_RUN = 40
"""Late fills into each key in one run; the run's figures are their medians."""
INSTRUMENT = "BTCUSD"
NEARLY_EQUAL = Target("≤ 1.5 ×", ratio_max=1.5)


@dataclass(slots=True)
class LateDesk:
    """Records late fills into one key, a sale after each purchase."""

    recording: RecordFills
    key: PositionKey
    at: datetime
    """The time of the late fills: exactly `LATE` of the key's entries are younger."""
    count: int = 0

    async def seconds(self) -> float:
        """How long one late fill takes to be recorded."""
        self.count += 1
        fill = Fill(
            key=self.key,
            fill_id=FillId(f"late-{self.count:05d}"),
            side=Side.BUY if self.count % 2 else Side.SELL,
            quantity=Decimal("0.5"),
            price=Decimal("20000.25"),
            executed_at=self.at,
            fee=Decimal("0.01"),
            source_sequence=self.count,
        )
        started = time.perf_counter()
        await self.recording.record(fill)
        return time.perf_counter() - started


async def late_fill(terms: Terms, _wanted: frozenset[str]) -> list[Line]:
    """B8."""
    count = terms.sized(LONG, at_least=4 * SHORT)
    with stage(f"B8: making {count:,} fills"):
        fills = list(flat_now_and_then(count, Market(seed=8)))
    recent = fills[_flat_before(fills, len(fills) - SHORT) :]
    place = fills[-LATE - 1].executed_at + (fills[-LATE].executed_at - fills[-LATE - 1].executed_at) / 2
    async with durable_postgres() as postgres:
        database = open_database(await new_database(postgres, "late"))
        recording = RecordFills(ledger_on(database), lambda: NOW, new_accounts=PATTERN)
        try:
            await _store(database, long=fills, short=recent)
            recording.start()
            long, short = (LateDesk(recording, key_of(name, INSTRUMENT), place) for name in ("long", "short"))
            runs = [await _run(long, short, number=number) for number in range(terms.runs)]
        finally:
            await recording.close()
            await database.close()
    work = f"a fill {LATE} places late into a key with {count:,} fills"
    return [Line("B8", work, f"the same into a key with {len(recent):,}", "ms", NEARLY_EQUAL, runs, terms.scale)]


async def _store(database: Database, *, long: list[Execution], short: list[Execution]) -> None:
    with stage("B8: storing and folding them"):
        await make_instruments(database, [INSTRUMENT])
        await store_history(database, key_of("long", INSTRUMENT), long)
        await store_history(database, key_of("short", INSTRUMENT), short)
        await settle(database)


async def _run(long: LateDesk, short: LateDesk, *, number: int) -> Run:
    taken: tuple[list[float], list[float]] = [], []
    for _ in range(FILLS_PER_RUN):
        taken[0].append(await long.seconds())
        taken[1].append(await short.seconds())
    run = Run(statistics.median(taken[0]) * 1e3, statistics.median(taken[1]) * 1e3)
    say(f"B8: run {number + 1}: {run.product:.2f} ms, short key {run.reference:.2f} ms")
    return run


def _flat_before(fills: list[Execution], place: int) -> int:
    """The index of the newest fill at or before a place that meets a flat position."""
    held, found = Decimal(0), 0
    for index, fill in enumerate(fills[: place + 1]):
        if not held:
            found = index
        held += fill.delta
    return found
