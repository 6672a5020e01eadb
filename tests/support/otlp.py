"""An OTLP collector for the tests: takes spans and metrics over gRPC and keeps them."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """What has arrived so far."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.spans: list[Span] = []
        self.metrics: dict[str, Any] = {}
        self.raw: list[bytes] = []
        """Every message as it came, for whoever looks for what must not be in it."""

    def take_spans(self, request: Any, _context: Any) -> Any:
        self.raw.append(request.SerializeToString())
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()

    def take_metrics(self, request: Any, _context: Any) -> Any:
        self.raw.append(request.SerializeToString())
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                self.metrics |= {metric.name: metric for metric in scope.metrics}
        return metrics_service_pb2.ExportMetricsServiceResponse()

    def of_trace(self, trace_id: str) -> dict[str, Span]:
        """The spans of a trace by name; of several of one name the last."""
        return {span.name: span for span in list(self.spans) if span.trace_id.hex() == trace_id}

    def wait(self, is_so: Callable[["Collector"], bool], *, what: str, timeout_s: float = 40.0) -> None:
        """Waits until enough has arrived."""
        deadline = time.monotonic() + timeout_s
        while not is_so(self):
            assert time.monotonic() < deadline, (
                f"waited {timeout_s} s for {what}; spans: {[s.name for s in self.spans]}"
            )
            time.sleep(0.1)


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port of this machine."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(4))
    traces = trace_service_pb2_grpc.TraceServiceServicer()
    traces.Export = collector.take_spans  # type: ignore[method-assign]
    figures = metrics_service_pb2_grpc.MetricsServiceServicer()
    figures.Export = collector.take_metrics  # type: ignore[method-assign]
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(traces, server)  # type: ignore[no-untyped-call]
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(figures, server)  # type: ignore[no-untyped-call]
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(1).wait()
