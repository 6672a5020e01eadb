"""The queues and exchanges: whose they are, and how ours are declared.

Ours are quorum queues with a delivery limit and a dead-letter exchange. What is published goes to a topic exchange to
which one queue per topic is bound, so others may bind queues of their own. A refused message goes to the dead letters
of its queue, with its reason in a header.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractQueue
from aiormq.exceptions import ChannelPreconditionFailed

from steelyard.operations.outbox_ports import TOPICS

TRACEPARENT = "traceparent"
"""The header of the W3C trace context."""
DEAD_LETTERS = "steelyard.dead-letters"
DELIVERY_LIMIT = 20
"""Deliveries of one message before the broker sends it to the dead letters by itself."""
QUEUE_LENGTH_MAX = 1_000_000
"""Messages in a published queue before the broker takes no more; they wait in the outbox then."""
REASON_HEADER = "x-steelyard-reason"
MESSAGE_HEADER = "x-steelyard-message"
QUEUE_HEADER = "x-steelyard-queue"


@dataclass(frozen=True, slots=True)
class Topology:
    """Names of queues and exchanges."""

    reports: str = "ws-gateway.position"
    executions: str = "order-manager.order_executed"
    orders: str = "order-manager.order_events"
    exchange: str = "position-manager"

    @property
    def consumed(self) -> tuple[str, ...]:
        """The queues that are consumed."""
        return (self.reports, self.executions, self.orders)

    @property
    def queues(self) -> tuple[str, ...]:
        """All queues that there may be."""
        published = tuple(self.published(topic) for topic in TOPICS)
        return (*self.consumed, *(dead_letters_of(name) for name in (*self.consumed, *published)), *published)

    def published(self, topic: str) -> str:
        """The queue of a topic."""
        return f"{self.exchange}.{topic}"


def dead_letters_of(queue: str) -> str:
    """The queue that keeps the refused messages of a queue."""
    return f"{queue}.dead-letters"


def _limited(queue: str) -> dict[str, Any]:
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": DEAD_LETTERS,
        "x-dead-letter-routing-key": queue,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


async def declare_dead_letters(channel: AbstractChannel, queue: str) -> None:
    """Declares where the refused messages of a queue go."""
    exchange = await channel.declare_exchange(DEAD_LETTERS, ExchangeType.DIRECT, durable=True)
    kept = await channel.declare_queue(dead_letters_of(queue), durable=True, arguments={"x-queue-type": "quorum"})
    await kept.bind(exchange, routing_key=queue)


async def declare_theirs(channel: AbstractChannel, queue: str) -> AbstractQueue:
    """A queue that others own: it must be there, its arguments are theirs."""
    return await channel.declare_queue(queue, passive=True)


async def declare_ours(channel: AbstractChannel, queue: str) -> AbstractQueue:
    """A queue of ours. Raises `ChannelPreconditionFailed`, and the channel is lost, where it is there otherwise."""
    return await channel.declare_queue(queue, durable=True, arguments=_limited(queue))


async def declare_published(channel: AbstractChannel, topology: Topology) -> None:
    """Declares the exchange that is published to, and one queue per topic."""
    exchange = await channel.declare_exchange(topology.exchange, ExchangeType.TOPIC, durable=True)
    for topic in TOPICS:
        name = topology.published(topic)
        await declare_dead_letters(channel, name)
        arguments = _limited(name) | {"x-max-length": QUEUE_LENGTH_MAX}
        queue = await channel.declare_queue(name, durable=True, arguments=arguments)
        await queue.bind(exchange, routing_key=topic)


__all__ = [
    "DEAD_LETTERS",
    "MESSAGE_HEADER",
    "QUEUE_HEADER",
    "REASON_HEADER",
    "ChannelPreconditionFailed",
    "Topology",
    "dead_letters_of",
    "declare_dead_letters",
    "declare_ours",
    "declare_published",
    "declare_theirs",
]
