"""The connection: a service that is away, one that comes back, a database that is gone."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal

import grpc
import pytest

from steelyard.accounting.errors import StoreUnavailable
from steelyard.client import Steelyard, SteelyardCallError
from steelyard.client.service_config import service_config
from steelyard.client.translation import decimal_text, timestamp
from tests.client.desk import START, client_of, make_fill, serving_book
from tests.rpc.trouble import Store, serving


async def test_without_a_service_a_call_is_unavailable() -> None:
    async with Steelyard.connect("127.0.0.1:1", timeout_s=1) as steelyard:
        with pytest.raises(SteelyardCallError) as caught:
            await steelyard.get_fill("desk", "f1")
    assert caught.value.reason == ""


async def test_a_call_in_a_gap_between_two_servers_is_repeated_by_itself(database_url: str) -> None:
    async with serving_book(database_url) as service, client_of(service.address) as steelyard:
        await steelyard.record_fill(make_fill(1))
        port = service.server.port
    async with Steelyard.connect(f"127.0.0.1:{port}", timeout_s=20) as steelyard:
        waiting = asyncio.create_task(steelyard.get_fill("desk", "f0001"))
        await asyncio.sleep(0.3)
        async with serving_book(database_url, port=port):
            assert (await waiting).fill.fill_id == "f0001"


async def test_a_server_whose_store_is_gone_is_passed_over_until_it_is_back() -> None:
    store = Store()
    async with serving(store=store) as served, client_of(served.server.address) as steelyard:
        await steelyard.get_account("a")
        store.error = StoreUnavailable()
        await asyncio.wait_for(steelyard.channel.wait_for_state_change(grpc.ChannelConnectivity.READY), 10)
        impatient = Steelyard(steelyard.channel, timeout_s=1, metadata=())
        with pytest.raises(SteelyardCallError) as caught:
            await impatient.get_account("a")
        assert caught.value.code.name in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        waiting = asyncio.create_task(steelyard.get_account("a"))
        store.error = None
        await waiting


def test_the_shipped_config_is_what_grpc_takes() -> None:
    config = json.loads(service_config())
    (methods,) = config["methodConfig"]
    assert {"service": "steelyard.v1.FillService", "method": "RecordFill"} in methods["name"]
    assert methods["retryPolicy"]["maxAttempts"] == 5


def test_a_float_a_nan_or_a_naive_time_never_leaves_the_client() -> None:
    with pytest.raises(TypeError, match="float"):
        decimal_text(0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="NaN"):
        decimal_text(Decimal("NaN"))
    with pytest.raises(ValueError, match="zone"):
        timestamp(START.replace(tzinfo=None))
    assert decimal_text(Decimal("1E+3")) == "1000"
    assert decimal_text(Decimal("-0.00")) == "0"
