"""Health follows the store in both directions; a drain ends it, and loses no call."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from steelyard.accounting.errors import StoreUnavailable
from steelyard.rpc.server import GrpcServer, ServerSettings, Services
from tests.rpc.trouble import LogLines, Served, Store, TroubleServicer, serving

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def state(served: Served, service: str = "") -> int:
    stub = health_pb2_grpc.HealthStub(served.channel)
    return int((await stub.Check(health_pb2.HealthCheckRequest(service=service))).status)


async def becomes(served: Served, wanted: int, service: str = "") -> None:
    watch = health_pb2_grpc.HealthStub(served.channel).Watch(health_pb2.HealthCheckRequest(service=service))
    async with asyncio.timeout(5):
        async for answer in watch:
            if answer.status == wanted:
                break
    watch.cancel()


@pytest.mark.parametrize("service", ["", "steelyard.v1.AdminService"])
async def test_health_follows_the_store_without_a_restart(service: str) -> None:
    store = Store()
    async with serving(store=store) as served:
        assert await state(served, service) == SERVING
        store.error = StoreUnavailable()
        await becomes(served, NOT_SERVING, service)
        store.error = None
        await becomes(served, SERVING, service)


async def test_a_store_that_never_answers_is_away() -> None:
    store = Store()
    async with serving(store=store) as served:
        store.is_silent = True
        await becomes(served, NOT_SERVING)


async def test_a_watcher_of_health_hears_of_each_change() -> None:
    store = Store()
    async with serving(store=store) as served:
        watch = health_pb2_grpc.HealthStub(served.channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        store.error = StoreUnavailable()
        assert (await watch.read()).status == NOT_SERVING
        watch.cancel()


async def test_an_unknown_service_has_no_health() -> None:
    async with serving() as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await state(served, "nobody.Here")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_drain_says_goodbye_first_and_finishes_what_it_has_begun() -> None:
    released = asyncio.Event()
    told: list[str] = []

    async def wait(context: Any) -> None:
        await released.wait()

    servicer = TroubleServicer({"slow": wait})
    async with serving(servicer, drain_wait_s=0.2) as served:
        served.server.on_drain(lambda: told.append("going away"))
        slow = asyncio.ensure_future(served.get("slow"))
        await servicer.begun.wait()
        stopping = asyncio.ensure_future(served.server.stop())
        await becomes(served, NOT_SERVING)
        assert told == ["going away"]
        # Calls on their way are still taken on while the drain waits.
        assert (await served.get("fine"))[0] is grpc.StatusCode.OK
        released.set()
        assert (await slow)[0] is grpc.StatusCode.OK
        assert await stopping


async def test_a_dead_health_monitor_ends_the_wait_for_the_server() -> None:
    class Broken(Exception):
        pass

    calls = 0

    async def ping() -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise Broken

    server = GrpcServer(
        Services(admin=TroubleServicer({})),
        settings=ServerSettings(port=0, drain_wait_s=0, health_interval_s=0.01),
        ping=ping,
        log=LogLines(),
    )
    await server.start()
    with pytest.raises(Broken):
        await server.wait()
    await server.stop()


async def test_a_port_in_use_is_one_clear_error() -> None:
    async with serving() as served:
        with pytest.raises(OSError, match="cannot listen on"):
            GrpcServer(Services(), settings=ServerSettings(port=served.server.port), ping=Store().ping, log=LogLines())
