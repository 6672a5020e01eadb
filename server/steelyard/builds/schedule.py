"""What a worker does besides jobs: the sweep each second, and rows of dead workers removed from the engine."""

from __future__ import annotations

import asyncio
from typing import Protocol

import procrastinate

from steelyard.accounting.errors import SteelyardError
from steelyard.telemetry.logs import Log

TIDY_INTERVAL_S = 3_600.0
PRUNE_INTERVAL_S = 10.0


class BuildSweep(Protocol):
    """Finds what nobody works on any more."""

    async def sweep(self) -> int:
        """Makes builds of stale keys, gives lost chunks new jobs, ends what is overdue; how many builds it made."""
        ...

    async def tidy(self) -> bool:
        """Forgets some of what is kept no longer; whether there is more of it."""
        ...


class Schedule:
    """Runs the sweep at a steady pace; a store that is away is waited for."""

    def __init__(
        self, sweep: BuildSweep, app: procrastinate.App, *, interval_s: float, stalled_after_s: float, log: Log
    ) -> None:
        self._sweep = sweep
        self._app = app
        self._log = log
        self._interval_s = interval_s
        self._stalled_after_s = stalled_after_s

    async def run(self) -> None:
        """Sweeps until cancelled."""
        loop = asyncio.get_running_loop()
        tidied = pruned = float("-inf")
        while True:
            try:
                await self._sweep.sweep()
                if loop.time() - pruned > PRUNE_INTERVAL_S:
                    await self._prune()
                    pruned = loop.time()
                if loop.time() - tidied > TIDY_INTERVAL_S:
                    has_more = await self._sweep.tidy()
                    tidied = float("-inf") if has_more else loop.time()
            except (SteelyardError, procrastinate.exceptions.ConnectorException) as error:
                self._log.warning("sweep_failed", error=str(error))
            await asyncio.sleep(self._interval_s)

    async def _prune(self) -> None:
        """Removes jobs that workers had when they died: their chunks have new ones."""
        manager = self._app.job_manager
        for job in await manager.get_stalled_jobs(seconds_since_heartbeat=2 * self._stalled_after_s):
            await manager.finish_job(job, status=procrastinate.jobs.Status.FAILED, delete_job=True)
        await manager.prune_stalled_workers(2 * self._stalled_after_s)
