"""Nothing of a service may die unseen: a background task that ends takes the process down with what it raised."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from steelyard.telemetry.logs import Log


class PartEnded(Exception):
    """A task that runs as long as the service has ended without saying why."""


async def until_one_ends(tasks: Collection[asyncio.Task[Any] | None], *, log: Log) -> None:
    """Waits until one of the tasks ends, which none of them should, and raises its error, else `PartEnded`.

    A task that was never started is one that has ended. Cancelling this leaves the tasks alone.
    """
    running = [task for task in tasks if task is not None]
    if len(running) < len(tasks):
        raise PartEnded("a background task was not started")
    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    for task in running:
        if task.done():
            error = None if task.cancelled() else task.exception()
            name = task.get_name()
            log.error("background_task_died", task=name, error=type(error).__name__)
            raise error or PartEnded(f"{name} has ended")
