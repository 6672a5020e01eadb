"""The whole of events in this process on a real broker and a real database, and a peer that sends and receives."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from steelyard.events.service import EventsService, EventsSettings
from steelyard.events.topology import Topology, dead_letters_of
from steelyard.operations.read_portfolio import ReadPortfolio
from steelyard.operations.reading import Reading
from steelyard.storage.database import Database
from steelyard.storage.feed_ledger import PostgresFeedLedger
from steelyard.storage.heads import HeadReads
from steelyard.storage.outbox_reads import PostgresOutbox
from steelyard.storage.portfolio_reads import PortfolioReads
from steelyard.telemetry.logs import silent_log
from steelyard.telemetry.store import StoreTelemetry
from tests.events.feeds import NOW
from tests.events.worked import REPORTS

WAIT_S = 20.0
NAMES = Topology()


@asynccontextmanager
async def running(
    database_url: str, amqp_url: str, *, is_publishing: bool = True, telemetry: StoreTelemetry | None = None
) -> AsyncIterator[EventsService]:
    """The service, from start to stop."""
    database = Database(database_url, telemetry=telemetry)
    portfolios = ReadPortfolio(PortfolioReads(database), Reading(HeadReads(database), lambda: NOW), clock=lambda: NOW)
    service = EventsService(
        EventsSettings(amqp_url),
        ledger=PostgresFeedLedger(database, lambda: NOW, is_publishing=is_publishing),
        clock=lambda: NOW,
        jitter=random.random,
        log=silent_log(),
        outbox=PostgresOutbox(database) if is_publishing else None,
        portfolios=portfolios,
        tracer=database.telemetry.tracer,
    )
    service.start()
    try:
        yield service
    finally:
        await service.stop()
        await database.close()


async def until(holds: Callable[[], Awaitable[bool] | bool], *, what: str, timeout_s: float = WAIT_S) -> None:
    """Waits until something holds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    while True:
        answer = holds()
        if answer if isinstance(answer, bool) else await answer:
            return
        assert loop.time() < end, f"{what} did not come about within {timeout_s} s"
        await asyncio.sleep(0.02)


async def handled(service: EventsService, queue: str, count: int) -> None:
    """Waits until so many messages of a queue have been settled."""
    await until(lambda: service.counts[queue].total() >= count, what=f"message {count} of {queue}")


class Peer:
    """Another service on the same broker."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel

    @classmethod
    @asynccontextmanager
    async def connected(cls, url: str) -> AsyncIterator["Peer"]:
        """A peer that has declared the queue that is the gateway's own."""
        async with await aio_pika.connect(url) as connection:
            channel = await connection.channel(on_return_raises=True)
            await channel.declare_queue(REPORTS, durable=True)
            yield cls(channel)

    async def send(
        self, queue: str, *bodies: bytes, sent_at: datetime | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """Puts messages into a queue, in order."""
        for body in bodies:
            persistent = aio_pika.DeliveryMode.PERSISTENT
            message = aio_pika.Message(body, headers={**(headers or {})}, timestamp=sent_at, delivery_mode=persistent)
            await self._channel.default_exchange.publish(message, queue)

    async def received(self, queue: str) -> list[AbstractIncomingMessage]:
        """Takes all messages that lie in a queue."""
        there = await self._channel.get_queue(queue, ensure=False)
        found = []
        while (message := await there.get(fail=False, no_ack=True)) is not None:
            found.append(message)
        return found

    async def bodies(self, topic: str) -> Sequence[Mapping[str, Any]]:
        """Takes all bodies that were published to a topic."""
        return [json.loads(message.body) for message in await self.received(NAMES.published(topic))]

    async def dead_letters(self, queue: str) -> list[AbstractIncomingMessage]:
        """Takes the refused messages of a queue."""
        return await self.received(dead_letters_of(queue))
