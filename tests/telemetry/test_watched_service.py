"""What a running service lets out: spans, metrics, log lines, audit; and that no secret is in any of it."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.support.postgres import TestServer
from tests.support.prometheus import scraping
from tests.telemetry.watched_service import WatchedService, watched_service

pytestmark = pytest.mark.slow
RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"


@pytest.fixture(scope="module")
def service(postgres_server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedService]:
    url = postgres_server.create_database()
    with watched_service(tmp_path_factory.mktemp("watched"), url) as watched:
        yield watched


def test_a_sampled_call_is_traced_down_to_its_statements(service: WatchedService) -> None:
    trace_id = service.traces["fill"]
    service.collector.wait(
        lambda seen: (
            {"steelyard.v1.FillService/RecordFill", "sql.write", "sql.statement"} <= set(seen.of_trace(trace_id))
        ),
        what="the spans of a fill",
    )
    spans = service.collector.of_trace(trace_id)
    call = spans["steelyard.v1.FillService/RecordFill"]
    told = {pair.key: pair.value.string_value for pair in call.attributes}
    assert told["rpc.grpc.status_code"] == "OK"
    assert told["steelyard.request_id"] == "request-fill"
    assert spans["sql.write"].parent_span_id == spans["sql.statement"].parent_span_id == call.span_id


def test_who_does_not_record_his_trace_gets_no_spans(service: WatchedService) -> None:
    service.collector.wait(lambda seen: bool(seen.of_trace(service.traces["fill"])), what="spans of others")
    assert not service.collector.of_trace(service.traces["unsampled"])
    # Its lines are in the log under its trace all the same.
    assert [
        line["version"] for line in service.lines("position") if line["trace_id"] == service.traces["unsampled"]
    ] == [2]


def test_the_trace_of_a_build_goes_on_in_the_worker(service: WatchedService) -> None:
    trace_id = service.traces["build"]
    service.collector.wait(
        lambda seen: {"steelyard.v1.BuildService/CreateBuild", "build.chunk"} <= set(seen.of_trace(trace_id)),
        what="the span of the chunk",
    )
    spans = service.collector.of_trace(trace_id)
    assert spans["build.chunk"].parent_span_id == spans["steelyard.v1.BuildService/CreateBuild"].span_id


def test_metrics_reach_the_collector_with_their_units(service: WatchedService) -> None:
    service.collector.wait(lambda seen: "steelyard_rpc_seconds" in seen.metrics, what="metrics")
    service.collector.wait(lambda seen: "steelyard_chunk_seconds" in seen.metrics, what="metrics of the worker")
    assert service.collector.metrics["steelyard_rpc_seconds"].unit == "s"
    points = service.collector.metrics["steelyard_rpc_seconds"].histogram.data_points
    assert sum(point.count for point in points) >= 4


def test_a_real_prometheus_scrapes_service_and_worker_and_takes_the_rules(
    service: WatchedService, tmp_path: Path
) -> None:
    with scraping(tmp_path, ports=service.metrics_ports, rules=RULES) as prometheus:
        ok = 'steelyard_rpc_seconds_count{method="/steelyard.v1.FillService/RecordFill",code="OK"}'
        assert prometheus.wait(ok) == 2
        assert prometheus.wait('steelyard_positions_changed_total{cause="fill"}') == 2
        assert prometheus.wait('steelyard_fills_applied_total{cause="fill"}') == 2
        assert prometheus.wait("max(steelyard_workers)") >= 1
        assert prometheus.wait('max(steelyard_builds{trigger="MANUAL",state="SUCCEEDED"})') == 1
        assert prometheus.wait('steelyard_chunk_seconds_count{outcome="done"}') == 1
        assert prometheus.wait("sum(steelyard_key_used_total)") >= 3
        assert prometheus.wait('steelyard_denied_total{reason="API_KEY_INVALID"}') == 1
        assert prometheus.wait("max(steelyard_event_lag_seconds)") > 0
        assert prometheus.wait('steelyard_events_connected{part="relay"}') == 0
        assert prometheus.wait("max(steelyard_loop_lag_seconds_count)") > 0
        assert prometheus.wait('sum(up{job="steelyard"})') == 2
        groups = prometheus.ask("/api/v1/rules")["groups"]
        assert {group["name"] for group in groups} == {"steelyard-builds", "steelyard-book", "steelyard-service"}
        assert all(rule["health"] != "err" for group in groups for rule in group["rules"])


def test_every_call_that_may_write_leaves_a_line_of_the_audit(service: WatchedService) -> None:
    told = {line["request_id"]: line for line in service.lines("write") if line["stream"] == "audit"}
    fill = told["request-fill"]
    assert (fill["method"], fill["outcome"], fill["accounts"]) == (
        "/steelyard.v1.FillService/RecordFill",
        "OK",
        ["desk"],
    )
    assert fill["key_id"] == service.key.split("_")[1]
    assert (told["request-refused"]["outcome"], told["request-refused"]["reason"]) == (
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
    )
    assert (told["request-foreign"]["outcome"], told["request-foreign"]["key_id"]) == ("UNAUTHENTICATED", None)
    assert told["request-build"]["outcome"] == "OK"
    assert "request-look" not in told


def test_no_secret_is_in_any_line_span_metric_or_event(service: WatchedService) -> None:
    service.collector.wait(lambda seen: "steelyard_rpc_seconds" in seen.metrics and bool(seen.spans), what="telemetry")
    events = asyncio.run(_kept(service.database_url))
    assert events, "there is something to look at"
    let_out = {
        "log": service.log.read_text(),
        "said": (service.log.parent / "serve.out").read_text(),
        "spans and metrics": "\n".join(raw.decode("latin-1") for raw in service.collector.raw),
        "prometheus": service.metrics(),
        "events": events,
    }
    found = [
        (place, name) for place, text in let_out.items() for name, secret in service.secrets.items() if secret in text
    ]
    assert found == []
    assert "slow_query" in let_out["log"]
    assert "events_part_lost" in let_out["log"]


async def _kept(url: str) -> str:
    """Everything that is told of commits, as it waits to be published, and what jobs carried."""
    connection = await asyncpg.connect(url)
    try:
        rows = [dict(row) for row in await connection.fetch("SELECT * FROM outbox")]
        rows += [dict(row) for row in await connection.fetch("SELECT * FROM position_events")]
        rows += [dict(row) for row in await connection.fetch("SELECT * FROM requests")]
    finally:
        await connection.close()
    return json.dumps(rows, default=str) if rows else ""
