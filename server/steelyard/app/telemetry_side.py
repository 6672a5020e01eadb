"""What watches a process: its metrics, traces and log lines, and who may ask for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import SecretStr

from steelyard.accounting.errors import FenceLost, StoreUnavailable
from steelyard.app.settings import Settings
from steelyard.operations.build_positions import BuildPositions
from steelyard.operations.building import BuildState, BuildTrigger
from steelyard.operations.observing import origin
from steelyard.operations.ports import Clock
from steelyard.storage.database import Database
from steelyard.storage.vital_signs import VitalSignReads, VitalSigns
from steelyard.telemetry import metrics
from steelyard.telemetry.logs import Log, json_log, take_over_libraries
from steelyard.telemetry.metrics import Meters
from steelyard.telemetry.positions import PositionLog
from steelyard.telemetry.process import LoopLag, MetricsEndpoint
from steelyard.telemetry.redaction import Redaction
from steelyard.telemetry.store import StoreTelemetry
from steelyard.telemetry.tracing import Tracer

if TYPE_CHECKING:
    from steelyard.telemetry.otlp import OtlpMetrics

VITALS_S = 5.0
SEND_S = 10.0
PORTS_TRIED = 16
"""Where several processes share a service port, each has a metrics port of its own, one after the other."""


class TelemetrySide:
    """Telemetry of one process: made first, since all that follows tells it something; started when the rest has."""

    def __init__(self, settings: Settings, *, log: Log, clock: Clock, service: str, port: int | None) -> None:
        """`service` names the process to others; `port` is where metrics are told, None: nowhere."""
        self._settings = settings
        self._port = port
        self._log = log
        self._clock = clock
        self.meters = Meters()
        self.tracer = Tracer()
        self._otlp: OtlpMetrics | None = None
        if settings.otlp_endpoint is not None:
            self._export(settings.otlp_endpoint, service=service)
        self.store = StoreTelemetry(
            self.meters,
            log=log,
            positions=PositionLog.to_standard_error(is_on=_logs_positions(settings)),
            tracer=self.tracer,
            slow_query_s=settings.slow_query_ms / 1_000,
        )
        self.endpoint: MetricsEndpoint | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def _export(self, endpoint: str, *, service: str) -> None:
        # Imported late: an exporter brings a second gRPC stack, which most processes do not need.
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        from steelyard.telemetry.otlp import OtlpMetrics
        from steelyard.telemetry.spans import RecordingTracer

        is_plain = urlsplit(endpoint).scheme != "https"
        spans = OTLPSpanExporter(endpoint=endpoint, insecure=is_plain, timeout=5)
        self.tracer = RecordingTracer(
            spans,
            clock=self._clock,
            service=service,
            ratio=self._settings.trace_ratio,
            redaction=Redaction(secrets_of(self._settings)),
        )
        figures = OTLPMetricExporter(endpoint=endpoint, insecure=is_plain, timeout=5)
        self._otlp = OtlpMetrics(self.meters, figures, service=service, clock=self._clock)

    def start(self, database: Database) -> None:
        """Begins to measure, where somebody may ask. Raises `OSError` when the port cannot be had."""
        if self._port is None and self._otlp is None:
            return
        if self._port is not None:
            self.endpoint = self._listen(self._port)
            self._log.info("metrics_served", host=self._settings.metrics_host, port=self.endpoint.port)
        self.store.pool_in_use.set_function(lambda: database.in_use)
        vitals = VitalSignReads(database, stale_after=self._settings.stale_after)
        self._tasks = [
            asyncio.create_task(LoopLag(self.meters).run(), name="loop-lag"),
            asyncio.create_task(self._watch(vitals), name="vital-signs"),
        ]
        if self._otlp is not None:
            self._tasks.append(asyncio.create_task(self._send(self._otlp), name="otlp-metrics"))

    def _listen(self, port: int) -> MetricsEndpoint:
        host = self._settings.metrics_host
        if port and self._settings.shares_port:
            for offset in range(PORTS_TRIED - 1):
                with suppress(OSError):
                    return MetricsEndpoint(self.meters, host=host, port=port + offset)
        return MetricsEndpoint(self.meters, host=host, port=port)

    async def _watch(self, vitals: VitalSignReads) -> None:
        while True:
            try:
                tell_vitals(self.meters, await vitals.read())
                self.meters.gauge(metrics.VITALS_FAILED).set(0)
            except StoreUnavailable:
                self.meters.gauge(metrics.VITALS_FAILED).set(1)
            await asyncio.sleep(VITALS_S)

    async def _send(self, otlp: OtlpMetrics) -> None:
        while True:
            await asyncio.sleep(SEND_S)
            await asyncio.to_thread(otlp.send)

    async def close(self) -> None:
        """Sends what was not sent, and measures no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._otlp is not None:
            await asyncio.to_thread(self._otlp.close)
        await asyncio.to_thread(self.tracer.close)
        if self.endpoint is not None:
            await asyncio.to_thread(self.endpoint.close)


class WatchedBuilder:
    """Builds chunks as `BuildPositions` does, and tells how long it took and what came of it."""

    def __init__(self, builder: BuildPositions, telemetry: TelemetrySide) -> None:
        self._builder = builder
        self._telemetry = telemetry

    async def run_chunk(self, build_id: UUID, chunk: int) -> None:
        """Builds the keys of a chunk."""
        begun_s = asyncio.get_running_loop().time()
        outcome = "failed"
        try:
            with self._telemetry.tracer.span(
                "build.chunk", origin.get().traceparent, build_id=str(build_id), chunk=chunk
            ):
                await self._builder.run_chunk(build_id, chunk)
            outcome = "done"
        except (FenceLost, StoreUnavailable):
            outcome = "left"
            raise
        finally:
            took_s = asyncio.get_running_loop().time() - begun_s
            self._telemetry.meters.histogram(metrics.BUILD_CHUNKS, outcome).observe(took_s)


def tell_vitals(meters: Meters, signs: VitalSigns) -> None:
    """Sets the gauges of what the store says of itself."""
    meters.gauge(metrics.EVENT_LAG).set(signs.event_lag_s)
    meters.gauge(metrics.OUTBOX_ROWS).set(signs.outbox_rows)
    meters.gauge(metrics.QUEUE_AGE).set(signs.queue_age_s)
    meters.gauge(metrics.BUILD_IDLE).set(signs.build_idle_s)
    meters.gauge(metrics.STALE_KEY_AGE).set(signs.stale_key_age_s)
    meters.gauge(metrics.STALE_KEYS).set(signs.stale_keys)
    meters.gauge(metrics.WORKERS).set(signs.workers)
    meters.gauge(metrics.STALE_PRICES).set(signs.stale_prices)
    for metric in (metrics.BUILDS, metrics.OPEN_DISCREPANCIES, metrics.OPEN_BREACHES):
        meters.forget(metric)
    # Also those that never were, so that the first failure is a step and not a beginning.
    for trigger, state in product(BuildTrigger, BuildState):
        meters.gauge(metrics.BUILDS, trigger, state).set(signs.builds.get((trigger.value, state.value), 0))
    for kind, count in signs.discrepancies.items():
        meters.gauge(metrics.OPEN_DISCREPANCIES, kind).set(count)
    for kind, count in signs.breaches.items():
        meters.gauge(metrics.OPEN_BREACHES, kind).set(count)


def process_log(settings: Settings) -> Log:
    """The log of a process, and of the libraries in it: secrets that its settings hold are hidden wherever they turn
    up."""
    log = json_log(level=settings.log_level, redaction=Redaction(secrets_of(settings)))
    take_over_libraries(log)
    return log


def secrets_of(settings: Settings) -> Iterator[str]:
    """Every secret that settings hold, and the passwords within those that are addresses."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            secret = value.get_secret_value()
            yield secret
            with suppress(ValueError):
                yield urlsplit(secret).password or ""


def _logs_positions(settings: Settings) -> bool:
    return settings.position_log == "on" and settings.log_level in ("debug", "info")
