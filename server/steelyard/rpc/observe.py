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
        # Instruments are looked up once: to find one by its labels costs as much as to use it.
        self._seconds: dict[tuple[str, str], Any] = {}
        self._used: dict[str, Any] = {}
        meters.gauge(metrics.RPC_IN_FLIGHT).set_function(lambda: in_flight.count)

    def began(self, call: Call) -> None:
        """A stream that watches is there."""
        if call.about.is_watch:
            self._meters.gauge(metrics.WATCHERS, call.method).inc()

    def ended(self, call: Call, code: str, *, took_s: float) -> None:
        """A call has ended, well or not."""
        # Whoever asks for methods that do not exist must not fill the memory with their names.
        method = "unknown" if code == "UNIMPLEMENTED" else call.method
        seconds = self._seconds.get((method, code))
        if seconds is None:
            seconds = self._seconds[method, code] = self._meters.histogram(metrics.RPC_SECONDS, method, code)
        seconds.observe(took_s)
        if call.about.is_watch:
            self._meters.gauge(metrics.WATCHERS, call.method).dec()
        if call.key is not None:
            self._used_by(call.key.key_id).inc()
        if call.reason is None:
            return
        if call.reason in DENIALS:
            self._meters.counter(metrics.DENIED, call.reason).inc()
        elif call.reason in LIMITS:
            key_id = "" if call.key is None else call.key.key_id
            self._meters.counter(metrics.RATE_REFUSED, key_id, call.reason).inc()

    def _used_by(self, key_id: str) -> Any:
        used = self._used.get(key_id)
        if used is None:
            used = self._used[key_id] = self._meters.counter(metrics.KEY_USED, key_id)
        return used


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

    def began(self, call: Call) -> None:
        """Times the call from now on."""
        if not call.about.is_quiet:
            self.in_flight.begin()
        self.meter.began(call)
        self.audit.begin(call)
        call.begun_ns = time.perf_counter_ns()

    def ended(self, call: Call, error: BaseException | None) -> None:
        """Tells of the call."""
        took_ns = time.perf_counter_ns() - call.begun_ns
        is_quiet = call.about.is_quiet
        if not is_quiet:
            self.in_flight.end()
        code = code_name(call, error)
        self.meter.ended(call, code, took_s=took_ns / 1e9)
        write = self.log.debug if is_quiet else self.log.info
        write(
            "rpc",
            method=call.method,
            code=code,
            reason=call.reason,
            duration_ms=round(took_ns / 1e6, 3),
            request_id=call.request_id,
            trace_id=call.trace_id,
        )
        self.audit.end(call, code)


class Admit:
    """Refuses a call when as many are in flight as the server takes on; health and reflection always get through."""

    def __init__(self, in_flight: InFlight, *, limit: int) -> None:
        self._in_flight = in_flight
        self._limit = limit

    def enter(self, call: Call) -> None:
        """Raises `QueueFull`."""
        if self._in_flight.count > self._limit and not call.about.is_quiet:
            raise QueueFull

    def leave(self, call: Call, error: BaseException | None) -> None:
        """Nothing: calls in flight are counted by `Observe`."""


def code_name(call: Call, error: BaseException | None) -> str:
    """The status a call ended with."""
    # The context's code is None while nobody has set one.
    code: Any = call.code or call.context.code()
    if code is not None:
        return code.name if isinstance(code, grpc.StatusCode) else str(code)
    if error is None:
        return "OK"
    return "CANCELLED" if isinstance(error, asyncio.CancelledError | GeneratorExit) else "UNKNOWN"
