"""What a worker does besides jobs: waiting for a store that is away, clearing up after workers that died."""

import asyncio
import contextlib
import uuid

import pytest

from steelyard.accounting.errors import FenceLost, StoreUnavailable
from steelyard.builds.schedule import Schedule
from steelyard.builds.tasks import make_app
from steelyard.builds.worker import WorkerSettings, run_worker
from steelyard.operations.build_positions import BuildPositions
from steelyard.operations.building import CHUNK_TASK, BuildState, ChunkProgress, KeyState
from steelyard.storage.build_chunks import PostgresChunkWork
from steelyard.storage.build_sweep import PostgresSweep
from steelyard.storage.database import Database
from steelyard.telemetry.logs import silent_log
from tests.builds.desk import Desk, clock, generic

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
"""Nothing listens on port 1."""


def builder(url: str) -> tuple[Database, BuildPositions]:
    database = Database(url)
    return database, BuildPositions(PostgresChunkWork(database, clock), clock)


async def run_for(schedule: Schedule, seconds: float) -> None:
    work = asyncio.ensure_future(schedule.run())
    await asyncio.sleep(seconds)
    assert not work.done()
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def test_a_worker_waits_for_a_store_that_is_away_until_it_is_told_to_end() -> None:
    database, build = builder(NOWHERE)
    stop = asyncio.Event()
    settings = WorkerSettings(reconnect_pause_s=0.05)
    work = asyncio.ensure_future(
        run_worker(NOWHERE, builder=build, sweep=PostgresSweep(database), settings=settings, stop=stop)
    )
    await asyncio.sleep(0.5)
    assert not work.done()
    stop.set()
    async with asyncio.timeout(15):
        await work
    await database.close()


async def test_a_chunk_whose_store_is_away_is_left_to_the_sweep() -> None:
    database, build = builder(NOWHERE)
    app = make_app(NOWHERE, build.run_chunk, log=silent_log())
    with pytest.raises(StoreUnavailable):
        await build.run_chunk(uuid.uuid4(), 0)
    await app.tasks[CHUNK_TASK](build_id=str(uuid.uuid4()), chunk=0)
    await database.close()


async def test_a_chunk_that_is_done_or_unknown_is_nothing_to_do(desk: Desk) -> None:
    await desk.builder.run_chunk(uuid.uuid4(), 0)


async def test_the_sweep_outlives_a_store_that_is_away(desk: Desk) -> None:
    app = make_app(desk.url, desk.builder.run_chunk, log=silent_log())
    database = Database(NOWHERE)
    async with app.open_async():
        schedule = Schedule(PostgresSweep(database), app, interval_s=0.05, stalled_after_s=8, log=silent_log())
        await run_for(schedule, 0.4)
    await database.close()


async def test_jobs_of_dead_workers_are_cleared_away(desk: Desk) -> None:
    receipt = await desk.load(generic(["a1,ACC,main,ES SEP25,BUY,2,6000,,,2025-06-20T13:00:00Z"]))
    await desk.plant("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour')")
    await desk.plant(
        "UPDATE procrastinate_jobs SET status = 'doing', worker_id = (SELECT max(id) FROM procrastinate_workers)"
    )
    await desk.plant("UPDATE build_chunks SET lease_until = now() - interval '1 second', fence = 1")
    app = make_app(desk.url, desk.builder.run_chunk, log=silent_log())
    async with app.open_async():
        schedule = Schedule(desk.sweep, app, interval_s=0.05, stalled_after_s=8, log=silent_log())
        await run_for(schedule, 0.5)
    jobs = await desk.rows("SELECT status, queueing_lock FROM procrastinate_jobs")
    assert [tuple(job) for job in jobs] == [("todo", f"{receipt.record.build_id}:0")]
    assert await desk.value("SELECT count(*) FROM procrastinate_workers") == 0


async def test_a_cancelled_build_whose_worker_died_is_ended_by_the_sweep(desk: Desk) -> None:
    receipt = await desk.load(generic(["a1,ACC,main,ES SEP25,BUY,2,6000,,,2025-06-20T13:00:00Z"]))
    await desk.plant("UPDATE build_chunks SET lease_until = now() + interval '1 minute', fence = 1")
    build, _ = await desk.cancel(receipt.record.build_id)
    assert build.state is BuildState.CANCELLING
    await desk.plant("UPDATE build_chunks SET lease_until = now() - interval '1 second'")
    await desk.sweep.sweep()
    assert (await desk.build(build.build_id)).state is BuildState.CANCELLED


async def test_what_a_worker_writes_after_another_took_its_chunk_does_not_count(desk: Desk) -> None:
    """The fence: a worker that was thought dead comes back and finds its chunk taken."""
    receipt = await desk.load(generic(["a1,ACC,main,ES SEP25,BUY,2,6000,,,2025-06-20T13:00:00Z"]))
    work = PostgresChunkWork(desk.database, clock)
    assert receipt.record.build_id is not None
    stale = await work.claim(receipt.record.build_id, 0)
    taken = await work.claim(receipt.record.build_id, 0)
    assert stale is not None
    assert taken is not None
    assert taken.fence == stale.fence + 1
    async with work.session(stale) as session:
        with pytest.raises(FenceLost):
            async with session.writing():
                pytest.fail("a lost fence lets nothing be written")
        with pytest.raises(FenceLost):
            await session.report(ChunkProgress())
        with pytest.raises(FenceLost):
            await session.finish(rest=KeyState.CANCELLED, error=None)
    assert not (await desk.build(receipt.record.build_id)).state.is_terminal
