"""Health (grpc.health.v1): serving while the store answers, for "" and for each service.

A monitor asks the store each second, and then what single services need beside it. The states change with the answers,
in both directions, without a restart; a drain freezes them at NOT_SERVING. Beside the services there are three names
for probes: `readiness` is the same as ""; `startup` turns to SERVING with the first good check, which a store of an old
schema never passes, and stays; `liveness` is SERVING as long as the event loop answers at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

from steelyard.accounting.errors import SteelyardError
from steelyard.telemetry.logs import Log

SERVICE_NAME = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
READINESS = "readiness"
STARTUP = "startup"
LIVENESS = "liveness"

Ping = Callable[[], Awaitable[None]]
"""Asks the store for a sign of life; raises when there is none."""
Needs = Mapping[str, Callable[[], Awaitable[bool]]]
"""By full name of a service: whether what it needs beside the store is there; may raise what `Ping` raises."""


class Health:
    """What this server says of itself, kept true by a monitor."""

    def __init__(
        self,
        service_names: Iterable[str],
        *,
        ping: Ping,
        needs: Needs | None = None,
        log: Log,
        interval_s: float = 1.0,
        timeout_s: float = 2.0,
    ) -> None:
        self.servicer = health_aio.HealthServicer()
        self._names = ("", READINESS, *service_names)
        self._ping = ping
        self._needs = {name: need for name, need in (needs or {}).items() if name in self._names}
        self._log = log
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._told: dict[str, bool] = {}

    async def check(self) -> bool:
        """Asks the store once and tells every service's watchers what came of it."""
        is_alive = await self._answers(self._ping)
        await self._tell(LIVENESS, is_serving=True)
        await self._tell(STARTUP, is_serving=is_alive or self._told.get(STARTUP, False))
        for name in self._names:
            need = self._needs.get(name)
            await self._tell(name, is_serving=is_alive and (need is None or await self._answers(need)))
        return is_alive

    async def monitor(self) -> None:
        """Checks for ever; runs as a task of the server."""
        while True:
            await self.check()
            await asyncio.sleep(self._interval_s)

    async def drain(self) -> None:
        """Says NOT_SERVING from now on, whatever the store does."""
        await self.servicer.enter_graceful_shutdown()

    async def _tell(self, name: str, *, is_serving: bool) -> None:
        if self._told.get(name) is is_serving:
            return
        self._told[name] = is_serving
        await self.servicer.set(name, SERVING if is_serving else NOT_SERVING)
        if name == "":
            (self._log.info if is_serving else self._log.warning)("health", is_serving=is_serving)
        elif name in self._needs:
            (self._log.info if is_serving else self._log.warning)("health", service=name, is_serving=is_serving)

    async def _answers(self, ask: Callable[[], Awaitable[bool | None]]) -> bool:
        """Whether the store gave an answer in time, and not a no."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await ask() is not False
        except (SteelyardError, TimeoutError, OSError):
            return False
