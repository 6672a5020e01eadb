"""B13: an event published to the broker until a question about its position sees it, beside other events.

Order events and reports of a venue, one after another, each waited for with GetPosition; meanwhile other order events
come at a steady pace. The reference is the broker alone: a message published the same way until a bare consumer in this
process has it.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import DeliveryError

from steelyard.client import NotFound, PositionView, Steelyard
from steelyard.events.topology import Topology
from tests.bench.echo import calls_of
from tests.bench.harness import BenchUnavailable, Line, Run, Target, Terms, say, stage
from tests.bench.service import serving
from tests.bench.store import durable_postgres, new_database
from tests.support.rabbitmq import BrokerMissing, PrivateNode

EVENTS = 300
"""Events of each kind in one run; its figures are their 99th percentiles."""
OTHERS_PER_S = 100
"""Order events of other positions that come meanwhile."""
OTHERS = 50
"""Instruments of those."""
PAUSE_S = 0.005
"""Between two questions that did not see the event yet: a hundredth of the bound, so that asking is not the load."""
VISIBLE_S = 20.0
SOON = Target("p99 ≤ 500 ms", product_max=500.0)
NAMES = Topology()
ECHO = "bench.echo"


async def event_speed(terms: Terms, _wanted: frozenset[str]) -> list[Line]:
    """B13 of order events, B13b of reports of a venue."""
    count = terms.sized(EVENTS, at_least=20)
    orders, reports = [], []
    async with _surroundings() as (channel, client):
        desk = Desk(channel, client)
        await desk.begin()
        noise = asyncio.create_task(desk.publish_others())
        try:
            for number in range(terms.runs):
                alone, order, report = await desk.run(count)
                told = f"orders {order:.1f} ms, reports {report:.1f} ms, broker alone {alone:.1f} ms"
                say(f"B13: run {number + 1}: {told}")
                orders.append(Run(order, alone))
                reports.append(Run(report, alone))
            if noise.done():
                noise.result()
        finally:
            noise.cancel()
            with suppress(asyncio.CancelledError):
                await noise
    work = f"until GetPosition sees it, p99 of {count}, beside {OTHERS_PER_S} others/s"
    told, note = "the broker alone, to a bare consumer", f"{desk.others:,} other events meanwhile"
    return [
        Line("B13", f"an order event published {work}", told, "ms", SOON, orders, terms.scale, note),
        Line("B13b", f"a venue's report published {work}", told, "ms", SOON, reports, terms.scale, note),
    ]


@asynccontextmanager
async def _surroundings() -> AsyncIterator[tuple[AbstractChannel, Steelyard]]:
    """A broker, a database that flushes to disk, the service as a process, and a channel that publishes."""
    with tempfile.TemporaryDirectory(prefix="steelyard-bench-rabbit-") as folder:
        try:
            node = PrivateNode(Path(folder))
            with stage("B13: starting a broker"):
                await asyncio.to_thread(node.start)
        except BrokerMissing as error:
            raise BenchUnavailable(str(error)) from None
        try:
            async with durable_postgres() as postgres:
                url = await new_database(postgres, "events")
                async with await aio_pika.connect(node.url) as connection:
                    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
                    await channel.declare_queue(NAMES.reports, durable=True)
                    async with serving(url, variables={"STEELYARD_AMQP_URL": node.url}) as client:
                        yield channel, client
        finally:
            await asyncio.to_thread(node.close)


class Desk:
    """Publishes events and asks for what they lead to."""

    def __init__(self, channel: AbstractChannel, client: Steelyard) -> None:
        self._channel = channel
        self._client = client
        self._number = 0
        self.others = 0
        """Events that were published beside those that are waited for."""

    async def begin(self) -> None:
        """Waits until the service follows its queues and has seen an event of each kind."""
        with stage("B13: until the service follows its queues"):
            await _until(self._is_declared)
            await self.run(1)

    async def _is_declared(self) -> bool:
        try:
            await self._order("FIRSTUSDT")
        except DeliveryError:
            return False
        return True

    async def run(self, count: int) -> tuple[float, float, float]:
        """99th percentiles in ms: the broker alone, order events, reports."""
        alone = await self._broker_alone(count)
        orders = [await self._visible("ORDERUSDT", self._order) for _ in range(count)]
        reports = [await self._visible("MARKETUSDT", self._report) for _ in range(count)]
        return p99_ms(alone), p99_ms(orders), p99_ms(reports)

    async def publish_others(self) -> None:
        """Order events of other positions at a steady pace."""
        loop = asyncio.get_running_loop()
        at = loop.time()
        while True:
            self.others += 1
            await self._order(f"O{self.others % OTHERS}USDT")
            at += 1 / OTHERS_PER_S
            await asyncio.sleep(max(0.0, at - loop.time()))

    async def _visible(self, instrument: str, publish: Callable[[str], Awaitable[None]]) -> float:
        """Seconds from before an event is published until a question sees one more than before."""
        before = await self._held(instrument)

        async def is_seen() -> bool:
            return await self._held(instrument) > before

        started = time.perf_counter()
        await publish(instrument)
        await _until(is_seen)
        return time.perf_counter() - started

    async def _held(self, instrument: str) -> Decimal:
        try:
            return (await self._client.get_position("main", instrument, view=PositionView.BASIC)).quantity
        except NotFound:
            return Decimal(0)

    async def _order(self, instrument: str) -> None:
        """Publishes an order event: one more is bought."""
        self._number += 1
        said = {
            "event_type": "order_executed",
            "order_id": f"order-{self._number}",
            "asset": instrument,
            "side": "BUY",
            "execution_price": "100",
            "execution_quantity": "1",
            "execution_fees": "0.01",
            "executed_at": _now(),
            "trace_id": f"trace-{self._number}",
        }
        await self._publish(NAMES.executions, said)

    async def _report(self, instrument: str) -> None:
        """Publishes a report: as much is held as reports have been made."""
        self._number += 1
        said = {"symbol": instrument, "side": "Buy", "size": f"{self._number}", "avgPrice": "100", "timestamp": _now()}
        await self._publish(NAMES.reports, {"event_type": "position", "channel": "position", "data": said})

    async def _publish(self, queue: str, said: object) -> None:
        message = aio_pika.Message(json.dumps(said).encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await self._channel.default_exchange.publish(message, queue)

    async def _broker_alone(self, count: int) -> list[float]:
        """Seconds of messages through the broker to a bare consumer of the same kind of queue."""
        queue = await self._channel.declare_queue(ECHO, durable=True, arguments={"x-queue-type": "quorum"})
        arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        tag = await queue.consume(arrived.put)
        took = []
        for number in range(count):
            started = time.perf_counter()
            await self._publish(ECHO, {"number": number})
            await (await arrived.get()).ack()
            took.append(time.perf_counter() - started)
        await queue.cancel(tag)
        return took


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(VISIBLE_S):
        while True:
            if await holds():
                return
            await asyncio.sleep(PAUSE_S)


def p99_ms(took_s: list[float]) -> float:
    """The 99th percentile of times in seconds, in ms."""
    return calls_of(took_s, lasting_s=sum(took_s)).p99_ms


def _now() -> str:
    return datetime.now(UTC).isoformat()
