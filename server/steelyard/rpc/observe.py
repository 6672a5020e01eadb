"""The outermost layers: count what is in flight, write one line per call; and the one that refuses when full."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc

from steelyard.accounting.errors import QueueFull
from steelyard.rpc.calls import Call
from steelyard.telemetry.logs import Log

QUIET_SERVICES = ("grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection")
"""Asked all day by machines: logged at debug level, never refused."""


class InFlight:
    """How many calls are being handled; the server's own count, for the drain."""

    def __init__(self) -> None:
        self.count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def begin(self) -> None:
        """A call has begun."""
        self.count += 1
        self._idle.clear()

    def end(self) -> None:
        """A call has ended."""
        self.count -= 1
        if self.count == 0:
            self._idle.set()

    async def wait_idle(self, *, timeout_s: float) -> bool:
        """Waits until no call is being handled; False when some still are after the timeout."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True


class Observe:
    """Counts calls and logs each: method, code, duration, request id."""

    def __init__(self, log: Log, in_flight: InFlight) -> None:
        self._log = log
        self._in_flight = in_flight

    def around(self, call: Call) -> _Observed:
        """Times the call."""
        return _Observed(call, log=self._log, in_flight=self._in_flight)


class _Observed:
    __slots__ = ("_begun_ns", "_call", "_in_flight", "_log")

    def __init__(self, call: Call, *, log: Log, in_flight: InFlight) -> None:
        self._call = call
        self._log = log
        self._in_flight = in_flight
        self._begun_ns = 0

    async def __aenter__(self) -> None:
        self._in_flight.begin()
        self._begun_ns = time.perf_counter_ns()

    async def __aexit__(self, *ended: Any) -> None:
        self._in_flight.end()
        call = self._call
        write = self._log.debug if call.service in QUIET_SERVICES else self._log.info
        write(
            "rpc",
            method=call.method,
            code=_code_name(call, ended[1]),
            reason=call.reason,
            duration_ms=round((time.perf_counter_ns() - self._begun_ns) / 1e6, 3),
            request_id=call.request_id,
            trace_id=call.trace_id,
        )


class Admit:
    """Refuses a call when as many are in flight as the server takes on; health and reflection always get through."""

    def __init__(self, in_flight: InFlight, *, limit: int) -> None:
        self._in_flight = in_flight
        self._limit = limit

    def around(self, call: Call) -> _Admitted:
        """Raises `QueueFull` on entering."""
        is_full = self._in_flight.count > self._limit and call.service not in QUIET_SERVICES
        return _Admitted(is_full=is_full)


class _Admitted:
    __slots__ = ("_is_full",)

    def __init__(self, *, is_full: bool) -> None:
        self._is_full = is_full

    async def __aenter__(self) -> None:
        if self._is_full:
            raise QueueFull

    async def __aexit__(self, *ended: Any) -> None:
        return None


def _code_name(call: Call, error: BaseException | None) -> str:
    # The context's code is None while nobody has set one.
    code: Any = call.code or call.context.code()
    if code is not None:
        return code.name if isinstance(code, grpc.StatusCode) else str(code)
    if error is None:
        return "OK"
    return "CANCELLED" if isinstance(error, asyncio.CancelledError | GeneratorExit) else "UNKNOWN"
