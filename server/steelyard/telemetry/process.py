"""What a process tells of itself: how late its event loop comes back, and where its metrics are had."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from wsgiref.simple_server import WSGIServer

from prometheus_client import start_http_server

from steelyard.telemetry import metrics
from steelyard.telemetry.metrics import Meters

LOOK_S = 0.1
WORST_OF = 100
"""Looks whose worst is told: those of ten seconds."""


class LoopLag:
    """Asks the event loop to come back after a while, and measures how much later it does."""

    def __init__(self, meters: Meters) -> None:
        self._lag = meters.histogram(metrics.LOOP_LAG)
        self._worst = meters.gauge(metrics.LOOP_LAG_WORST)
        self._last: deque[float] = deque(maxlen=WORST_OF)

    async def run(self) -> None:
        """Measures until cancelled."""
        while True:
            # Not the loop's own clock: uvloop's counts whole milliseconds.
            asked_s = time.perf_counter() + LOOK_S
            await asyncio.sleep(LOOK_S)
            late = max(0.0, time.perf_counter() - asked_s)
            self._lag.observe(late)
            self._last.append(late)
            self._worst.set(max(self._last))


class MetricsEndpoint:
    """`/metrics` over HTTP, in a thread of its own, so that a loop that hangs can still be seen."""

    def __init__(self, meters: Meters, *, host: str, port: int) -> None:
        """Listens at once; port 0: a free one. Raises `OSError` when the port cannot be had."""
        self._server: WSGIServer
        self._thread: threading.Thread
        self._server, self._thread = start_http_server(port, host, registry=meters.registry)
        self.port = self._server.server_port

    def close(self) -> None:
        """Listens no more. Blocks for a moment."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
