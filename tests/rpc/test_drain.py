"""The drain: it waits for calls, tells when it had to cut one off, and is not held up by who watches health."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.rpc.trouble import TroubleServicer, serving


async def test_who_watches_health_is_no_call_and_does_not_hold_the_drain_up() -> None:
    async with serving(drain_grace_s=60) as served, grpc.aio.insecure_channel(served.server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert served.server.in_flight.count == 0
        async with asyncio.timeout(20):
            assert await served.server.stop()
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_a_call_that_the_drain_cuts_off_makes_it_incomplete() -> None:
    async def wait(context: Any) -> None:
        await asyncio.Event().wait()

    servicer = TroubleServicer({"slow": wait})
    async with serving(servicer, drain_grace_s=0.2) as served:
        slow = asyncio.create_task(served.get("slow"))
        await servicer.begun.wait()
        assert not await served.server.stop()
        assert (await slow)[0] in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
