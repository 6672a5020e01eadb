"""`steelyard serve` as a process beside a real broker: what it is told, what it tells, and what an outage costs.

One process serves all of it; it reaches the broker through a door that each test opens for itself, and each test has
instruments of its own.
"""

import asyncio
import json
import signal
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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
from tests.support.postgres import TestServer
from tests.support.rabbitmq import Broker, Door

pytestmark = pytest.mark.xdist_group("rabbitmq")
CATCH_UP_S = 60.0
LOST = (aiormq.exceptions.AMQPError, DeliveryError, ConnectionError, OSError, TimeoutError, RuntimeError)
TABLES = ("fills", "adjustments", "positions", "position_events", "account_heads", "inbox", "instruments", "accounts")


@pytest.fixture(scope="module")
def database_url(postgres_server: TestServer) -> Iterator[str]:
    """One database for the service that all tests here share."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(scope="module")
def door(broker_node: Broker) -> Door:
    """Through which the service reaches the broker, while a test has it open."""
    return Door(broker_node)


@pytest.fixture(scope="module")
def service(door: Door, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The service, begun while the broker cannot be reached."""
    folder = tmp_path_factory.mktemp("serving")
    variables = {"STEELYARD_DATABASE_URL": database_url, "STEELYARD_AMQP_URL": door.url}
    with serving(folder, "--no-worker", **variables) as service:
        yield service
        assert service.end(signal.SIGINT) == 0


def of(instrument: str, body: bytes) -> bytes:
    """An event of another instrument."""
    return body.replace(BTC.encode(), instrument.encode())


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


async def holds(steelyard: Steelyard, instrument: str, quantity: int) -> bool:
    """Whether the service says that so much is held."""
    try:
        return (await steelyard.get_position("main", instrument)).quantity == quantity
    except NotFound:
        return False


async def outbox_is_empty(feeds: Feeds) -> bool:
    return await feeds.rows("SELECT FROM outbox LIMIT 1") == []


async def test_an_order_event_is_seen_by_a_question_and_told_to_others(
    broker: Broker, door: Door, service: Serving, feeds: Feeds
) -> None:
    (said,) = [line for line in service.banner if "broker:" in line]
    assert "amqp://127.0.0.1:" in said
    assert "guest" not in said
    async with door.opened(), Peer.connected(broker.url) as peer, client_of(service.address) as steelyard:
        await put(peer, execution("10:00:00", "BUY", "2", "100", "1", "a"))
        await until(lambda: holds(steelyard, BTC, 2), what="a position")
        await put(peer, execution("10:01:00", "SELL", "2", "110", "1", "b"))
        await until(lambda: holds(steelyard, BTC, 0), what="a flat position")
        await until(lambda: outbox_is_empty(feeds), what="an empty outbox")
        updates = await told(peer, BTC)
        assert [(update["version"], update["size"], update["update_source"]) for update in updates] == [
            (1, "2", "order_execution"),
            (2, "0", "order_execution"),
        ]
        (closed,) = await told(peer, BTC, topic=POSITION_CLOSED)
        assert (closed["net_realized_pnl"], closed["account"]) == ("18", "main")


async def told(peer: Peer, instrument: str, *, topic: str = POSITION_UPDATED) -> list[Any]:
    """What was published of an instrument."""
    return [body for body in await peer.bodies(topic) if body["asset"] == instrument]


async def test_a_poison_message_is_buried_with_its_reason_and_changes_nothing_else(
    broker: Broker, door: Door, service: Serving, feeds: Feeds
) -> None:
    name = "POISONUSDT"
    poison = of(name, execution("10:02:00", "BUY", "-1", "100", "0", "poison"))
    async with door.opened(), Peer.connected(broker.url) as peer, client_of(service.address) as steelyard:
        await put(peer, of(name, execution("10:00:00", "BUY", "2", "100", "1", "a")))
        await until(lambda: holds(steelyard, name, 2), what="a position")
        await until(lambda: outbox_is_empty(feeds), what="an empty outbox")
        before = await _book(feeds)
        await put(peer, poison)
        (buried,) = await _dead_letters(peer)
        assert buried.body == poison
        assert buried.headers[REASON_HEADER] == "INVALID_FIELD"
        assert "quantity" in str(buried.headers[MESSAGE_HEADER])
        assert await _book(feeds) == before
        assert len(await told(peer, name)) == 1
        await put(peer, of(name, execution("10:03:00", "BUY", "1", "100", "0", "b")))
        await until(lambda: holds(steelyard, name, 3), what="the message after it")


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


async def test_it_serves_without_the_broker_and_catches_up_when_it_comes(
    broker: Broker, door: Door, service: Serving, feeds: Feeds
) -> None:
    name = "LATERUSDT"
    async with client_of(service.address) as steelyard:
        for number in (1, 2, 3):
            await steelyard.record_fill(make_fill(number))
        assert len(await feeds.rows("SELECT FROM outbox WHERE account = 'desk'")) == 3
        async with door.opened(), Peer.connected(broker.url) as peer:
            await until(lambda: outbox_is_empty(feeds), what="an empty outbox")
            assert [update["version"] for update in await told(peer, "MNQ SEP25")] == [1, 2, 3]
            await put(peer, of(name, execution("10:00:00", "BUY", "1", "100", "0", "a")))
            await until(lambda: holds(steelyard, name, 1), what="a position")


@dataclass
class Load:
    """Executions sent through the broker and fills recorded by rpc, for as long as it runs."""

    names: Sequence[str]
    """Instruments of the executions."""
    contract: str
    """The instrument of the fills."""
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
        name = self.names[number % len(self.names)]
        body = of(name, execution("10:00:00", "BUY", "1", "100", "0", f"o{number}"))
        self.is_owed = True
        await peer.send(EXECUTIONS, body)
        self.is_owed = False
        self.sent[name] += 1

    async def record(self, steelyard: Steelyard) -> None:
        """Fills by rpc, which must not notice that the broker is away."""
        while not self.is_over:
            self.recorded += 1
            fill_id = f"{self.contract}-{self.recorded}"
            await steelyard.record_fill(
                make_fill(self.recorded, account="main", fill_id=fill_id, instrument=self.contract)
            )
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("away_s", "contract"),
    [
        (1.0, "MNQ SEP25"),
        pytest.param(20.0, "MNQ DEC25", marks=[pytest.mark.long, pytest.mark.faults, pytest.mark.timeout(300)]),
    ],
)
async def test_a_broker_that_is_away_under_load_costs_no_event_and_no_order(
    broker: Broker, door: Door, service: Serving, feeds: Feeds, away_s: float, contract: str, record_property: Any
) -> None:
    load = Load([f"C{number}AWAY{away_s:.0f}USDT" for number in range(8)], contract)
    async with door.opened(), client_of(service.address) as steelyard:
        async with Peer.connected(broker.url) as peer:
            await put(peer, execution("09:00:00", "BUY", "1", "100", "0", f"before {contract}"))
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
        await _check_told(broker, feeds, load)
        assert _crashes(service) == []


async def _all_applied(feeds: Feeds, load: Load) -> None:
    async def is_applied() -> bool:
        rows = await feeds.rows("SELECT instrument, quantity FROM positions WHERE account = 'main'")
        stored = {row["instrument"]: row["quantity"] for row in rows}
        return all(stored.get(name) == count for name, count in load.sent.items())

    await until(is_applied, what="all executions", timeout_s=CATCH_UP_S)
    (fills,) = await feeds.rows(
        "SELECT count(*) AS n FROM fills WHERE account = 'main' AND instrument = $1", load.contract
    )
    assert fills["n"] == load.recorded


async def _check_told(broker: Broker, feeds: Feeds, load: Load) -> None:
    """Every version of every position was told, in order; a repeat may follow where a confirmation was lost."""
    seen: dict[str, list[int]] = defaultdict(list)
    async with Peer.connected(broker.url) as peer:
        for said in await peer.bodies(POSITION_UPDATED):
            seen[said["asset"]].append(said["version"])
    names = [*load.names, load.contract]
    positions = await feeds.rows(
        "SELECT instrument, version FROM positions WHERE account = 'main' AND instrument = ANY($1)", names
    )
    assert len(positions) == len(names)
    for row in positions:
        arrived = list(dict.fromkeys(seen[row["instrument"]]))
        assert arrived == list(range(1, row["version"] + 1)), row["instrument"]


def _crashes(service: Serving) -> list[str]:
    lines = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith("{")]
    return [line["event"] for line in lines if line["event"] in ("events_part_failed", "message_failed")]
