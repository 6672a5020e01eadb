"""Every committed version is told to others, whatever made it; breaches and discrepancies are, too."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest
from pydantic import SecretStr

from steelyard.app.assembly import Service, Worker
from steelyard.app.settings import Settings
from steelyard.client import Limits, Mark, PositionKey, Steelyard, VenueReport
from steelyard.operations.outbox_ports import DISCREPANCY_FOUND, LIMIT_BREACHED, POSITION_UPDATED, SNAPSHOT_CREATED
from steelyard.storage.database import Database
from steelyard.storage.record_writes import RecordTransaction, record_transaction
from steelyard.telemetry.logs import silent_log
from tests.client.desk import client_of, make_fill, now
from tests.events.feeds import Feeds, key
from tests.events.service import Peer, until
from tests.events.worked import BTC, EXECUTIONS, execution
from tests.support.rabbitmq import Broker

pytestmark = pytest.mark.xdist_group("rabbitmq")
MNQ = "MNQ SEP25"
CSV = b"""fill_id,account,book,instrument,side,quantity,price,fee,fee_currency,executed_at
i1,desk,,MNQ SEP25,BUY,1,25000,0,,2025-06-20T13:00:00Z
i2,desk,,MES SEP25,BUY,1,6000,0,,2025-06-20T13:00:00Z
i3,desk,,MES SEP25,SELL,1,6010,0,,2025-06-20T13:01:00Z
"""


@asynccontextmanager
async def desk_beside(url: str, amqp_url: str) -> AsyncIterator[tuple[Service, Steelyard]]:
    """A service with a worker on a database and beside a broker."""
    settings = Settings(port=0, drain_wait_s=0.01, pool_size=8, amqp_url=SecretStr(amqp_url))
    service, stop = Service(settings, url=url, log=silent_log()), asyncio.Event()
    await service.start()
    worker = Worker(settings, url=url, log=silent_log())
    working = asyncio.create_task(worker.run(stop))
    try:
        async with client_of(service.address) as steelyard:
            # Before that there are no queues to look into.
            await until(lambda: _is_connected(service), what="a connection")
            yield service, steelyard
    finally:
        stop.set()
        await working
        await worker.close()
        await service.stop()


async def _is_connected(service: Service) -> bool:
    return (await service.feeds.status()).is_connected


async def outbox_is_empty(feeds: Feeds) -> bool:
    return await feeds.rows("SELECT FROM outbox LIMIT 1") == []


async def test_versions_of_fills_corrections_imports_builds_and_reports_are_all_told(
    broker: Broker, database_url: str, feeds: Feeds
) -> None:
    async with Peer.connected(broker.url) as peer, desk_beside(database_url, broker.url) as (service, steelyard):
        for number in (1, 2, 3):
            await steelyard.record_fill(make_fill(number))
        await steelyard.bust_fill("desk", "f0002", expected_revision=1)
        outcome = await steelyard.import_trades(CSV, file_name="trades.csv")
        assert outcome.trade_import.build_id is not None
        await steelyard.build(outcome.trade_import.build_id).wait(timeout_s=30)
        said = VenueReport(key=PositionKey("desk", "MES DEC25"), quantity=Decimal(1), reported_at=now())
        await steelyard.record_fill(make_fill(9, instrument="MES DEC25", account="other"))
        await steelyard.report_venue_position(said)
        await until(lambda: outbox_is_empty(feeds), what="an empty outbox")
        told: dict[tuple[str, str], list[int]] = defaultdict(list)
        causes = set()
        for body in await peer.bodies(POSITION_UPDATED):
            told[body["account"], body["asset"]].append(body["version"])
            causes.add(body["update_source"])
        rows = await feeds.rows("SELECT account, instrument, version FROM positions")
        assert told == {(row["account"], row["instrument"]): list(range(1, row["version"] + 1)) for row in rows}
        assert {"order_execution", "build", "venue_report"} <= causes
        (found,) = await peer.bodies(DISCREPANCY_FOUND)
        assert (found["kind"], found["ours"], found["theirs"], found["asset"]) == ("SIZE", "0", "1", "MES DEC25")
        status = await service.feeds.status()
        assert (status.is_on, status.is_publishing, status.waiting_since) == (True, True, None)
        assert status.is_connected
        (relay,) = [part for part in status.parts if part.name == "relay"]
        assert relay.published >= sum(len(versions) for versions in told.values())
        assert relay.last_at is not None


async def test_a_limit_that_is_broken_is_told_once(broker: Broker, database_url: str, feeds: Feeds) -> None:
    async with Peer.connected(broker.url) as peer, desk_beside(database_url, broker.url) as (_, steelyard):
        await steelyard.record_fill(make_fill(1))
        await steelyard.report_marks([Mark(MNQ, Decimal(25_000), now(), "test")])
        await steelyard.set_limits(Limits(account="desk", settle_currency="USD", gross_exposure_max=Decimal(10_000)))
        told: list[object] = []

        async def is_told() -> bool:
            told.extend(await peer.bodies(LIMIT_BREACHED))
            return bool(told)

        await until(is_told, what="a breach")
        await steelyard.record_fill(make_fill(2))
        await until(lambda: outbox_is_empty(feeds), what="an empty outbox")
        told.extend(await peer.bodies(LIMIT_BREACHED))
        (said,) = told
        assert isinstance(said, dict)
        assert (said["kind"], said["limit"], said["value"], said["currency"], said["asset"]) == (
            *("GROSS_EXPOSURE", "10000", "50000", "USD", None),
        )
        assert said["version"] == said["opened_seq"]
        assert "position_id" not in said


async def test_a_record_that_is_made_can_be_told_in_its_transaction(
    broker: Broker, database_url: str, feeds: Feeds
) -> None:
    async with Peer.connected(broker.url) as peer, desk_beside(database_url, broker.url):
        await feeds.send(EXECUTIONS, execution("10:00:00", "BUY", "1", "100", "0", "a"))
        database = Database(database_url)
        async with record_transaction(database, RecordTransaction, cause="snapshot") as book:
            for number in (1, 2):
                book.tell(SNAPSHOT_CREATED, key(BTC), body={"snapshot_id": str(number)}, version=1)
        await database.close()
        await until(lambda: outbox_is_empty(feeds), what="an empty outbox")
        told = await peer.bodies(SNAPSHOT_CREATED)
        assert [(said["snapshot_id"], said["asset"], said["version"]) for said in told] == [
            ("1", BTC, 1),
            ("2", BTC, 1),
        ]
        assert len({said["event_id"] for said in told}) == 2
