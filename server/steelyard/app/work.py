"""`steelyard work`: a worker that builds positions, until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Coroutine
from typing import Any

from procrastinate.exceptions import ConnectorException
from psycopg import Error as DriverError
from sqlalchemy.exc import SQLAlchemyError

from steelyard.accounting.errors import StoreUnavailable
from steelyard.app.assembly import Worker
from steelyard.app.child_process import end_with_owner
from steelyard.app.settings import Settings
from steelyard.app.store import embedded_url, until_ready
from steelyard.app.telemetry_side import process_log
from steelyard.telemetry.logs import Log

RETRY_S = 1.0
STOP_GRACE_S = 10.0
"""Longer than running jobs are given to end."""
AWAY = (StoreUnavailable, ConnectorException, DriverError, SQLAlchemyError, ConnectionError, TimeoutError)
"""What it looks like when the database has gone away: the worker waits for it."""
GARBAGE_THRESHOLD = 50_000
"""Objects made between two looks for garbage. Folding makes millions, none of them in circles; at Python's 700 the
looks cost a worker a seventh of its time."""


async def work(settings: Settings, *, is_owned: bool, stop: asyncio.Event) -> bool:
    """Works until `stop` is set; `is_owned`: also until standard input ends, which the owner holds open.

    Raises `EmbeddedError`, `StoreNotReady`.
    """
    log = process_log(settings)
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)
    if is_owned:
        end_with_owner(stop, grace_s=2 * STOP_GRACE_S)
    async with embedded_url(settings) as url:
        await _run_within(until_ready(url, log=log), stop=stop, grace_s=0)
        if stop.is_set():
            return True
        log.info("worker_started", pid=os.getpid())
        while not stop.is_set():
            await _until_away(settings, url=url, log=log, stop=stop)
    log.info("worker_stopped", pid=os.getpid())
    return True


async def _until_away(settings: Settings, *, url: str, log: Log, stop: asyncio.Event) -> None:
    worker = Worker(settings, url=url, log=log)
    try:
        await _run_within(worker.run(stop), stop=stop)
    except AWAY as error:
        log.warning("store_away", error=type(error).__name__)
        await asyncio.sleep(RETRY_S)
    finally:
        await worker.close()


async def _run_within(run: Coroutine[Any, Any, None], *, stop: asyncio.Event, grace_s: float = STOP_GRACE_S) -> None:
    """Runs to the end; once `stop` is set no longer than a grace: connecting to a store that is away takes longer."""
    running = asyncio.create_task(run)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((running,), timeout=grace_s if stop.is_set() else None)
    finally:
        stopping.cancel()
        running.cancel()
        await asyncio.wait((running, stopping))
    if not running.cancelled():
        running.result()
