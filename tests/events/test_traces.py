"""A trace goes through the broker: from a message's header to what is published of it, spans and log lines included."""

import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from aio_pika.abc import AbstractIncomingMessage
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from steelyard.operations.outbox_ports import POSITION_UPDATED
from steelyard.telemetry.positions import PositionLog
from steelyard.telemetry.spans import RecordingTracer
from steelyard.telemetry.store import StoreTelemetry
from tests.events.service import NAMES, Peer, handled, running, until
from tests.events.worked import EXECUTIONS, execution
from tests.support.rabbitmq import Broker

TRACE, PARENT = "c" * 32, "d" * 16
TIMES = ("10:00:00", "10:00:01")


@pytest.fixture
async def spans() -> AsyncIterator[tuple[InMemorySpanExporter, StoreTelemetry, io.StringIO]]:
    kept, lines = InMemorySpanExporter(), io.StringIO()
    tracer = RecordingTracer(kept, clock=lambda: datetime.now(UTC), ratio=0)
    yield kept, StoreTelemetry(tracer=tracer, positions=PositionLog(lines)), lines
    tracer.close()


async def test_a_message_is_handled_stored_and_published_in_the_trace_of_its_sender(
    broker: Broker, database_url: str, spans: tuple[InMemorySpanExporter, StoreTelemetry, io.StringIO]
) -> None:
    kept, telemetry, lines = spans
    said = [f"f-o-{time}" for time in TIMES]
    recorded, unrecorded = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
    published: list[AbstractIncomingMessage] = []
    async with (
        Peer.connected(broker.url) as peer,
        running(database_url, broker.url, telemetry=telemetry) as service,
    ):
        await until(lambda: all(part.is_connected for part in service.status()), what="a connection")
        for count, (time, parent) in enumerate(zip(TIMES, (recorded, unrecorded), strict=True), start=1):
            body = execution(time, "BUY", "1", "100", "0", "o")
            await peer.send(EXECUTIONS, body, headers={"traceparent": parent})
            await handled(service, EXECUTIONS, count)

        async def are_published() -> bool:
            published.extend(await peer.received(NAMES.published(POSITION_UPDATED)))
            return len(published) == len(TIMES)

        await until(are_published, what="the events")
    telemetry.tracer.close()
    by_name = {span.name: span for span in kept.get_finished_spans()}
    assert {"events.consume", "sql.write", "sql.statement", "events.publish"} <= set(by_name)
    for span in by_name.values():
        assert span.context is not None
        assert f"{span.context.trace_id:032x}" == TRACE
        assert span.parent is not None
        assert f"{span.parent.span_id:016x}" == PARENT
    assert [message.headers.get("traceparent") for message in published] == [recorded, None]
    assert [json.loads(message.body)["trace_id"] for message in published] == said
    assert [json.loads(line)["trace_id"] for line in lines.getvalue().splitlines()] == said
