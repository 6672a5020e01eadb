"""Workers as processes: sharing a build, taking over from one that was killed, ending when they are told to."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from steelyard.app import samples
from steelyard.operations.building import BuildMode, BuildState
from tests.builds.desk import Desk
from tests.builds.oracle_check import oracle_book, stored_book

PROGRAM = Path(__file__).with_name("worker_program.py")
FILLS = 200_000
TAKEN_OVER_WITHIN_S = 15.0


@asynccontextmanager
async def worker_process(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, str(PROGRAM), url, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert (await process.stdout.readline()).strip() == b"working"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def many_fills(desk: Desk, fills: int = FILLS) -> None:
    content = "".join(samples.generic_csv(21, fills=fills, accounts=20)).encode()
    await desk.load(content, is_auto_build=False)


async def until(desk: Desk, sql: str) -> None:
    async with asyncio.timeout(60):
        while not await desk.value(sql):  # noqa: ASYNC110 - the store is looked at
            await asyncio.sleep(0.02)


@pytest.mark.faults
@pytest.mark.slow
async def test_a_build_whose_worker_is_killed_is_taken_over_and_equals_one_that_was_left_alone(desk: Desk) -> None:
    await many_fills(desk)
    async with worker_process(desk.url) as first, worker_process(desk.url) as second:
        build = await desk.create()
        await until(desk, "SELECT count(*) FROM build_keys WHERE state = 'SUCCEEDED'")
        first.kill()
        second.kill()
        await first.wait()
        await second.wait()
    assert not (await desk.build(build.build_id)).state.is_terminal
    done_before = await desk.value("SELECT count(*) FROM build_keys WHERE state = 'SUCCEEDED'")
    loop = asyncio.get_running_loop()
    async with worker_process(desk.url):
        began = loop.time()
        await until(desk, f"SELECT count(*) > {done_before} FROM build_keys WHERE state = 'SUCCEEDED'")
        assert loop.time() - began < TAKEN_OVER_WITHIN_S
        ended = await desk.ended(build.build_id)
    assert (ended.state, ended.keys_done, ended.keys_failed) == (BuildState.SUCCEEDED, 100, 0)
    assert await desk.value("SELECT max(version) FROM positions") == 1
    resumed = await desk.book()
    await desk.plant("TRUNCATE positions, round_trips, lots, checkpoints, position_events")
    await desk.plant(
        "INSERT INTO stale_keys SELECT account, book, instrument, leg, min(executed_at), 0, '!', max(executed_at), 0, "
        "'~', count(*), 1, 'IMPORT', true FROM fills GROUP BY 1, 2, 3, 4"
    )
    await desk.run((await desk.create()).build_id)
    assert await desk.book() == resumed
    assert await stored_book(desk, "DESK-00007") == await oracle_book(desk, "DESK-00007")


@pytest.mark.slow
async def test_two_workers_share_a_build(desk: Desk) -> None:
    await many_fills(desk, fills=400_000)
    async with worker_process(desk.url), worker_process(desk.url):
        build = await desk.create(mode=BuildMode.FULL)
        most = 0
        while not (await desk.build(build.build_id)).state.is_terminal:
            most = max(most, await desk.value("SELECT count(*) FROM build_chunks WHERE fence > 0 AND NOT is_done"))
            await asyncio.sleep(0.02)
    assert (await desk.build(build.build_id)).state is BuildState.SUCCEEDED
    assert most == 2


async def test_a_worker_that_is_told_to_end_leaves_its_chunk_to_another(desk: Desk) -> None:
    await many_fills(desk, fills=100_000)
    async with worker_process(desk.url) as first:
        build = await desk.create()
        await until(desk, "SELECT count(*) FROM build_keys WHERE state = 'SUCCEEDED'")
        first.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await first.wait() == 0
    async with worker_process(desk.url):
        assert (await desk.ended(build.build_id)).state is BuildState.SUCCEEDED


@pytest.mark.faults
async def test_a_worker_whose_connections_are_cut_goes_on_and_the_build_ends_well(desk: Desk) -> None:
    await many_fills(desk, fills=100_000)
    async with worker_process(desk.url) as worker:
        build = await desk.create()
        await until(desk, "SELECT count(*) FROM build_keys WHERE state = 'SUCCEEDED'")
        await desk.plant(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        ended = await desk.ended(build.build_id)
        assert worker.returncode is None
    assert (ended.state, ended.keys_done) == (BuildState.SUCCEEDED, 100)
    assert await desk.value("SELECT max(version) FROM positions") == 1


async def test_immediate_work_overtakes_bulk_work(desk: Desk) -> None:
    await many_fills(desk)
    async with worker_process(desk.url):
        bulk = await desk.create()
        await until(desk, "SELECT count(*) FROM build_chunks WHERE fence > 0")
        small = await desk.load(next_day())
        ended = await desk.ended(small.record.build_id)
        assert ended.state is BuildState.SUCCEEDED
        assert not (await desk.build(bulk.build_id)).state.is_terminal
        assert (await desk.ended(bulk.build_id)).state is BuildState.SUCCEEDED


def next_day() -> bytes:
    lines = list(samples.generic_csv(5, fills=10, accounts=1))
    return "".join(line.replace("DESK", "SMALL") for line in lines).encode()
