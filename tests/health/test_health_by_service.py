"""Health by service: what each needs, and the names for probes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from steelyard.app.assembly import Service
from steelyard.client import ServiceState, StatusReason
from steelyard.rpc.services import REGISTRATIONS
from tests.health.test_status import BEAT, execute, serving, status

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
BUILDS = REGISTRATIONS["builds"].full_name
OTHERS = ["", "readiness", *(each.full_name for name, each in REGISTRATIONS.items() if name != "builds")]


class Probe:
    """Asks one server for its health."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = health_pb2_grpc.HealthStub(channel)

    async def of(self, name: str) -> int:
        return int((await self._stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)).status)

    async def all_of(self, names: list[str]) -> set[int]:
        return {await self.of(name) for name in names}

    async def becomes(self, name: str, wanted: int) -> None:
        for _ in range(200):
            if await self.of(name) == wanted:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{name} never became {wanted}")


@asynccontextmanager
async def probe(service: Service) -> AsyncIterator[Probe]:
    async with grpc.aio.insecure_channel(service.address) as channel:
        yield Probe(channel)


async def test_builds_are_served_while_a_worker_beats_and_nothing_else_minds(database_url: str) -> None:
    async with serving(database_url, worker_silence_max_s=6.0) as service, probe(service) as health:
        assert await health.of(BUILDS) == NOT_SERVING
        assert await health.all_of(OTHERS) == {SERVING}
        await execute(database_url, BEAT)
        await health.becomes(BUILDS, SERVING)
        # One that ends in order takes its beats along; the next has as long as a silence may last.
        await execute(database_url, "DELETE FROM procrastinate_workers")
        await asyncio.sleep(1.5)
        assert await health.of(BUILDS) == SERVING
        await health.becomes(BUILDS, NOT_SERVING)
        assert await health.all_of(OTHERS) == {SERVING}
        await execute(database_url, BEAT)
        await health.becomes(BUILDS, SERVING)


async def test_a_worker_that_stopped_beating_is_none(database_url: str) -> None:
    await execute(database_url, "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '31 s')")
    async with serving(database_url) as service, probe(service) as health:
        assert await health.of(BUILDS) == NOT_SERVING
        await execute(database_url, "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '20 s'")
        await health.becomes(BUILDS, SERVING)


async def test_without_the_store_only_liveness_is_left_and_startup_is_done_once(database_url: str) -> None:
    await execute(database_url, BEAT)
    async with serving(database_url, is_held=True) as service, probe(service) as health:
        assert await health.all_of([*OTHERS, BUILDS, "startup"]) == {NOT_SERVING}
        assert await health.of("liveness") == SERVING
        service.admit()
        await health.becomes(BUILDS, SERVING)
        assert await health.all_of([*OTHERS, "startup", "liveness"]) == {SERVING}
        service._database.is_held = True
        await health.becomes("readiness", NOT_SERVING)
        await health.becomes(BUILDS, NOT_SERVING)
        assert await health.all_of(OTHERS) == {NOT_SERVING}
        assert await health.all_of(["startup", "liveness"]) == {SERVING}


async def test_a_drain_says_not_serving_under_every_name(database_url: str) -> None:
    await execute(database_url, BEAT)
    async with serving(database_url, drain_wait_s=1.0) as service, probe(service) as health:
        await health.becomes(BUILDS, SERVING)
        draining = asyncio.ensure_future(service.server.stop())
        await asyncio.sleep(0.2)
        assert await health.all_of([*OTHERS, BUILDS, "startup", "liveness"]) == {NOT_SERVING}
        told = await status(service)
        assert (told.state, told.reasons) == (ServiceState.NOT_SERVING, (StatusReason.DRAINING,))
        assert await draining
