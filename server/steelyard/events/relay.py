"""Publishes the outbox: at least once, in version order per position.

One relay owns a partition at a time. A message is published with `mandatory`, awaited until the broker has confirmed
it, and only then forgotten; the next message of the same position waits for that, those of others do not. A crash in
between publishes again with the same event id.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractExchange

from steelyard.accounting.keys import PositionKey
from steelyard.events.bodies import encoded, event_id, message_body, portfolio_body
from steelyard.events.supervision import connected, first_end, loss_of
from steelyard.events.topology import TRACEPARENT, Topology, declare_published
from steelyard.operations.outbox_ports import PORTFOLIO_UPDATED, Outbox, OutboxClaim, OutboxMessage, OutboxPlace
from steelyard.operations.ports import Clock
from steelyard.operations.read_portfolio import PortfolioAnswers
from steelyard.telemetry.logs import Log
from steelyard.telemetry.tracing import Tracer

TRACE_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
ROUND_MAX = 200
"""Messages of one account that are published before they are forgotten together."""
POLL_S = 0.1
TAKE_S = 1.0
"""How often partitions are taken that lost their owner."""
CONFIRM_TIMEOUT_S = 30.0
PORTFOLIO_S = 1.0
"""How often an account's portfolio is told at most."""
PORTFOLIOS_MAX = 100
PUBLISHED = "published"


class Relay:
    """Takes messages out of the outbox and hands them to the broker."""

    def __init__(
        self,
        outbox: Outbox,
        portfolios: PortfolioAnswers,
        *,
        url: str,
        topology: Topology,
        clock: Clock,
        log: Log,
        counts: Counter[str],
        tracer: Tracer | None = None,
    ) -> None:
        self._outbox = outbox
        self._portfolios = portfolios
        self._url = url
        self._topology = topology
        self._clock = clock
        self._log = log
        self._tracer = tracer or Tracer()
        self._counts = counts
        self.last_at: datetime | None = None
        """When a message was confirmed last."""

    async def work(self, is_up: Callable[[], None]) -> None:
        """Publishes until the broker or the store is lost, which raises."""
        async with connected(self._url) as connection:
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            await declare_published(channel, self._topology)
            exchange = await channel.get_exchange(self._topology.exchange, ensure=False)
            lost = loss_of(channel)
            async with self._outbox.claim() as claim:
                is_up()
                await first_end(self._publish(claim, exchange), lost=lost)

    async def _publish(self, claim: OutboxClaim, exchange: AbstractExchange) -> None:
        loop = asyncio.get_running_loop()
        take_at = tell_at = loop.time()
        while True:
            if loop.time() >= take_at:
                await claim.take()
                take_at = loop.time() + TAKE_S
            messages = await claim.waiting(limit=ROUND_MAX)
            if messages:
                await self._round(claim, exchange, messages=messages)
            if loop.time() >= tell_at:
                await self._tell_portfolios(claim, exchange)
                tell_at = loop.time() + PORTFOLIO_S
            if len(messages) < ROUND_MAX:
                # Not at once: a round costs as much for one message as for many, and commits go before it.
                await asyncio.sleep(POLL_S)

    async def _round(
        self, claim: OutboxClaim, exchange: AbstractExchange, *, messages: Sequence[OutboxMessage]
    ) -> None:
        by_key: dict[PositionKey, list[OutboxMessage]] = {}
        for message in messages:
            by_key.setdefault(message.key, []).append(message)
        confirmed: list[OutboxPlace] = []
        results = await asyncio.gather(
            *(self._in_order(exchange, chain, confirmed=confirmed) for chain in by_key.values()),
            return_exceptions=True,
        )
        if confirmed:
            await claim.done(confirmed)
            self._count(len(confirmed))
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _in_order(
        self, exchange: AbstractExchange, chain: Sequence[OutboxMessage], *, confirmed: list[OutboxPlace]
    ) -> None:
        for message in chain:
            body, told_id = encoded(message_body(message, now=self._clock())), event_id(message.place)
            with self._tracer.span("events.publish", message.traceparent, topic=message.topic):
                parent = traceparent_of(message, told_id)
                await _confirmed(exchange, message.topic, body=body, message_id=told_id, traceparent=parent)
            confirmed.append(message.place)

    async def _tell_portfolios(self, claim: OutboxClaim, exchange: AbstractExchange) -> None:
        """Tells what accounts add up to whose log went on, once for however many commits there were."""
        changed = await claim.changed_portfolios(limit=PORTFOLIOS_MAX)
        for account, seq in changed.items():
            portfolio = (await self._portfolios.get(accounts=[account])).value.portfolio
            for part in portfolio.currencies.values():
                body = portfolio_body(part, account=account, seq=seq, now=self._clock())
                await _confirmed(exchange, PORTFOLIO_UPDATED, body=encoded(body), message_id=body["event_id"])
                self._count(1)
            await claim.portfolio_told(account, seq=seq)

    def _count(self, published: int) -> None:
        self._counts[PUBLISHED] += published
        self.last_at = self._clock()


def traceparent_of(message: OutboxMessage, told_id: str) -> str:
    """The header by which a consumer goes on with the trace; one that is not recorded is named all the same."""
    trace_id = message.trace_id or ""
    if message.traceparent or not TRACE_ID.fullmatch(trace_id):
        return message.traceparent
    return f"00-{trace_id}-{told_id.replace('-', '')[:16]}-00"


async def _confirmed(
    exchange: AbstractExchange, topic: str, *, body: bytes, message_id: str, traceparent: str = ""
) -> None:
    message = Message(
        body,
        headers={TRACEPARENT: traceparent} if traceparent else None,
        content_type="application/json",
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=message_id,
        type=topic,
    )
    await exchange.publish(message, topic, mandatory=True, timeout=CONFIRM_TIMEOUT_S)
