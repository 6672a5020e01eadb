"""`steelyard serve` as a process beside a real broker: what it is told, what it tells, and what an outage costs."""

import asyncio
import json
import signal
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiormq
import pytest
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import DeliveryError

from steelyard.client import NotFound, Steelyard
from steelyard.events.topology import MESSAGE_HEADER, REASON_HEADER
from steelyard.operations.outbox_ports import POSITION_CLOSED, POSITION_UPDATED
from tests.app.processes import Serving, serving
from tests.client.desk import client_of, make_fill
from tests.events.feeds import Feeds
from tests.events.service import Peer, until
from tests.events.worked import BTC, EXECUTIONS, execution
from tests.support.rabbitmq import Broker, Door

pytestmark = pytest.mark.xdist_group("rabbitmq")
CATCH_UP_S = 60.0
INSTRUMENTS = [f"C{number}USDT" for number in range(8)]
LOST = (aiormq.exceptions.AMQPError, DeliveryError, ConnectionError, OSError, TimeoutError, RuntimeError)
TABLES = ("fills", "adjustments", "positions", "position_events", "account_heads", "inbox", "instruments", "accounts")


def beside(folder: Path, database_url: str, amqp_url: str, **more: str) -> Any:
    """The service on a database, beside a broker."""
    return serving(folder, STEELYARD_DATABASE_URL=database_url, STEELYARD_AMQP_URL=amqp_url, **more)


async def put(peer: Peer, *bodies: bytes) -> None:
    """Sends executions as soon as the service has declared their queue."""

    async def is_sent() -> bool:
        try:
            await peer.send(EXECUTIONS, bodies[0])
        except DeliveryError:
            return False
        return True

    await until(is_sent, what="the queue of executions")
    await peer.send(EXECUTIONS, *bodies[1:])


async def holds(steelyard: Steelyard, quantity: int) -> bool:
    """Whether the service says that so much is held."""
    try:
        return (await steelyard.get_position("main", BTC)).quantity == quantity
    except NotFound:
        return False


async def outbox_is_empty(feeds: Feeds) -> bool:
    return await feeds.rows("SELECT FROM outbox LIMIT 1") == []


async def test_an_order_event_is_seen_by_a_question_and_told_to_others(
    broker: Broker, database_url: str, feeds: Feeds, tmp_path: Path
) -> None:
    with beside(tmp_path, database_url, broker.url) as service:
        (told,) = [line for line in service.banner if "broker:" in line]
        assert "amqp://127.0.0.1:" in told
        assert "guest" not in told
        async with Peer.connected(broker.url) as peer, client_of(service.address) as steelyard:
            await put(peer, execution("10:00:00", "BUY", "2", "100", "1", "a"))
            await until(lambda: holds(steelyard, 2), what="a position")
            await put(peer, execution("10:01:00", "SELL", "2", "110", "1", "b"))
            await until(lambda: holds(steelyard, 0), what="a flat position")
            await until(lambda: outbox_is_empty(feeds), what="an empty outbox")
            updates = await peer.bodies(POSITION_UPDATED)
            assert [(said["version"], said["size"], said["update_source"]) for said in updates] == [
                (1, "2", "order_execution"),
                (2, "0", "order_execution"),
            ]
            (closed,) = await peer.bodies(POSITION_CLOSED)
            assert (closed["net_realized_pnl"], closed["account"]) == ("18", "main")
        assert service.end() == 0


async def test_a_poison_message_is_buried_with_its_reason_and_changes_nothing_else(
    broker: Broker, database_url: str, feeds: Feeds, tmp_path: Path
) -> None:
    poison = execution("10:02:00", "BUY", "-1", "100", "0", "poison")
    with beside(tmp_path, database_url, broker.url) as service:
        async with Peer.connected(broker.url) as peer, client_of(service.address) as steelyard:
            await put(peer, execution("10:00:00", "BUY", "2", "100", "1", "a"))
            await until(lambda: holds(steelyard, 2), what="a position")
            await until(lambda: outbox_is_empty(feeds), what="an empty outbox")
            before = await _book(feeds)
            await put(peer, poison)
            (buried,) = await _dead_letters(peer)
            assert buried.body == poison
            assert buried.headers[REASON_HEADER] == "INVALID_FIELD"
            assert "quantity" in str(buried.headers[MESSAGE_HEADER])
            assert await _book(feeds) == before
            assert len(await peer.bodies(POSITION_UPDATED)) == 1
            await put(peer, execution("10:03:00", "BUY", "1", "100", "1", "b"))
            await until(lambda: holds(steelyard, 3), what="the message after it")


async def _book(feeds: Feeds) -> dict[str, Any]:
    """Every row of the tables that a message could change."""
    return {table: await feeds.rows(f"SELECT t::text FROM {table} t ORDER BY 1") for table in TABLES}


async def _dead_letters(peer: Peer) -> list[AbstractIncomingMessage]:
    found: list[AbstractIncomingMessage] = []

    async def are_there() -> bool:
        found.extend(await peer.dead_letters(EXECUTIONS))
        return bool(found)

    await until(are_there, what="a dead letter")
    return found


async def test_it_starts_without_the_broker_records_meanwhile_and_catches_up_when_it_comes(
    broker: Broker, database_url: str, feeds: Feeds, tmp_path: Path
) -> None:
    door = Door(broker)
    with beside(tmp_path, database_url, door.url) as service:
        async with client_of(service.address) as steelyard:
            for number in (1, 2, 3):
                await steelyard.record_fill(make_fill(number))
            assert len(await feeds.rows("SELECT FROM outbox")) == 3
            async with door.opened(), Peer.connected(broker.url) as peer:
                await until(lambda: outbox_is_empty(feeds), what="an empty outbox")
                assert [said["version"] for said in await peer.bodies(POSITION_UPDATED)] == [1, 2, 3]
                await put(peer, execution("10:00:00", "BUY", "1", "100", "0", "a"))
                await until(lambda: holds(steelyard, 1), what="a position")
        assert service.end(signal.SIGINT) == 0


@dataclass
class Load:
    """Executions sent through the broker and fills recorded by rpc, for as long as it runs."""

    sent: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    recorded: int = 0
    is_owed: bool = False
    is_over: bool = False

    async def send(self, broker: Broker) -> None:
        """One execution after another, each again until the broker has confirmed it."""
        while not self.is_over or self.is_owed:
            try:
                async with Peer.connected(broker.url) as peer:
                    while not self.is_over or self.is_owed:
                        await self._deliver(peer)
            except LOST:
                await asyncio.sleep(0.1)

    async def _deliver(self, peer: Peer) -> None:
        number = sum(self.sent.values())
        name = INSTRUMENTS[number % len(INSTRUMENTS)]
        body = execution("10:00:00", "BUY", "1", "100", "0", f"o{number}").replace(BTC.encode(), name.encode())
        self.is_owed = True
        await peer.send(EXECUTIONS, body)
        self.is_owed = False
        self.sent[name] += 1

    async def record(self, steelyard: Steelyard) -> None:
        """Fills by rpc, which must not notice that the broker is away."""
        while not self.is_over:
            self.recorded += 1
            await steelyard.record_fill(make_fill(self.recorded, account="main"))
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    "away_s", [1.0, pytest.param(20.0, marks=[pytest.mark.long, pytest.mark.faults, pytest.mark.timeout(300)])]
)
async def test_a_broker_that_is_away_under_load_costs_no_event_and_no_order(
    broker: Broker, database_url: str, feeds: Feeds, tmp_path: Path, away_s: float, record_property: Any
) -> None:
    load = Load()
    with beside(tmp_path, database_url, broker.url) as service:
        async with client_of(service.address) as steelyard:
            async with Peer.connected(broker.url) as peer:
                await put(peer, execution("09:00:00", "BUY", "1", "100", "0", "first"))
            running = [asyncio.create_task(load.send(broker)), asyncio.create_task(load.record(steelyard))]
            await asyncio.sleep(1.0)
            recorded_before = load.recorded
            await broker.stop()
            await asyncio.sleep(away_s)
            assert not any(task.done() for task in running)
            assert load.recorded > recorded_before
            await broker.start()
            began = asyncio.get_running_loop().time()
            await asyncio.sleep(1.0)
            load.is_over = True
            await asyncio.gather(*running)
            await _all_applied(feeds, load)
            await until(lambda: outbox_is_empty(feeds), what="an empty outbox", timeout_s=CATCH_UP_S)
            record_property("caught_up_after_s", round(asyncio.get_running_loop().time() - began, 1))
        record_property("recorded_and_sent", (load.recorded, sum(load.sent.values())))
        await _check_told(broker, feeds)
        assert _crashes(service) == []


async def _all_applied(feeds: Feeds, load: Load) -> None:
    async def is_applied() -> bool:
        rows = await feeds.rows("SELECT instrument, quantity FROM positions WHERE account = 'main'")
        stored = {row["instrument"]: row["quantity"] for row in rows}
        return all(stored.get(name) == count for name, count in load.sent.items())

    await until(is_applied, what="all executions", timeout_s=CATCH_UP_S)
    (fills,) = await feeds.rows("SELECT count(*) AS n FROM fills WHERE instrument = 'MNQ SEP25'")
    assert fills["n"] == load.recorded


async def _check_told(broker: Broker, feeds: Feeds) -> None:
    """Every version of every position was told, in order; a repeat may follow where a confirmation was lost."""
    seen: dict[str, list[int]] = defaultdict(list)
    async with Peer.connected(broker.url) as peer:
        for said in await peer.bodies(POSITION_UPDATED):
            seen[said["asset"]].append(said["version"])
    positions = await feeds.rows("SELECT instrument, version FROM positions")
    assert len(positions) == len(INSTRUMENTS) + 2
    for row in positions:
        arrived = list(dict.fromkeys(seen[row["instrument"]]))
        assert arrived == list(range(1, row["version"] + 1)), row["instrument"]


def _crashes(service: Serving) -> list[str]:
    lines = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
    return [line["event"] for line in lines if line["event"] in ("events_part_failed", "message_failed")]
