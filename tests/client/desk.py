"""FillService on a real database, with a real client: fills in and out through a gRPC channel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from steelyard.accounting.keys import Account, PositionKey
from steelyard.client import Fill, Side, Steelyard
from steelyard.operations.ports import AccountRules
from steelyard.operations.read_fills import ReadFills
from steelyard.operations.reading import Reading
from steelyard.operations.record_fills import RecordFills
from steelyard.rpc.fill_servicer import FillServicer
from steelyard.rpc.health import Ping
from steelyard.rpc.page_tokens import PageTokens
from steelyard.rpc.server import GrpcServer, ServerSettings, Services
from steelyard.storage.database import Database
from steelyard.storage.fill_reads import FillReads
from steelyard.storage.heads import HeadReads
from steelyard.storage.ledger import PostgresLedger
from steelyard.telemetry.logs import silent_log
from steelyard.v1 import position_pb2

NOW = datetime(2025, 6, 20, 20, 0, tzinfo=UTC)
START = datetime(2025, 6, 20, 14, 0, tzinfo=UTC)


def make_fill(number: int, side: Side = Side.BUY, quantity: str = "1", price: str = "25000", **more: Any) -> Fill:
    """A fill of MNQ, one second after the one before."""
    whole: dict[str, Any] = {
        "fill_id": f"f{number:04}",
        "account": "desk",
        "instrument": "MNQ SEP25",
        "side": side,
        "quantity": Decimal(quantity),
        "price": Decimal(price),
        "executed_at": START + timedelta(seconds=number),
    }
    return Fill(**{**whole, **more})


@asynccontextmanager
async def fill_service(url: str, *, port: int = 0, ping: Ping | None = None) -> AsyncIterator[GrpcServer]:
    """A server of FillService on a database."""
    database = Database(url)

    def clock() -> datetime:
        return NOW

    async def tell_position(key: PositionKey) -> position_pb2.Position | None:
        return _flat(key)

    recording = RecordFills(PostgresLedger(database, clock), clock, new_accounts=AccountRules(Account("")))
    servicer = FillServicer(
        record=recording,
        read=ReadFills(FillReads(database), Reading(HeadReads(database), clock)),
        tell_position=tell_position,
        tokens=PageTokens(b"k" * 32),
        clock=clock,
    )
    server = GrpcServer(
        Services(fills=servicer),
        settings=ServerSettings(port=port, drain_wait_s=0),
        ping=ping or database.ping,
        log=silent_log(),
    )
    recording.start()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
        await recording.close()
        await database.close()


def _flat(key: PositionKey) -> position_pb2.Position:
    position = position_pb2.Position(account=key.account, instrument=key.instrument)
    for field in ("quantity", "unmatched_quantity", "cost", "fees", "funding"):
        setattr(position, field, "0")
    for field in ("gross_realized_pnl", "realized_pnl", "net_realized_pnl"):
        setattr(position, field, "0")
    return position


@asynccontextmanager
async def client_of(server: GrpcServer) -> AsyncIterator[Steelyard]:
    """A client of that server."""
    async with Steelyard.connect(server.address, timeout_s=10) as steelyard:
        yield steelyard
