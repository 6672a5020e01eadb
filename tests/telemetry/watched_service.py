"""A real `steelyard serve` with its worker, watched by a collector and full of secrets, and what it was asked."""

import contextlib
import json
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from steelyard.v1 import (
    build_pb2,
    build_service_pb2,
    build_service_pb2_grpc,
    common_pb2,
    fill_pb2,
    fill_service_pb2,
    fill_service_pb2_grpc,
)
from tests.app.processes import run, serving
from tests.support.otlp import Collector, collecting
from tests.support.rabbitmq import free_ports

CANARIES = {
    name: f"canary-{name}-0123456789" for name in ("redis", "broker", "tokens", "cache", "pepper", "bearer", "venue")
}
BUILD_LOOKS = 12
"""Of ten seconds each: a worker takes its time to start where the machine is busy."""
EXECUTED_AT = Timestamp(seconds=1_750_428_000)


@dataclass(slots=True)
class WatchedService:
    """The running service, and everything it lets out."""

    address: str
    log: Path
    collector: Collector
    key: str
    metrics_ports: tuple[int, int]
    """Of the service, and of the worker."""
    database_url: str
    traces: dict[str, str] = field(default_factory=dict)
    """The trace id of each call that was made, by what it was."""

    @property
    def secrets(self) -> dict[str, str]:
        """What must appear nowhere."""
        password = urlsplit(self.database_url).password
        assert password, "the database has a password"
        return {**CANARIES, "database": password, "key": self.key, "random part": self.key.split("_", 2)[2]}

    def call(self, what: str, *, is_sampled: bool = True, key: str | None = None) -> list[tuple[str, str]]:
        """Metadata of a call with a trace of its own."""
        trace_id = self.traces[what] = uuid.uuid4().hex
        return [
            ("x-api-key", self.key if key is None else key),
            ("authorization", f"Bearer {CANARIES['bearer']}"),
            ("x-request-id", f"request-{what}"),
            ("traceparent", f"00-{trace_id}-{uuid.uuid4().hex[:16]}-0{int(is_sampled)}"),
        ]

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Lines of the log of one event, of service and worker."""
        told = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in told if line["event"] == event]

    def metrics(self) -> str:
        """What service and worker tell Prometheus."""
        pages = []
        for port in self.metrics_ports:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                pages.append(answer.read().decode())
        return "\n".join(pages)


@contextlib.contextmanager
def watched_service(folder: Path, database_url: str) -> Iterator[WatchedService]:
    """Serves, answers a few calls, and goes on."""
    ports = free_ports(2)
    secrets = {
        "STEELYARD_DATABASE_URL": database_url,
        "STEELYARD_REDIS_URL": f"redis://:{CANARIES['redis']}@127.0.0.1:1/0",
        "STEELYARD_AMQP_URL": f"amqp://desk:{CANARIES['broker']}@127.0.0.1:1/",
        "STEELYARD_PAGE_TOKEN_KEY": CANARIES["tokens"],
        "STEELYARD_CACHE_KEY": CANARIES["cache"],
        "STEELYARD_KEY_PEPPER": CANARIES["pepper"],
        "STEELYARD_VENUE_API_SECRET": CANARIES["venue"],
    }
    with collecting() as collector:
        made = run("keys", "first", timeout_s=60, **secrets)
        assert made.returncode == 0, made.stderr
        watching = {
            "STEELYARD_OTLP_ENDPOINT": collector.endpoint,
            "STEELYARD_TRACE_RATIO": "0",
            "STEELYARD_METRICS_PORT": str(ports[0]),
            "STEELYARD_WORKER_METRICS_PORT": str(ports[1]),
            "STEELYARD_SLOW_QUERY_MS": "1",
        }
        with serving(folder, "--worker", **secrets, **watching) as service:
            watched = WatchedService(
                service.address,
                service.log,
                collector,
                made.stdout.split()[-1],
                (ports[0], ports[1]),
                database_url,
            )
            ask(watched)
            yield watched


def ask(service: WatchedService) -> None:
    """Records fills, asks what is refused, and builds."""
    with grpc.insecure_channel(service.address) as channel:
        fills: Any = fill_service_pb2_grpc.FillServiceStub(cast(Any, channel))
        fills.RecordFill(_record(1), metadata=service.call("fill"), timeout=20)
        fills.RecordFill(_record(2), metadata=service.call("unsampled", is_sampled=False), timeout=20)
        for what, request, key in (
            ("refused", _record(3, quantity="NaN"), None),
            ("foreign", _record(4), "sy_aaaaaaaa_0123456789012345678901234567890123456789012"),
        ):
            with contextlib.suppress(grpc.RpcError):
                fills.RecordFill(request, metadata=service.call(what, key=key), timeout=20)
        builds: Any = build_service_pb2_grpc.BuildServiceStub(cast(Any, channel))
        made = builds.CreateBuild(
            build_service_pb2.CreateBuildRequest(
                request_id=str(uuid.uuid4()),
                scope=build_pb2.BuildScope(everything=build_pb2.EverythingScope()),
                mode=build_pb2.BUILD_MODE_FULL,
            ),
            metadata=service.call("build"),
            timeout=20,
        )
        asked = build_service_pb2.WaitBuildRequest(build_id=made.build.build_id, timeout=Duration(seconds=10))
        build = made.build
        for _ in range(BUILD_LOOKS):
            build = builds.WaitBuild(asked, metadata=service.call("wait", is_sampled=False), timeout=25).build
            if build.state == build_pb2.BUILD_STATE_SUCCEEDED:
                return
        raise AssertionError(f"the build is {build}")


def _record(number: int, quantity: str = "2") -> fill_service_pb2.RecordFillRequest:
    return fill_service_pb2.RecordFillRequest(
        fill=fill_pb2.Fill(
            fill_id=f"f{number}",
            account="desk",
            instrument="MNQ SEP25",
            side=common_pb2.SIDE_BUY,
            quantity=quantity,
            price="21000",
            executed_at=EXECUTED_AT,
        )
    )
