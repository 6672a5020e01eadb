"""`steelyard serve`: the gRPC service, by default on an embedded database with a worker beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from steelyard.app.access_side import guard_line
from steelyard.app.assembly import Service
from steelyard.app.child_process import end_with_owner
from steelyard.app.feed_side import broker_line
from steelyard.app.running import until_stopped
from steelyard.app.serving_processes import STOP_MARGIN_S, ServingProcesses, drain_max_s
from steelyard.app.settings import Settings
from steelyard.app.store import EmbeddedStore, StoreAway, check_revision, until_ready
from steelyard.app.telemetry_side import process_log
from steelyard.app.token_key import with_token_key
from steelyard.app.worker_process import WorkerProcess
from steelyard.telemetry.logs import Log

Say = Callable[[str], None]
CONNECTIONS_BESIDE = 10
"""What a process may hold besides its pool: health, relay, locks."""
CONNECTIONS_OF_OTHERS = 60


@dataclass(slots=True)
class _Surroundings:
    """What the service stands on: the database, and the parts that must live as long as it."""

    url: str
    database: str
    worker: str = "none here: run `steelyard work`"
    is_away: bool = False
    """Whether the database could not be reached: the service says NOT_SERVING until it can."""
    parts: list[Awaitable[Any]] = field(default_factory=list)


async def serve(
    settings: Settings, *, has_worker: bool | None, say: Say, stop: asyncio.Event, is_owned: bool = False
) -> bool:
    """Serves until `stop` is set, then drains; False when calls had to be cut off.

    `has_worker`: None means one on the embedded database, none on another; `is_owned`: one of several processes, which
    also ends when its owner does. Raises what keeps it from serving: `EmbeddedError`, `StoreNotReady`, `OSError`,
    `ServerNotStarted`.
    """
    log = process_log(settings)
    if is_owned:
        end_with_owner(stop, grace_s=drain_max_s(settings) + STOP_MARGIN_S)
    async with AsyncExitStack() as stack:
        around = await _surroundings(settings, has_worker=has_worker, stack=stack, log=log)
        settings = with_token_key(settings)
        serving = Service if settings.processes == 1 else ServingProcesses
        service = serving(settings, url=around.url, log=log, is_held=around.is_away)
        await service.start()
        if around.is_away:
            around.parts.append(_admit_when_ready(service, url=around.url, log=log))
        say(f"steelyard serves on {service.address}: {reach(settings)}, {guard_line(settings)}")
        say(f"  database: {around.database}")
        say(f"  broker: {broker_line(settings)}")
        if settings.processes > 1:
            say(f"  processes: {settings.processes}")
        say(f"  worker: {around.worker}")
        try:
            await until_stopped(stop, service.wait(), *around.parts)
        finally:
            log.info("draining")
            is_drained = await service.stop()
            log.info("drained", is_complete=is_drained)
    return is_drained


async def _surroundings(
    settings: Settings, *, has_worker: bool | None, stack: AsyncExitStack, log: Log
) -> _Surroundings:
    if settings.database_url is None:
        store = await stack.enter_async_context(
            EmbeddedStore.open(settings.folder, log=log, connections=_connections(settings))
        )
        around = _Surroundings(store.url, f"embedded, kept in {settings.folder}", parts=[store.keep_running()])
    else:
        url = settings.database_url.get_secret_value()
        around = _Surroundings(url, "as STEELYARD_DATABASE_URL says")
        try:
            await check_revision(url)
        except StoreAway:
            around.is_away = True
            around.database += ", AWAY: waiting for it"
    if settings.database_url is None if has_worker is None else has_worker:
        worker = await stack.enter_async_context(WorkerProcess.open(url=around.url, log=log))
        around.worker = f"process {worker.pid}"
        around.parts.append(worker.keep_running())
    return around


async def _admit_when_ready(service: Service | ServingProcesses, *, url: str, log: Log) -> None:
    """Lets the service use its database once that is there, and watches for ever. Raises `StoreNotReady` where it turns
    out to be one that we cannot work with."""
    await until_ready(url, log=log)
    log.info("store_reached")
    service.admit()
    await asyncio.Event().wait()


def _connections(settings: Settings) -> int:
    """How many connections the embedded database takes on: the pools of all processes, the worker's, and our own."""
    return settings.processes * (settings.pool_size + CONNECTIONS_BESIDE) + CONNECTIONS_OF_OTHERS


def reach(settings: Settings) -> str:
    """Who can get at the port, in words."""
    return "this machine only" if settings.is_on_loopback else "REACHABLE FROM THE NETWORK"
