"""The outermost layers: count what is in flight, measure and write one line per call; and the one that refuses when
full."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

import grpc

from steelyard.accounting.errors import QueueFull
from steelyard.rpc.calls import Call
from steelyard.telemetry import metrics
from steelyard.telemetry.logs import Log
from steelyard.telemetry.metrics import Meters

QUIET_SERVICES = ("grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection")
"""Asked all day by machines: logged at debug level, never refused."""


DENIALS = frozenset({"API_KEY_INVALID", "SCOPE_MISSING", "ACCOUNT_DENIED"})
LIMITS = frozenset({"RATE_LIMITED", "STREAM_LIMIT", "QUEUE_FULL"})


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


class CallMeter:
    """Counts and times calls."""

    def __init__(self, meters: Meters, in_flight: InFlight) -> None:
        self._meters = meters
        self._seconds: dict[tuple[str, str], Any] = {}
        meters.gauge(metrics.RPC_IN_FLIGHT).set_function(lambda: in_flight.count)

    def began(self, call: Call) -> None:
        """A stream that watches is there."""
        if call.is_stream and _is_watch(call.method):
            self._meters.gauge(metrics.WATCHERS, call.method).inc()

    def ended(self, call: Call, code: str, *, took_s: float) -> None:
        """A call has ended, well or not."""
        # Whoever asks for methods that do not exist must not fill the memory with their names.
        method = "unknown" if code == "UNIMPLEMENTED" else call.method
        seconds = self._seconds.get((method, code))
        if seconds is None:
            seconds = self._seconds[method, code] = self._meters.histogram(metrics.RPC_SECONDS, method, code)
        seconds.observe(took_s)
        if call.is_stream and _is_watch(call.method):
            self._meters.gauge(metrics.WATCHERS, call.method).dec()
        if call.key is not None:
            self._meters.counter(metrics.KEY_USED, call.key.key_id).inc()
        if call.reason is None:
            return
        if call.reason in DENIALS:
            self._meters.counter(metrics.DENIED, call.reason).inc()
        elif call.reason in LIMITS:
            key_id = "" if call.key is None else call.key.key_id
            self._meters.counter(metrics.RATE_REFUSED, key_id, call.reason).inc()


class AuditTrail(Protocol):
    """Keeps account of calls that write."""

    def begin(self, call: Call) -> None:
        """A call has begun."""
        ...

    def end(self, call: Call, code: str) -> None:
        """A call has ended with this status."""
        ...


class Observe:
    """Counts calls and logs each: method, code, duration, request id."""

    def __init__(self, log: Log, in_flight: InFlight, *, meter: CallMeter, audit: AuditTrail) -> None:
        self.log = log
        self.in_flight = in_flight
        self.meter = meter
        self.audit = audit

    def around(self, call: Call) -> _Observed:
        """Times the call."""
        return _Observed(call, self)


class _Observed:
    __slots__ = ("_begun_ns", "_call", "_observe")

    def __init__(self, call: Call, observe: Observe) -> None:
        self._call = call
        self._observe = observe
        self._begun_ns = 0

    async def __aenter__(self) -> None:
        observe, call = self._observe, self._call
        if call.service not in QUIET_SERVICES:
            observe.in_flight.begin()
        observe.meter.began(call)
        observe.audit.begin(call)
        self._begun_ns = time.perf_counter_ns()

    async def __aexit__(self, *ended: Any) -> None:
        took_ns = time.perf_counter_ns() - self._begun_ns
        observe, call = self._observe, self._call
        if call.service not in QUIET_SERVICES:
            observe.in_flight.end()
        code = code_name(call, ended[1])
        observe.meter.ended(call, code, took_s=took_ns / 1e9)
        write = observe.log.debug if call.service in QUIET_SERVICES else observe.log.info
        write(
            "rpc",
            method=call.method,
            code=code,
            reason=call.reason,
            duration_ms=round(took_ns / 1e6, 3),
            request_id=call.request_id,
            trace_id=call.trace_id,
        )
        observe.audit.end(call, code)


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


def _is_watch(method: str) -> bool:
    return "/Watch" in method


def code_name(call: Call, error: BaseException | None) -> str:
    """The status a call ended with."""
    # The context's code is None while nobody has set one.
    code: Any = call.code or call.context.code()
    if code is not None:
        return code.name if isinstance(code, grpc.StatusCode) else str(code)
    if error is None:
        return "OK"
    return "CANCELLED" if isinstance(error, asyncio.CancelledError | GeneratorExit) else "UNKNOWN"
