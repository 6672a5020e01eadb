"""Health (grpc.health.v1): serving while the store answers, for "" and for each service.

A monitor asks the store each second. The state changes with the answer, in both directions, without a restart; a drain
freezes it at NOT_SERVING.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

from steelyard.accounting.errors import SteelyardError
from steelyard.telemetry.logs import Log

SERVICE_NAME = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

Ping = Callable[[], Awaitable[None]]
"""Asks the store for a sign of life; raises when there is none."""


class Health:
    """What this server says of itself, kept true by a monitor."""

    def __init__(
        self, service_names: Iterable[str], *, ping: Ping, log: Log, interval_s: float = 1.0, timeout_s: float = 2.0
    ) -> None:
        self.servicer = health_aio.HealthServicer()
        self._names = ("", *service_names)
        self._ping = ping
        self._log = log
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._is_serving: bool | None = None

    async def check(self) -> bool:
        """Asks the store once and tells every service's watchers what came of it."""
        is_alive = await self._is_alive()
        if is_alive is not self._is_serving:
            self._is_serving = is_alive
            for name in self._names:
                await self.servicer.set(name, SERVING if is_alive else NOT_SERVING)
            (self._log.info if is_alive else self._log.warning)("health", is_serving=is_alive)
        return is_alive

    async def monitor(self) -> None:
        """Checks for ever; runs as a task of the server."""
        while True:
            await self.check()
            await asyncio.sleep(self._interval_s)

    async def drain(self) -> None:
        """Says NOT_SERVING from now on, whatever the store does."""
        await self.servicer.enter_graceful_shutdown()

    async def _is_alive(self) -> bool:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._ping()
        except (SteelyardError, TimeoutError, OSError):
            return False
        return True
