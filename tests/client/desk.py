"""The whole service on a real database, with a real client: everything goes through a gRPC channel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from pydantic import SecretStr

from steelyard.app.assembly import Service
from steelyard.app.settings import Settings
from steelyard.client import Fill, Side, Steelyard
from steelyard.telemetry.logs import silent_log

PAGE_TOKEN_KEY = SecretStr("the same for every server of a test")
START = datetime(2025, 6, 20, 14, 0, tzinfo=UTC)


def now() -> datetime:
    """The clock of the service."""
    return datetime.now(UTC)


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
async def serving_book(url: str, *, port: int = 0) -> AsyncIterator[Service]:
    """The service on a database; without a worker."""
    service = Service(
        Settings(port=port, drain_wait_s=0.01, pool_size=4, page_token_key=PAGE_TOKEN_KEY), url=url, log=silent_log()
    )
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


@asynccontextmanager
async def client_of(address: str) -> AsyncIterator[Steelyard]:
    """A client of a service."""
    async with Steelyard.connect(address, timeout_s=10) as steelyard:
        yield steelyard
