"""A worker: takes jobs off the queues, with a slot of its own for immediate work, and sweeps.

It ends when it is told to, after the batch at work; what it leaves is taken up by another worker.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

import procrastinate
import psycopg
import psycopg_pool

from steelyard.builds.periodic import PeriodicJob, add_periodic
from steelyard.builds.schedule import BuildSweep, Schedule
from steelyard.builds.tasks import make_app
from steelyard.operations.building import BuildPriority
from steelyard.telemetry.logs import Log, silent_log

_STORE_AWAY = (procrastinate.exceptions.ConnectorException, psycopg.OperationalError, psycopg_pool.PoolTimeout, OSError)


class ChunkBuilder(Protocol):
    """What a worker works with."""

    async def run_chunk(self, build_id: UUID, chunk: int) -> None:
        """Builds the keys of a chunk."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a worker works."""

    bulk_slots: int = 1
    """Bulk chunks at a time; folding is bound to one processor, so more workers do more than more slots."""
    immediate_slots: int = 1
    heartbeat_s: float = 2.0
    stalled_after_s: float = 8.0
    poll_interval_s: float = 0.2
    """Wake-ups get lost now and then; then a job waits no longer than this."""
    sweep_interval_s: float = 1.0
    reconnect_pause_s: float = 0.5
    """How long a store that is away is left alone before it is tried again."""
    stop_timeout_s: float = 5.0
    """How long running jobs may take to end once the worker is told to stop."""


async def run_worker(
    url: str,
    *,
    builder: ChunkBuilder,
    sweep: BuildSweep,
    periodic: Sequence[PeriodicJob] = (),
    settings: WorkerSettings | None = None,
    stop: asyncio.Event | None = None,
    log: Log | None = None,
) -> None:
    """Works until `stop` is set or the task is cancelled; a store that is away is waited for. `url` reaches PostgreSQL
    directly, not through a pooler that shares sessions. `periodic` is done by the clock, beside
    builds. Raises what else made one of its parts end."""
    chosen, stopping, told = settings or WorkerSettings(), stop or asyncio.Event(), log or silent_log()
    while not stopping.is_set():
        try:
            await _work(url, builder=builder, sweep=sweep, periodic=periodic, settings=chosen, stop=stopping, log=told)
        except _STORE_AWAY as error:
            told.warning("worker_waits_for_store", error=str(error))
        if not stopping.is_set():
            await _pause(stopping, chosen.reconnect_pause_s)


async def _work(
    url: str,
    *,
    builder: ChunkBuilder,
    sweep: BuildSweep,
    periodic: Sequence[PeriodicJob],
    settings: WorkerSettings,
    stop: asyncio.Event,
    log: Log,
) -> None:
    """Works until one of its parts ends; where the store is away that may be any of them."""
    app = make_app(url, builder.run_chunk, log=log)
    add_periodic(app, periodic, log=log)
    try:
        if not await _open(app, stop):
            return
        schedule = Schedule(
            sweep, app, interval_s=settings.sweep_interval_s, stalled_after_s=settings.stalled_after_s, log=log
        )
        work = [
            _slot(app, BuildPriority.IMMEDIATE, slots=settings.immediate_slots, settings=settings),
            _slot(app, BuildPriority.BULK, slots=settings.bulk_slots, settings=settings),
            schedule.run(),
            stop.wait(),
        ]
        await _until_one_ends(work)
    finally:
        await app.close_async()


async def _open(app: procrastinate.App, stop: asyncio.Event) -> bool:
    """Connects; False where the worker was told to end before the store answered."""
    opening, stopping = asyncio.ensure_future(_opened(app)), asyncio.ensure_future(stop.wait())
    await asyncio.wait((opening, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if opening.done():
        await opening
        return True
    opening.cancel()
    await asyncio.wait((opening,))
    return False


async def _opened(app: procrastinate.App) -> None:
    await app.open_async()


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def _slot(
    app: procrastinate.App, priority: BuildPriority, *, slots: int, settings: WorkerSettings
) -> Coroutine[Any, Any, None]:
    return app.run_worker_async(
        queues=[priority.queue],
        name=f"steelyard-{priority.queue}",
        concurrency=slots,
        fetch_job_polling_interval=settings.poll_interval_s,
        update_heartbeat_interval=settings.heartbeat_s,
        stalled_worker_timeout=settings.stalled_after_s,
        shutdown_graceful_timeout=settings.stop_timeout_s,
        delete_jobs=procrastinate.jobs.DeleteJobCondition.ALWAYS,
        install_signal_handlers=False,
    )


async def _until_one_ends(work: list[Coroutine[Any, Any, Any]]) -> None:
    """Runs until the first of them ends, stops the others, and raises what went wrong."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            task.result()
