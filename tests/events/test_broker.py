"""Through a real broker to a real database and back: the worked table, repeats, poison, an outage, order."""

import asyncio
import random
from collections import defaultdict
from datetime import UTC, datetime

import aio_pika
import pytest

from steelyard.events.service import EventsService
from steelyard.events.topology import MESSAGE_HEADER, REASON_HEADER
from steelyard.operations.outbox_ports import (
    DISCREPANCY_FOUND,
    PORTFOLIO_UPDATED,
    POSITION_CLOSED,
    POSITION_UPDATED,
)
from tests.events.feeds import Feeds, expected, key, shown
from tests.events.service import Peer, handled, running, until
from tests.events.worked import BTC, EXECUTIONS, ORDERS, REPORTS, ROWS, execution, report
from tests.support.rabbitmq import Broker, Door

pytestmark = pytest.mark.xdist_group("rabbitmq")


def all_connected(service: EventsService) -> bool:
    return all(part.is_connected for part in service.status())


async def outbox_is_empty(feeds: Feeds) -> bool:
    return await feeds.rows("SELECT 1 FROM outbox LIMIT 1") == []


async def test_the_worked_table_holds_through_the_broker_and_is_published(
    broker: Broker, database_url: str, feeds: Feeds
) -> None:
    counts: dict[str, int] = defaultdict(int)
    async with Peer.connected(broker.url) as peer, running(database_url, broker.url) as service:
        await until(lambda: all_connected(service), what="a connection")
        for row in ROWS:
            counts[row.queue] += 1
            await peer.send(row.queue, row.body)
            await handled(service, row.queue, counts[row.queue])
            assert (row.number, shown(await feeds.position(key(row.instrument)))) == (row.number, expected(row))
        await until(lambda: outbox_is_empty(feeds), what="an empty outbox")
        (buried,) = await peer.dead_letters(REPORTS)
        assert buried.body == ROWS[16].body
        assert buried.headers[REASON_HEADER] == "INVALID_FIELD"
        assert str(buried.headers[MESSAGE_HEADER]).startswith("data.size: ")
        updates = await peer.bodies(POSITION_UPDATED)
        assert [said["version"] for said in updates if said["asset"] == BTC] == list(range(1, 10))
        assert [said["size"] for said in updates if said["asset"] == BTC][-3:] == ["0", "-0.5", "-1"]
        (closed,) = await peer.bodies(POSITION_CLOSED)
        assert (closed["realized_pnl"], closed["fees"], closed["is_adjusted"]) == ("874.5", "50.5", True)
        (found,) = await peer.bodies(DISCREPANCY_FOUND)
        assert (found["kind"], found["ours"], found["theirs"]) == ("SIZE", "2", "1.8")
        assert service.counts[EXECUTIONS]["REPEATED"] == 2
        assert service.counts[ORDERS]["IGNORED"] == 1


async def test_published_bodies_are_flat_and_say_what_consumers_expect(
    broker: Broker, database_url: str, feeds: Feeds
) -> None:
    async with Peer.connected(broker.url) as peer, running(database_url, broker.url) as service:
        await until(lambda: all_connected(service), what="a connection")
        await peer.send(REPORTS, report("10:00:00", side="Buy", size="1.5", avgPrice="50000", markPrice="50100"))
        await handled(service, REPORTS, 1)
        await until(lambda: outbox_is_empty(feeds), what="an empty outbox")
        (said,) = await peer.bodies(POSITION_UPDATED)
        assert {name: said[name] for name in ("event_type", "asset", "size", "mode", "version", "trace_id")} == {
            "event_type": "position_updated",
            "asset": "BTCUSDT",
            "size": "1.5",
            "mode": "one-way",
            "version": 1,
            "trace_id": "r",
        }
        assert (said["unrealized_pnl"], said["unrealized_pnl_pct"], said["position_size_norm"]) == ("150", "0.2", "1")
        assert (said["time_held_minutes"], said["update_source"]) == (120, "venue_report")
        told: list[object] = []

        async def is_told() -> bool:
            told.extend(await peer.bodies(PORTFOLIO_UPDATED))
            return bool(told)

        await until(is_told, what="a portfolio")
        assert isinstance(told[0], dict)
        assert (told[0]["total_exposure_usdt"], told[0]["total_unrealized_pnl_usdt"]) == ("75150", "150")
        assert (told[0]["open_positions_count"], told[0]["currency"]) == (1, "USDT")


async def test_a_repeat_after_a_restart_is_known_and_the_amqp_timestamp_dates_a_fill(
    broker: Broker, database_url: str, feeds: Feeds
) -> None:
    body = execution(None, "BUY", "1", "100", "1")
    sent_at = datetime(2025, 1, 15, 11, 30, tzinfo=UTC)
    async with Peer.connected(broker.url) as peer:
        for outcome in ("APPLIED", "REPEATED"):
            async with running(database_url, broker.url) as service:
                await until(lambda: all_connected(service), what="a connection")
                await peer.send(EXECUTIONS, body, sent_at=sent_at)
                await handled(service, EXECUTIONS, 1)
                assert dict(service.counts[EXECUTIONS]) == {outcome: 1}
    assert await feeds.rows("SELECT executed_at FROM fills") == [{"executed_at": sent_at}]


async def test_poison_is_buried_with_its_reason_and_the_messages_around_it_are_applied(
    broker: Broker, database_url: str, feeds: Feeds
) -> None:
    poison = {
        b"{": "INVALID_FIELD",
        b"\xff" * 1_000_000: "INVALID_FIELD",
        execution("10:00:00", "BUY", "NaN", "1", "0"): "INVALID_FIELD",
        execution("10:00:00", "BUY", "1", "1", "0", "x").replace(BTC.encode(), b"BTCUSD"): "UNKNOWN_INSTRUMENT",
        execution("10:00:00", "BUY", "99999999999999999999", "9", "0"): "NUMERIC_LIMIT",
    }
    good = [execution(f"10:00:{number:02}", "BUY", "1", "100", "0", f"o{number}") for number in range(20)]
    mixed = [*good, *poison]
    random.Random(1).shuffle(mixed)
    async with Peer.connected(broker.url) as peer, running(database_url, broker.url) as service:
        await until(lambda: all_connected(service), what="a connection")
        await peer.send(EXECUTIONS, *mixed)
        await handled(service, EXECUTIONS, len(mixed))
        buried = await peer.dead_letters(EXECUTIONS)
        assert {message.body: message.headers[REASON_HEADER] for message in buried} == poison
        assert await peer.received(EXECUTIONS) == []
    assert shown(await feeds.position(key(BTC)))[0] == "20"
    assert len(await feeds.rows("SELECT 1 FROM inbox")) == 20


async def test_the_service_starts_while_the_broker_is_away_and_a_queue_that_is_not_ours_is_missing(
    broker: Broker, database_url: str, feeds: Feeds
) -> None:
    door = Door(broker)
    async with running(database_url, door.url) as service:
        await asyncio.sleep(0.3)
        assert not any(part.is_connected for part in service.status())
        async with door.opened():
            ours = {part.name for part in service.status()} - {REPORTS}
            await until(
                lambda: {part.name for part in service.status() if part.is_connected} == ours, what="our own queues"
            )
            async with Peer.connected(broker.url) as peer:
                await peer.send(REPORTS, report("10:00:00", side="Buy", size="1", avgPrice="100"))
                await handled(service, REPORTS, 1)
            await service.stop()
    assert shown(await feeds.position(key(BTC)))[0] == "1"


async def test_a_stopped_broker_loses_nothing_and_every_version_arrives_in_order(
    broker: Broker, database_url: str, feeds: Feeds
) -> None:
    instruments = [f"C{number}USDT" for number in range(8)]
    seen: dict[str, list[int]] = defaultdict(list)
    async with running(database_url, broker.url) as service:
        async with Peer.connected(broker.url):
            await until(lambda: all_connected(service), what="a connection")
        writer = asyncio.create_task(write(feeds, instruments, seconds=4.0))
        await asyncio.sleep(0.7)
        await broker.stop()
        await asyncio.sleep(1.0)
        await broker.start()
        await writer
        await until(lambda: outbox_is_empty(feeds), what="an empty outbox")
        async with Peer.connected(broker.url) as peer:
            for said in await peer.bodies(POSITION_UPDATED):
                seen[said["asset"]].append(said["version"])
    for row in await feeds.rows("SELECT instrument, version FROM positions"):
        arrived = list(dict.fromkeys(seen[row["instrument"]]))
        assert arrived == list(range(1, row["version"] + 1)), row["instrument"]


async def write(feeds: Feeds, instruments: list[str], *, seconds: float) -> None:
    """Fills that do not come through the broker, on a ledger that publishes."""
    publishing = Feeds(feeds.url, is_publishing=True)
    end = asyncio.get_running_loop().time() + seconds
    number = 0
    while asyncio.get_running_loop().time() < end:
        number += 1
        body = execution("10:00:00", "BUY", "1", "100", "0", f"o{number}")
        await publishing.send(EXECUTIONS, body.replace(BTC.encode(), instruments[number % len(instruments)].encode()))
    await publishing.close()


async def test_two_services_share_the_work_and_publish_each_version_in_order(
    broker: Broker, database_url: str, feeds: Feeds
) -> None:
    bodies = [execution(f"10:00:{number:02}", "BUY", "1", "100", "1", f"o{number}") for number in range(60)]
    async with Peer.connected(broker.url) as peer:
        async with running(database_url, broker.url) as first, running(database_url, broker.url) as second:
            await until(lambda: all_connected(first) and all_connected(second), what="two connections")
            await peer.send(EXECUTIONS, *bodies, *bodies)
            await until(
                lambda: first.counts[EXECUTIONS].total() + second.counts[EXECUTIONS].total() >= 120, what="120 messages"
            )
            await until(lambda: outbox_is_empty(feeds), what="an empty outbox")
        versions = [said["version"] for said in await peer.bodies(POSITION_UPDATED)]
    stored = await feeds.position(key(BTC))
    assert shown(stored)[0] == "60"
    assert list(dict.fromkeys(versions)) == list(range(1, stored.version + 1))


async def test_a_queue_that_exists_with_other_arguments_is_used_as_it_is(
    broker: Broker, database_url: str, feeds: Feeds
) -> None:
    async with await aio_pika.connect(broker.url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(EXECUTIONS, durable=True)
        async with Peer.connected(broker.url) as peer, running(database_url, broker.url) as service:
            await peer.send(EXECUTIONS, execution("10:00:00", "BUY", "1", "100", "0", "a"))
            await handled(service, EXECUTIONS, 1)
    assert shown(await feeds.position(key(BTC)))[0] == "1"
