"""Consumes one queue: hands messages over in order, acknowledges after the commit, buries what is refused.

What may go away by itself (the store is away, another writer was faster) is tried again in place, with growing waits,
so nothing overtakes it and the broker's delivery limit is left for messages that kill their consumer.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue

from steelyard.accounting.errors import InvariantBroken, SteelyardError
from steelyard.events.handlers import Delivery, Handler, Verdict
from steelyard.events.supervision import connected, first_end, loss_of
from steelyard.events.topology import (
    DEAD_LETTERS,
    MESSAGE_HEADER,
    QUEUE_HEADER,
    REASON_HEADER,
    TRACEPARENT,
    ChannelPreconditionFailed,
    declare_dead_letters,
    declare_ours,
    declare_theirs,
)
from steelyard.operations.ports import Clock
from steelyard.telemetry.logs import Log
from steelyard.telemetry.tracing import Tracer, is_sampled

PREFETCH = 400
"""Messages that the broker hands over before the first is acknowledged."""
WATCH_S = 5.0
ANSWER_S = 15.0
"""How long the broker may take to say how a queue is: a starved machine is no reason to hand all messages back."""
CONFIRM_TIMEOUT_S = 30.0
RETRY_FIRST_S = 0.2
RETRY_LONGEST_S = 5.0
BUG_ATTEMPTS = 3
REASON_MAX = 500


class Consumer:
    """One queue and what is done with it."""

    def __init__(
        self,
        queue: str,
        handler: Handler,
        *,
        url: str,
        is_ours: bool,
        clock: Clock,
        log: Log,
        counts: Counter[str],
        tracer: Tracer | None = None,
    ) -> None:
        """`counts` counts outcomes and reasons of refusals."""
        self.queue = queue
        self.waiting: int | None = None
        """Messages in the queue when it was last looked at; None: never."""
        self.last_at: datetime | None = None
        """When a message was settled last."""
        self.retried = 0
        """How often messages had to be tried again."""
        self._handler = handler
        self._url = url
        self._is_ours = is_ours
        self._clock = clock
        self._log = log
        self._tracer = tracer or Tracer()
        self._counts = counts

    async def work(self, is_up: Callable[[], None]) -> None:
        """Consumes until the connection is lost, which raises."""
        async with connected(self._url) as connection:
            channel = await connection.channel()
            letters = await connection.channel(on_return_raises=True)
            await channel.set_qos(prefetch_count=PREFETCH)
            await declare_dead_letters(letters, self.queue)
            queue = await self._declared(connection, channel)
            arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
            lost = loss_of(channel, letters)
            (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(_loses(lost))
            await queue.consume(arrived.put)
            is_up()
            await first_end(self._consume(arrived, letters), self._watch(letters), lost=lost)

    async def _declared(self, connection: AbstractConnection, channel: AbstractChannel) -> AbstractQueue:
        if self._is_ours:
            trial = await connection.channel()
            try:
                await declare_ours(trial, self.queue)
                await trial.close()
            except ChannelPreconditionFailed:
                self._log.warning("queue_has_other_arguments", queue=self.queue)
        return await declare_theirs(channel, self.queue)

    async def _watch(self, channel: AbstractChannel) -> None:
        """Looks whether the broker still knows us as a consumer; raises where it does not."""
        while True:
            # Not `wait_for`: before Python 3.12 it swallows a cancellation that meets the answer, and this never ends.
            async with asyncio.timeout(ANSWER_S):
                seen = (await declare_theirs(channel, self.queue)).declaration_result
            self.waiting = seen.message_count
            if not seen.consumer_count:
                raise ConnectionError("the broker has forgotten this consumer")
            await asyncio.sleep(WATCH_S)

    async def _consume(self, arrived: asyncio.Queue[AbstractIncomingMessage], letters: AbstractChannel) -> None:
        while True:
            batch = [await arrived.get()]
            while len(batch) < self._handler.batch_max and not arrived.empty():
                batch.append(arrived.get_nowait())
            now = self._clock()
            verdicts = await self._handled(
                [Delivery(item.body, now, _sent_at(item), _traceparent(item)) for item in batch]
            )
            for message, verdict in zip(batch, verdicts, strict=True):
                if isinstance(verdict, SteelyardError):
                    await self._bury(message, verdict, letters=letters)
                    self._counts[verdict.reason] += 1
                else:
                    self._counts[verdict.value] += 1
            # The newest stands for all before it: they came in this order, and nothing older is left open.
            await batch[-1].ack(multiple=True)
            self.last_at = self._clock()

    async def _handled(self, deliveries: Sequence[Delivery]) -> Sequence[Verdict]:
        parent = next((each.traceparent for each in deliveries if each.traceparent), "")
        with self._tracer.span("events.consume", parent, queue=self.queue, messages=len(deliveries)):
            return await self._until_handled(deliveries)

    async def _until_handled(self, deliveries: Sequence[Delivery]) -> Sequence[Verdict]:
        wait, bugs = RETRY_FIRST_S, 0
        while True:
            try:
                return await self._handler.handle(deliveries)
            except SteelyardError as error:
                self._log.warning("message_retried", queue=self.queue, reason=error.reason)
            except Exception:  # noqa: BLE001 - a bug of ours: told, tried again, and at last buried with its reason
                self._log.error("message_failed", queue=self.queue, exc_info=True)
                bugs += 1
                if bugs == BUG_ATTEMPTS:
                    return await self._apart(deliveries)
            self.retried += 1
            await asyncio.sleep(wait)
            wait = min(wait * 2, RETRY_LONGEST_S)

    async def _apart(self, deliveries: Sequence[Delivery]) -> Sequence[Verdict]:
        """Messages of a batch that fails again and again, each by itself."""
        if len(deliveries) == 1:
            return [InvariantBroken("the service could not handle this message")]
        return [verdict for delivery in deliveries for verdict in await self._until_handled([delivery])]

    async def _bury(self, message: AbstractIncomingMessage, why: SteelyardError, *, letters: AbstractChannel) -> None:
        """Puts a refused message with its reason among the dead letters, confirmed."""
        self._log.warning("message_refused", queue=self.queue, reason=why.reason, text=why.message[:REASON_MAX])
        headers = dict(message.headers) | {
            REASON_HEADER: why.reason,
            MESSAGE_HEADER: why.message[:REASON_MAX],
            QUEUE_HEADER: self.queue,
        }
        copy = Message(
            message.body,
            headers=headers,
            content_type=message.content_type,
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=message.message_id,
            correlation_id=message.correlation_id,
            timestamp=message.timestamp,
        )
        exchange = await letters.get_exchange(DEAD_LETTERS, ensure=False)
        await exchange.publish(copy, self.queue, timeout=CONFIRM_TIMEOUT_S)


def _loses(lost: asyncio.Future[None]) -> Callable[[object], None]:
    """What to do when the broker cancels a consumer, as it does when the queue is deleted."""

    def cancelled(_: object) -> None:
        if not lost.done():
            lost.set_exception(ConnectionError("the broker has cancelled this consumer"))

    return cancelled


def _traceparent(message: AbstractIncomingMessage) -> str:
    told = message.headers.get(TRACEPARENT)
    text = told.decode("ascii", "replace") if isinstance(told, bytes) else told
    return text if isinstance(text, str) and is_sampled(text) else ""


def _sent_at(message: AbstractIncomingMessage) -> datetime | None:
    at = message.timestamp
    if at is None:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
