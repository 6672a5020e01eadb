"""What the task engine does by the clock: a job for each tick, deferred once by whichever worker is first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import procrastinate

from steelyard.accounting.errors import SteelyardError
from steelyard.operations.building import BuildPriority
from steelyard.telemetry.logs import Log

Told = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PeriodicJob:
    """Something to do again and again."""

    name: str
    """Stable: ticks are told apart by it."""
    cron: str
    """Five fields, UTC (`0 * * * *`: every full hour)."""
    run: Callable[[datetime], Awaitable[Told]]
    """Does it; `datetime` is the tick it is done for. Gives what the log is to say."""
    priority: BuildPriority = BuildPriority.BULK


def add_periodic(app: procrastinate.App, jobs: Sequence[PeriodicJob], *, log: Log) -> None:
    """Has the engine defer each job at its ticks. Two runs of one job never overlap; a tick that comes while one still
    waits is dropped, and one that failed is left to the next tick."""
    for job in jobs:
        _add(app, job, log=log)


def _add(app: procrastinate.App, job: PeriodicJob, *, log: Log) -> None:
    async def run(timestamp: int, **_later: Any) -> None:
        try:
            told = await job.run(datetime.fromtimestamp(timestamp, tz=UTC))
        except SteelyardError as error:
            log.warning("periodic_failed", job=job.name, reason=error.reason, error=error.message)
        else:
            log.info("periodic_done", job=job.name, **told)

    task = app.task(name=job.name, queue=job.priority.queue, lock=job.name, queueing_lock=job.name)(run)
    app.periodic(cron=job.cron)(task)
