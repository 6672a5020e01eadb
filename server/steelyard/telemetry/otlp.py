"""Hands metrics to an OTLP collector: the figures of the Prometheus registry in OpenTelemetry's form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    MetricExporter,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as OtlpMetric
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import Metric as Family

from steelyard.telemetry.metrics import METRICS, Kind, Meters, Metric
from steelyard.telemetry.tracing import Clock, nanoseconds

_CUMULATIVE = AggregationTemporality.CUMULATIVE
_UNKNOWN = cast(float, None)
"""The smallest and largest value are optional in OTLP, and not kept here."""
Labels = tuple[tuple[str, str], ...]


class OtlpMetrics:
    """Sends all metrics of a process to a collector whenever it is told to."""

    def __init__(self, meters: Meters, exporter: MetricExporter, *, service: str, clock: Clock) -> None:
        self._meters = meters
        self._exporter = exporter
        self._resource = Resource.create({"service.name": service})
        self._clock = clock
        self._began_ns = nanoseconds(clock())

    def send(self) -> None:
        """Sends the figures as they are now; a collector that is away misses them. Blocks."""
        span_ns = (self._began_ns, nanoseconds(self._clock()))
        self._exporter.export(metrics_data(self._meters, self._resource, span_ns=span_ns))

    def close(self) -> None:
        """Sends the last figures, and ends. Blocks."""
        self.send()
        self._exporter.shutdown()


def metrics_data(meters: Meters, resource: Resource, *, span_ns: tuple[int, int]) -> MetricsData:
    """All that was measured from one time to another, with the units of the table."""
    families = {family.name: family for family in meters.registry.collect()}
    metrics = [
        OtlpMetric(metric.name, metric.says, metric.unit, told)
        for metric in METRICS
        if (family := families.get(metric.name.removesuffix("_total"))) is not None
        and (told := _told(metric, family, span_ns=span_ns)).data_points
    ]
    scope = ScopeMetrics(InstrumentationScope("steelyard"), metrics, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _told(metric: Metric, family: Family, *, span_ns: tuple[int, int]) -> Sum | Gauge | Histogram:
    if metric.kind is Kind.HISTOGRAM:
        return Histogram(list(_histograms(metric, family, span_ns=span_ns)), _CUMULATIVE)
    points = [
        NumberDataPoint(dict(sample.labels), span_ns[0], span_ns[1], sample.value)
        for sample in family.samples
        if sample.name == metric.name
    ]
    return Gauge(points) if metric.kind is Kind.GAUGE else Sum(points, _CUMULATIVE, is_monotonic=True)


def _histograms(metric: Metric, family: Family, *, span_ns: tuple[int, int]) -> Iterator[HistogramDataPoint]:
    counts: dict[Labels, list[float]] = {}
    sums: dict[Labels, float] = {}
    for sample in family.samples:
        labels = tuple((name, value) for name, value in sample.labels.items() if name != "le")
        if sample.name.endswith("_bucket"):
            counts.setdefault(labels, []).append(sample.value)
        elif sample.name.endswith("_sum"):
            sums[labels] = sample.value
    for labels, cumulative in counts.items():
        yield HistogramDataPoint(
            attributes=dict(labels),
            start_time_unix_nano=span_ns[0],
            time_unix_nano=span_ns[1],
            count=int(cumulative[-1]),
            sum=sums[labels],
            bucket_counts=_steps(cumulative),
            explicit_bounds=list(metric.buckets),
            min=_UNKNOWN,
            max=_UNKNOWN,
        )


def _steps(cumulative: Iterable[float]) -> list[int]:
    before, steps = 0.0, []
    for value in cumulative:
        steps.append(int(value - before))
        before = value
    return steps
