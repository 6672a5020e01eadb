"""What a write leaves in the outbox, and how the relay gets it out whatever dies meanwhile."""

from collections import defaultdict

import aio_pika
import pytest

from steelyard.events.bodies import event_id
from steelyard.operations.outbox_ports import (
    DISCREPANCY_FOUND,
    POSITION_CLOSED,
    POSITION_UPDATED,
    OutboxMessage,
)
from steelyard.storage.outbox import PARTITIONS
from steelyard.storage.outbox_reads import PostgresOutbox
from tests.events.feeds import Feeds
from tests.events.service import NAMES, Peer, running, until
from tests.events.worked import BTC, EXECUTIONS, REPORTS, XRP, execution, report
from tests.support.rabbitmq import Broker


async def waiting(feeds: Feeds) -> list[OutboxMessage]:
    """All that waits in the outbox, in order."""
    async with PostgresOutbox(feeds.database).claim() as claim:
        assert await claim.take() == PARTITIONS
        return list(await claim.waiting(limit=1_000))


async def publishing(url: str) -> Feeds:
    return Feeds(url, is_publishing=True)


async def test_without_publishing_nothing_is_put_into_the_outbox(feeds: Feeds) -> None:
    await feeds.send(EXECUTIONS, execution("10:00:00", "BUY", "1", "100", "0", "a"))
    assert await waiting(feeds) == []


async def test_each_version_and_each_closed_trip_is_told_once_in_order(database_url: str) -> None:
    feeds = await publishing(database_url)
    steps = [("BUY", "1"), ("SELL", "3"), ("BUY", "2"), ("BUY", "5")]
    for number, (side, quantity) in enumerate(steps):
        await feeds.send(EXECUTIONS, execution(f"10:00:0{number}", side, quantity, "100", "0", f"o{number}"))
    told = await waiting(feeds)
    assert [(message.topic, message.version) for message in told] == [
        (POSITION_UPDATED, 1),
        (POSITION_UPDATED, 2),
        (POSITION_CLOSED, 2),
        (POSITION_UPDATED, 3),
        (POSITION_CLOSED, 3),
        (POSITION_UPDATED, 4),
    ]
    assert [message.position.quantity for message in told if message.position is not None] == [1, -2, -2, 0, 0, 5]
    assert len({event_id(message.place) for message in told}) == len(told)
    await feeds.close()


async def test_a_batch_tells_all_trips_that_it_closes(database_url: str) -> None:
    feeds = await publishing(database_url)
    bodies = [
        execution(f"10:00:0{number}", "SELL" if number % 2 else "BUY", "1", "100", "0", f"o{number}")
        for number in range(6)
    ]
    assert await feeds.send(EXECUTIONS, *bodies) == ["APPLIED"] * 6
    topics = [message.topic for message in await waiting(feeds)]
    assert topics == [POSITION_UPDATED, *[POSITION_CLOSED] * 3]
    await feeds.close()


async def test_a_late_fill_tells_the_trips_again_that_it_changed_and_no_others(database_url: str) -> None:
    feeds = await publishing(database_url)
    for number, side in enumerate(["BUY", "SELL", "BUY", "SELL", "BUY"]):
        await feeds.send(EXECUTIONS, execution(f"10:0{number}:00", side, "1", "100", "0", f"o{number}"))
    before = len(await waiting(feeds))
    await feeds.send(EXECUTIONS, execution("10:02:30", "BUY", "1", "100", "0", "late"))
    new = (await waiting(feeds))[before:]
    assert [message.topic for message in new] == [POSITION_UPDATED]
    await feeds.send(EXECUTIONS, execution("10:02:40", "SELL", "1", "90", "0", "later"))
    newer = (await waiting(feeds))[before + 1 :]
    assert [message.topic for message in newer] == [POSITION_UPDATED, POSITION_CLOSED]
    assert newer[1].trip is not None
    assert newer[1].trip.sums.gross_average == -10
    await feeds.close()


async def test_a_discrepancy_is_told_once_however_often_it_is_seen(database_url: str) -> None:
    feeds = await publishing(database_url)
    await feeds.send(EXECUTIONS, execution("10:00:00", "BUY", "1", "100", "0", "a"))
    for size in ("2", "3"):
        await feeds.send(REPORTS, report(None, size=size))
    topics = [message.topic for message in await waiting(feeds)]
    assert topics == [POSITION_UPDATED, DISCREPANCY_FOUND]
    await feeds.close()


async def test_a_refused_message_tells_nothing(database_url: str) -> None:
    feeds = await publishing(database_url)
    await feeds.send(REPORTS, report("10:00:00", size="x"))
    await feeds.send(EXECUTIONS, execution("10:00:00", "BUY", "1", "-1", "0", "a"))
    assert await waiting(feeds) == []
    await feeds.close()


async def test_a_partition_has_one_owner_until_he_lets_go(database_url: str) -> None:
    feeds = await publishing(database_url)
    await feeds.send(EXECUTIONS, execution("10:00:00", "BUY", "1", "100", "0", "a"))
    outbox = PostgresOutbox(feeds.database)
    async with outbox.claim() as first:
        assert await first.take() == PARTITIONS
        async with outbox.claim() as second:
            assert await second.take() == 0
            assert await second.waiting(limit=10) == ()
    async with outbox.claim() as third:
        assert await third.take() == PARTITIONS
        (message,) = await third.waiting(limit=10)
        await third.done([message.place])
        assert await third.waiting(limit=10) == ()
    await feeds.close()


@pytest.mark.xdist_group("rabbitmq")
async def test_a_relay_whose_connection_dies_goes_on_and_repeats_keep_their_ids(
    broker: Broker, database_url: str
) -> None:
    feeds = await publishing(database_url)
    async with Peer.connected(broker.url) as peer:
        async with running(database_url, broker.url), running(database_url, broker.url):
            for number in range(120):
                body = execution("10:00:00", "BUY", "1", "100", "0", f"o{number}")
                await feeds.send(EXECUTIONS, body if number % 2 else body.replace(BTC.encode(), XRP.encode()))
                if number % 30 == 20:
                    await feeds.rows(
                        "SELECT pg_terminate_backend(pid) FROM pg_locks "
                        "WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database "
                        "WHERE datname = current_database())"
                    )
            await until(lambda: is_empty(feeds), what="an empty outbox")
        said = await peer.bodies(POSITION_UPDATED)
    seen: dict[str, list[int]] = defaultdict(list)
    ids: dict[tuple[str, int], set[str]] = defaultdict(set)
    for told in said:
        seen[told["asset"]].append(told["version"])
        ids[told["asset"], told["version"]].add(told["event_id"])
    assert {asset: list(dict.fromkeys(versions)) for asset, versions in seen.items()} == {
        asset: list(range(1, 61)) for asset in (BTC, XRP)
    }
    assert all(len(known) == 1 for known in ids.values())
    await feeds.close()


@pytest.mark.xdist_group("rabbitmq")
async def test_what_the_broker_cannot_deliver_waits_until_the_queue_is_there_again(
    broker: Broker, database_url: str
) -> None:
    feeds = await publishing(database_url)
    async with running(database_url, broker.url) as service, Peer.connected(broker.url) as peer:
        await until(lambda: service.status()[-1].is_connected, what="a connection")
        async with await aio_pika.connect(broker.url) as connection:
            channel = await connection.channel()
            await channel.queue_delete(NAMES.published(POSITION_UPDATED))
        await feeds.send(EXECUTIONS, execution("10:00:00", "BUY", "1", "100", "0", "a"))
        await until(lambda: is_empty(feeds), what="an empty outbox")
        (said,) = await peer.bodies(POSITION_UPDATED)
        assert (said["asset"], said["version"]) == (BTC, 1)
    await feeds.close()


async def is_empty(feeds: Feeds) -> bool:
    return await feeds.rows("SELECT 1 FROM outbox LIMIT 1") == []


async def test_of_a_long_queue_the_oldest_messages_come_first(database_url: str) -> None:
    feeds = await publishing(database_url)
    for number in range(5):
        await feeds.send(EXECUTIONS, execution(f"10:00:0{number}", "BUY", "1", "100", "0", f"o{number}"))
    async with PostgresOutbox(feeds.database).claim() as claim:
        await claim.take()
        versions = []
        while messages := await claim.waiting(limit=2):
            versions.append([message.version for message in messages])
            await claim.done([message.place for message in messages])
    assert versions == [[1, 2], [3, 4], [5]]
    await feeds.close()


COPIES = """
INSERT INTO position_events SELECT e.account, e.book, e.instrument, e.leg, v, v, e.cause, e.cause_id, e.change,
    e.fill_ids, e.fill_count, e.state, e.committed_at FROM position_events e, generate_series(2, 2000) v
"""
MESSAGES = """
INSERT INTO outbox SELECT o.account, v, o.ordinal, o.partition, o.topic, o.book, o.instrument, o.leg, v, o.body,
    o.trace_id, o.created_at FROM outbox o, generate_series(1952, 2000) v
"""
EVENTS_READ = """
SELECT (SELECT sum(idx_tup_read) FROM pg_stat_all_indexes WHERE relname LIKE 'position_events%')
     + (SELECT sum(seq_tup_read) FROM pg_stat_all_tables WHERE relname LIKE 'position_events%') AS n
"""


async def test_a_relay_that_began_on_a_small_book_reads_no_more_than_its_messages_later(database_url: str) -> None:
    feeds = await publishing(database_url)
    async with PostgresOutbox(feeds.database).claim() as claim:
        await claim.take()
        await feeds.send(EXECUTIONS, execution("10:00:00", "BUY", "1", "100", "0", "a"))
        for _ in range(10):
            assert len(await claim.waiting(limit=200)) == 1
        await feeds.rows(COPIES)
        await feeds.rows(MESSAGES)
        (before,) = await feeds.rows(EVENTS_READ)
        assert len(await claim.waiting(limit=200)) == 50
        await claim._connection.execute("SELECT pg_stat_force_next_flush()")
        (after,) = await feeds.rows(EVENTS_READ)
    assert 50 <= after["n"] - before["n"] < 2_000
    await feeds.close()
