"""Snapshots lie in months that are made ahead and dropped when they are too old; the clock sees to it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from steelyard.app.history_side import snapshot_jobs
from steelyard.app.settings import SettingsWrong, read_settings
from steelyard.builds.periodic import PeriodicJob
from steelyard.builds.worker import run_worker
from steelyard.operations.keep_snapshots import ShelfRun
from tests.builds.desk import Desk
from tests.questions.books import NOW, Book, fill
from tests.snapshots.shelf import Shelf

EVERY_SECOND = "* * * * * *"


@pytest.fixture
async def shelf(database_url: str) -> AsyncIterator[Shelf]:
    book = Book(database_url)
    await book.begin()
    await book.record(fill("a", "1", "48000"))
    yield Shelf(book)
    await book.close()


async def _taken(shelf: Shelf, *moments: datetime) -> None:
    for moment in moments:
        shelf.book.now = moment
        assert (await shelf.take.take_due()).taken == 1


async def test_months_are_made_ahead(shelf: Shelf) -> None:
    assert await shelf.keep.run(NOW) == ShelfRun(made=4, dropped=0, deleted=0)
    assert await shelf.partitions() == ["2026_03", "2026_04", "2026_05", "2026_06", "rest"]
    assert await shelf.keep.run(NOW + timedelta(days=20)) == ShelfRun(made=0, dropped=0, deleted=0)
    assert await shelf.keep.run(datetime(2026, 12, 31, 23, 59, tzinfo=UTC)) == ShelfRun(made=4, dropped=0, deleted=0)


async def test_a_month_that_is_missing_fails_no_insert_and_gets_its_rows_when_it_is_made(shelf: Shelf) -> None:
    await _taken(shelf, NOW, NOW + timedelta(days=31))
    assert await shelf.partitions() == ["rest"]
    await shelf.keep.run(NOW)
    found = await shelf.rows("SELECT tableoid::regclass::text AS place FROM position_snapshots ORDER BY taken_at")
    assert [row["place"] for row in found] == ["position_snapshots_2026_03", "position_snapshots_2026_04"]
    await _taken(shelf, NOW + timedelta(days=1))
    assert await shelf.rows("SELECT FROM ONLY position_snapshots_rest") == []


async def test_what_is_older_than_it_is_kept_goes_month_by_month_and_row_by_row(shelf: Shelf) -> None:
    await shelf.keep.run(NOW)
    early = [NOW, NOW + timedelta(days=10), NOW + timedelta(days=40), NOW + timedelta(days=400)]
    await _taken(shelf, *early)
    just_before = NOW + timedelta(days=365)
    assert await shelf.keep.run(just_before) == ShelfRun(made=4, dropped=0, deleted=0)
    assert await shelf.keep.run(just_before + timedelta(seconds=1)) == ShelfRun(made=0, dropped=0, deleted=1)
    later = datetime(2027, 4, 20, tzinfo=UTC)
    assert await shelf.keep.run(later) == ShelfRun(made=1, dropped=1, deleted=1)
    assert "2026_03" not in await shelf.partitions()
    left = await shelf.rows("SELECT taken_at FROM position_snapshots")
    assert [row["taken_at"] for row in left] == early[3:]


async def test_two_that_look_after_the_months_do_not_meet(shelf: Shelf) -> None:
    runs = await asyncio.gather(*(shelf.keep.run(NOW) for _ in range(3)))
    assert sum(run.made for run in runs) == 4


async def test_snapshots_are_taken_while_months_are_made_and_dropped(shelf: Shelf) -> None:
    async def look_after() -> None:
        for month in range(24):
            await shelf.keep.run(NOW + timedelta(days=30 * month))

    looking = asyncio.ensure_future(look_after())
    count = 0
    while not looking.done():
        assert (await shelf.take.take_due()).taken == 1
        count += 1
    await looking
    assert count


async def test_the_engine_does_each_tick_once_however_many_workers_there_are(desk: Desk) -> None:
    ticks: list[datetime] = []

    async def note(tick: datetime) -> dict[str, Any]:
        ticks.append(tick)
        return {}

    stop = asyncio.Event()
    job = PeriodicJob("note", EVERY_SECOND, note)
    workers = [
        asyncio.ensure_future(run_worker(desk.url, builder=desk.builder, sweep=desk.sweep, periodic=[job], stop=stop))
        for _ in range(2)
    ]
    try:
        async with asyncio.timeout(30):
            while len(ticks) < 3:  # noqa: ASYNC110 - the engine runs in its own time
                await asyncio.sleep(0.05)
    finally:
        stop.set()
        await asyncio.gather(*workers)
    assert len(set(ticks)) == len(ticks)


async def test_a_worker_takes_snapshots_and_looks_after_months_by_settings(database_url: str) -> None:
    book = Book(database_url)
    await book.begin()
    await book.record(fill("a", "1", "48000"))
    settings = read_settings({"STEELYARD_SNAPSHOTS_KEPT_DAYS": "30"})
    keep, take = snapshot_jobs(settings, book.database, clock=book.clock)
    assert (take.cron, take.name, keep.name) == ("0 * * * *", "take_snapshots", "keep_snapshots")
    assert await take.run(NOW) == {"taken": 1, "failed": 0}
    book.now = NOW + timedelta(days=31)
    assert (await keep.run(book.now))["deleted"] == 1
    await book.close()


def test_the_schedule_is_a_cron_line_or_off(database_url: str) -> None:
    off = read_settings({"STEELYARD_SNAPSHOT_SCHEDULE": "off"})
    assert off.snapshot_schedule == "off"
    with pytest.raises(SettingsWrong, match="STEELYARD_SNAPSHOT_SCHEDULE must be a cron line"):
        read_settings({"STEELYARD_SNAPSHOT_SCHEDULE": "hourly"})
