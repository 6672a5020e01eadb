"""What a consumer does when its handler or its queue fails: try again in place, bury in the end, come back."""

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from threading import Thread

import aio_pika
import pytest
import uvloop

from steelyard.accounting.errors import StoreUnavailable
from steelyard.events.consumer import Consumer
from steelyard.events.handlers import Delivery, Verdict
from steelyard.events.supervision import Supervisor, connected
from steelyard.events.topology import MESSAGE_HEADER, REASON_HEADER
from steelyard.operations.feed_messages import FeedOutcome
from steelyard.telemetry.logs import silent_log
from tests.events.feeds import NOW
from tests.events.service import Peer, until
from tests.events.worked import EXECUTIONS, REPORTS
from tests.support.rabbitmq import Broker

pytestmark = pytest.mark.xdist_group("rabbitmq")


class Notes:
    """A handler that notes what it was given and fails as it is told."""

    def __init__(self, *, batch_max: int = 1) -> None:
        self.batch_max = batch_max
        self.taken: list[bytes] = []
        self.store_failures = 0
        self.bugs: set[bytes] = set()

    async def handle(self, deliveries: Sequence[Delivery]) -> Sequence[Verdict]:
        if self.store_failures:
            self.store_failures -= 1
            raise StoreUnavailable
        if any(delivery.body in self.bugs for delivery in deliveries):
            raise RuntimeError("a bug")
        self.taken.extend(delivery.body for delivery in deliveries)
        return [FeedOutcome.APPLIED for _ in deliveries]


@asynccontextmanager
async def consuming(notes: Notes, url: str, queue: str) -> AsyncIterator[Counter[str]]:
    counts: Counter[str] = Counter()
    consumer = Consumer(
        queue,
        notes,
        url=url,
        is_ours=queue != REPORTS,
        clock=lambda: NOW,
        log=silent_log(),
        counts=counts,
    )
    supervisor = Supervisor(queue, consumer.work, log=silent_log())
    task = asyncio.create_task(supervisor.run())
    try:
        await until(lambda: supervisor.is_connected, what="a connection")
        yield counts
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_while_the_store_is_away_messages_wait_in_order_and_none_is_buried(broker: Broker) -> None:
    notes = Notes()
    notes.store_failures = 3
    bodies = [str(number).encode() for number in range(30)]
    async with Peer.connected(broker.url) as peer, consuming(notes, broker.url, EXECUTIONS) as counts:
        await peer.send(EXECUTIONS, *bodies)
        await until(lambda: len(notes.taken) == 30, what="30 messages")
        assert notes.taken == bodies
        await until(lambda: counts == {"APPLIED": 30}, what="30 outcomes")
    async with Peer.connected(broker.url) as peer:
        assert await peer.received(EXECUTIONS) == []
        assert await peer.dead_letters(EXECUTIONS) == []


async def test_a_message_that_meets_a_bug_is_buried_alone(broker: Broker) -> None:
    notes = Notes(batch_max=10)
    notes.bugs = {b"3"}
    async with Peer.connected(broker.url) as peer:
        async with consuming(Notes(), broker.url, EXECUTIONS):
            pass
        await peer.send(EXECUTIONS, *(str(number).encode() for number in range(5)))
        async with consuming(notes, broker.url, EXECUTIONS) as counts:
            await until(lambda: counts.total() == 5, what="5 outcomes")
        (buried,) = await peer.dead_letters(EXECUTIONS)
    assert (buried.body, buried.headers[REASON_HEADER]) == (b"3", "INTERNAL")
    assert "bug" not in str(buried.headers[MESSAGE_HEADER])
    assert sorted(notes.taken) == [b"0", b"1", b"2", b"4"]


async def test_a_queue_that_was_deleted_is_consumed_again_when_it_is_back(broker: Broker) -> None:
    notes = Notes()
    async with Peer.connected(broker.url) as peer, consuming(notes, broker.url, REPORTS):
        await peer.send(REPORTS, b"before")
        await until(lambda: notes.taken == [b"before"], what="the first message")
        async with await aio_pika.connect(broker.url) as connection:
            channel = await connection.channel()
            await channel.queue_delete(REPORTS)
        await asyncio.sleep(0.3)
        async with Peer.connected(broker.url) as again:
            await again.send(REPORTS, b"after")
            await until(lambda: notes.taken == [b"before", b"after"], what="the second message")


async def test_messages_that_were_not_settled_come_again_to_the_next_consumer(broker: Broker) -> None:
    first, second = Notes(), Notes()
    first.store_failures = 1_000
    async with Peer.connected(broker.url) as peer:
        async with consuming(first, broker.url, EXECUTIONS):
            await peer.send(EXECUTIONS, b"a", b"b")
            await until(lambda: first.store_failures < 1_000, what="a failure")
        async with consuming(second, broker.url, EXECUTIONS):
            await until(lambda: second.taken == [b"a", b"b"], what="both messages")


def test_a_broker_that_hangs_up_while_it_is_greeted_is_one_that_is_away() -> None:
    async def greet(url: str) -> None:
        for _ in range(10):
            with pytest.raises(ConnectionError):
                async with connected(url):
                    pass

    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        Thread(target=_hang_up, args=(server, kept), daemon=True).start()
        # On the loop that the service runs on: there the driver sees the end before it reads.
        runner.run(greet(f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}/"))
    for each in kept:
        each.close()


def _hang_up(server: socket.socket, kept: list[socket.socket]) -> None:
    with contextlib.suppress(OSError):
        while True:
            caller, _ = server.accept()
            caller.shutdown(socket.SHUT_WR)
            kept.append(caller)
