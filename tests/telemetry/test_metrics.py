"""The table of metrics, and how its figures leave the process."""

import re
import urllib.request
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource

from steelyard.telemetry import metrics
from steelyard.telemetry.metrics import METRICS, Kind, Meters
from steelyard.telemetry.otlp import metrics_data
from steelyard.telemetry.process import MetricsEndpoint

UNIT = re.compile(r"s|By|1|\{[a-z]+\}")


def test_every_metric_is_declared_once_with_its_unit() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"steelyard_[a-z_]+", metric.name), metric
        assert UNIT.fullmatch(metric.unit), metric
        assert metric.says.endswith("."), metric
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER), metric
        assert (metric.unit == "s") == metric.name.endswith("_seconds"), metric
        assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM), metric
        assert list(metric.buckets) == sorted(metric.buckets), metric


def test_a_metric_is_read_over_http_with_its_unit() -> None:
    meters = Meters()
    meters.counter(metrics.CONFLICTS, "fill", "retried").inc(3)
    endpoint = MetricsEndpoint(meters, host="127.0.0.1", port=0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}/metrics", timeout=10) as answer:
            page = answer.read().decode()
    finally:
        endpoint.close()
    assert 'steelyard_conflicts_total{cause="fill",resolution="retried"} 3.0' in page
    assert "# HELP steelyard_conflicts_total Writes that met a newer version. Unit: {write}." in page
    assert "_created" not in page


def test_counts_that_parts_keep_are_asked_for_and_add_up() -> None:
    meters = Meters()
    meters.ask(metrics.CACHE_ANSWERS, lambda: [(("portfolio", "from_cache"), 2)])
    meters.ask(metrics.CACHE_ANSWERS, lambda: [(("portfolio", "from_cache"), 3), (("portfolio", "joined"), 1)])
    labels = {"kind": "portfolio", "found": "from_cache"}
    assert meters.registry.get_sample_value("steelyard_cache_answers_total", labels) == 5


def test_the_same_figures_go_to_otlp() -> None:
    meters = Meters()
    meters.counter(metrics.RETRIES, "1").inc(2)
    meters.gauge(metrics.EVENT_LAG).set(1.5)
    for seconds in (0.0004, 0.002, 99.0):
        meters.histogram(metrics.RPC_SECONDS, "/a/B", "OK").observe(seconds)
    (resource,) = metrics_data(meters, Resource({}), span_ns=(1, 2)).resource_metrics
    told: dict[str, Any] = {metric.name: metric for metric in resource.scope_metrics[0].metrics}
    assert [(p.attributes, p.value) for p in told["steelyard_retries_total"].data.data_points] == [
        ({"tries": "1"}, 2.0)
    ]
    assert [p.value for p in told["steelyard_event_lag_seconds"].data.data_points] == [1.5]
    assert told["steelyard_event_lag_seconds"].unit == "s"
    (point,) = told["steelyard_rpc_seconds"].data.data_points
    assert point.count == 3
    assert point.sum == pytest.approx(99.0024)
    assert point.bucket_counts == [1, 0, 1, *[0] * (len(metrics.FAST_S) - 3), 1]
