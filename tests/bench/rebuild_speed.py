"""B7 and B15: everything rebuilt by one worker and by two, and one of 500 keys brought up to date."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal

import asyncpg
import psutil

from steelyard.client import BuildMode, BuildState, Fill, Side, Steelyard
from tests.bench.book_files import BookFiles, account_of, instrument_of
from tests.bench.harness import BenchUnavailable, Run, say
from tests.bench.service import serving, working

NEW_FILLS = 100
CURSOR_ROWS = 5_000
TIMEOUT_S = 600.0
_READ_ALL = """
SELECT account, book, instrument, leg, executed_at, source_sequence, fill_id, delta, price, fee, fee_currency, fee_value
FROM fills WHERE state = 'LIVE'
ORDER BY account, book, instrument, leg, executed_at, source_sequence, fill_id
"""


class Cores:
    """How busy the machine's processors are, from its making on."""

    def __init__(self) -> None:
        self._before = psutil.cpu_times()

    def busy(self) -> float:
        """The busy part of all processors' time since then: 1 is all of it."""
        now = psutil.cpu_times()
        spent = [after - before for before, after in zip(self._before, now, strict=True)]
        total = sum(spent[: now._fields.index("guest")] if "guest" in now._fields else spent)
        idle = now.idle - self._before.idle + getattr(now, "iowait", 0) - getattr(self._before, "iowait", 0)
        return float(1 - idle / total)


@dataclass(slots=True)
class Rebuilds:
    """What the runs came to."""

    read: list[Run] = field(default_factory=list)
    """Seconds of a full rebuild, and of reading the fills."""
    shared: list[Run] = field(default_factory=list)
    """Fills a second with two workers, and with one."""
    fresh: list[Run] = field(default_factory=list)
    """Seconds of an incremental build, and of a full one."""
    busy: list[tuple[float, float]] = field(default_factory=list)
    """How busy the processors were with two workers, and with one."""


async def rebuild_runs(url: str, files: BookFiles, *, runs: int, has_two: bool) -> Rebuilds:
    """Runs on a book that is built already; `has_two`: also with two workers."""
    figures = Rebuilds()
    async with serving(url) as client:
        for number in range(runs):
            read = await read_seconds(url, files.fills + number * NEW_FILLS)
            async with working(url):
                cores = Cores()
                full = await build_seconds(client, BuildMode.FULL)
                alone = cores.busy()
                await _record_pending(client, files, number=number)
                fresh = await build_seconds(client, BuildMode.INCREMENTAL)
                figures.read.append(Run(full, read))
                figures.fresh.append(Run(fresh, full))
                told = f"rebuild {full:.1f} s, reading {read:.1f} s, after {NEW_FILLS} fills {fresh * 1e3:.0f} ms"
                if has_two:
                    async with working(url):
                        cores = Cores()
                        both = await build_seconds(client, BuildMode.FULL)
                        figures.busy.append((cores.busy(), alone))
                    figures.shared.append(Run(files.fills / both, files.fills / full))
                    told += f", two workers {both:.1f} s"
            say(f"B7, B15: run {number + 1}: {told}")
    return figures


async def read_seconds(url: str, count: int) -> float:
    """How long it takes to read all fills in fold order through one cursor."""
    connection = await asyncpg.connect(url, server_settings={"jit": "off"})
    try:
        started, rows = time.perf_counter(), 0
        async with connection.transaction():
            cursor = await connection.cursor(_READ_ALL)
            while batch := await cursor.fetch(CURSOR_ROWS):
                rows += len(batch)
        taken = time.perf_counter() - started
    finally:
        await connection.close()
    if rows != count:
        raise BenchUnavailable(f"{rows} fills are stored instead of {count}")
    return taken


async def build_seconds(client: Steelyard, mode: BuildMode) -> float:
    """How long a build of everything takes, from asking for it to knowing that it has ended."""
    started = time.perf_counter()
    handle = await client.create_build(mode=mode)
    build = await handle.wait(timeout_s=TIMEOUT_S)
    taken = time.perf_counter() - started
    if build.state is not BuildState.SUCCEEDED:
        raise BenchUnavailable(f"a {mode} build ended {build.state}: {build.error}")
    return taken


async def _record_pending(client: Steelyard, files: BookFiles, *, number: int) -> None:
    """Stores fills of one key that only a build will fold: the newest ones it has."""
    fills = [
        Fill(
            account=account_of(number),
            instrument=instrument_of(number),
            fill_id=f"new-{number}-{place:03d}",
            side=Side.BUY if place % 2 else Side.SELL,
            quantity=Decimal("0.25"),
            price=Decimal("20000.5"),
            fee=Decimal("0.01"),
            executed_at=files.end + timedelta(seconds=number * NEW_FILLS + place),
        )
        for place in range(NEW_FILLS)
    ]
    outcome = await client.batch_record_fills(fills, auto_update_positions=False)
    if outcome.recorded != NEW_FILLS:
        raise BenchUnavailable(f"{outcome.recorded} of {NEW_FILLS} new fills were recorded")
