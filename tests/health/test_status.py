"""What the service says of itself: to whom, how new, and what makes it less than SERVING."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import grpc.aio
import pytest
from pydantic import SecretStr
from rich.console import Console

from steelyard.app.assembly import Service
from steelyard.app.settings import Settings
from steelyard.cli.status import status_table
from steelyard.client import BuildMode, BuildState, PartState, ServiceState, ServiceStatus, StatusReason
from steelyard.migrations import head_revision
from steelyard.operations.access import Scope
from steelyard.rpc.tell_status import is_local
from steelyard.telemetry.logs import silent_log
from steelyard.v1 import admin_service_pb2, admin_service_pb2_grpc, status_pb2
from tests.access.desk import guarded, new_key
from tests.client.desk import client_of, make_fill
from tests.support.redis import RedisServer

NOBODY = "amqp://guest:guest@127.0.0.1:1/"
FORWARDED = (("x-forwarded-for", "203.0.113.9"),)
BEAT = "INSERT INTO procrastinate_workers DEFAULT VALUES"


@asynccontextmanager
async def serving(url: str, *, is_held: bool = False, **settings: Any) -> AsyncIterator[Service]:
    known = {"port": 0, "drain_wait_s": 0.01, "pool_size": 4, **settings}
    service = Service(Settings(**known), url=url, log=silent_log(), is_held=is_held)
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


async def told(service: Service, *metadata: tuple[str, str]) -> status_pb2.ServiceStatus:
    async with grpc.aio.insecure_channel(service.address) as channel:
        stub = admin_service_pb2_grpc.AdminServiceStub(channel)
        request = admin_service_pb2.GetServiceStatusRequest()
        return (await stub.GetServiceStatus(request, metadata=metadata, timeout=10)).status


async def status(service: Service) -> ServiceStatus:
    async with client_of(service.address) as steelyard:
        return await steelyard.get_service_status()


async def becomes(service: Service, reasons: set[StatusReason]) -> ServiceStatus:
    async with client_of(service.address) as steelyard:
        for _ in range(100):
            found = await steelyard.get_service_status()
            if set(found.reasons) == reasons:
                return found
            await asyncio.sleep(0.1)
    raise AssertionError(f"it never said just {reasons}")


async def test_a_whole_service_tells_everything_on_this_machine(database_url: str) -> None:
    await execute(database_url, BEAT)
    async with serving(database_url) as service, client_of(service.address) as steelyard:
        await steelyard.record_fill(make_fill(1))
        await steelyard.create_build(mode=BuildMode.FULL)
        await asyncio.sleep(1.1)
        found = await steelyard.get_service_status()
    assert (found.state, found.reasons, found.needs_keys, found.is_detailed) == (ServiceState.SERVING, (), False, True)
    assert found.database.state is found.workers.state is PartState.UP
    assert found.cache.state is found.broker.state is PartState.OFF
    assert found.database.schema_revision == found.database.schema_needed == head_revision()
    assert found.database.latency is not None
    assert found.workers.beating == 1
    assert found.workers.last_beat_age is not None
    assert found.workers.oldest_waiting_build is not None
    assert found.workers.oldest_waiting_job is not None
    assert found.workers.oldest_waiting_build > timedelta(seconds=1) <= found.workers.oldest_waiting_job
    assert found.book is not None
    assert (found.book.stale_positions, found.book.newest_mark_age) == (1, None)
    assert found.validation is not None
    assert (found.validation.runs, found.validation.last_run_at) == (0, None)
    assert [(each.state, each.count) for each in found.builds] == [(BuildState.PENDING, 1)]
    assert found.version
    assert found.uptime is not None
    assert timedelta(seconds=1) < found.uptime < timedelta(minutes=1)


async def test_others_are_told_states_only(database_url: str) -> None:
    async with serving(database_url) as service:
        found = await told(service, *FORWARDED)
    assert (found.state, found.is_detailed) == (status_pb2.SERVICE_STATE_DEGRADED, False)
    bare = status_pb2.ServiceStatus(
        state=found.state,
        reasons=[status_pb2.STATUS_REASON_NO_WORKER],
        database=status_pb2.DatabaseStatus(state=status_pb2.PART_STATE_UP),
        broker=status_pb2.BrokerStatus(state=status_pb2.PART_STATE_OFF),
        cache=status_pb2.CacheStatus(state=status_pb2.PART_STATE_OFF),
        workers=status_pb2.WorkersStatus(state=status_pb2.PART_STATE_DOWN),
    )
    assert found == bare


async def test_a_valid_key_is_told_everything_and_a_wrong_one_nothing_more(database_url: str) -> None:
    known = await new_key(database_url, Scope.POSITIONS_READ)
    assert known.secret is not None
    async with guarded(database_url) as service:
        with_key = await told(service, *FORWARDED, ("x-api-key", known.secret))
        assert (with_key.is_detailed, with_key.needs_keys) == (True, True)
        assert with_key.HasField("book")
        for secret in ("nonsense", "sy_abcdefgh_" + "x" * 43):
            assert not (await told(service, *FORWARDED, ("x-api-key", secret))).is_detailed
        assert (await told(service)).is_detailed


@pytest.mark.parametrize(
    ("peer", "metadata", "wanted"),
    [
        ("ipv4:127.0.0.1:4711", {}, True),
        ("ipv6:%5B::1%5D:4711", {}, True),
        ("ipv6:%5B::ffff:127.0.0.1%5D:4711", {}, True),
        ("unix:/run/steelyard.sock", {}, True),
        ("ipv4:10.0.0.9:4711", {}, False),
        ("ipv6:%5B2001:db8::1%5D:4711", {}, False),
        ("ipv6:%5Bfe80::1%25eth0%5D:4711", {}, False),
        ("ipv4:127.0.0.1:4711", {"x-forwarded-for": "127.0.0.1"}, False),
        ("ipv4:127.0.0.1:4711", {"x-envoy-original-path": "/health"}, False),
        ("", {}, False),
    ],
)
def test_only_a_caller_on_this_machine_and_not_through_a_proxy_is_local(
    peer: str, metadata: dict[str, str], *, wanted: bool
) -> None:
    assert is_local(peer, metadata) is wanted


async def test_what_is_missing_and_late_degrades_it_and_is_named(database_url: str, redis_server: RedisServer) -> None:
    """Nothing answers at the broker's address; Redis is killed and comes back; no worker beats; things wait."""
    redis_url = SecretStr(redis_server.url)
    async with serving(database_url, redis_url=redis_url, amqp_url=SecretStr(NOBODY)) as service:
        found = await becomes(service, {StatusReason.BROKER_AWAY, StatusReason.NO_WORKER})
        assert (found.state, found.cache.state) == (ServiceState.DEGRADED, PartState.UP)
        assert found.broker.state is PartState.DOWN
        assert {part.state for part in found.broker.parts} == {PartState.DOWN}
        assert "relay" in {part.name for part in found.broker.parts}
        redis_server.kill()
        found = await becomes(service, {StatusReason.CACHE_AWAY, StatusReason.BROKER_AWAY, StatusReason.NO_WORKER})
        assert (found.state, found.cache.state) == (ServiceState.DEGRADED, PartState.DOWN)
        redis_server.start()
        async with client_of(service.address) as steelyard:
            await steelyard.record_fill(make_fill(1))
        await execute(
            database_url,
            BEAT,
            "UPDATE outbox SET created_at = created_at - interval '61 s'",
            "INSERT INTO stale_keys (account, book, instrument, leg, from_executed_at, from_sequence, from_entry_id,"
            " to_executed_at, to_sequence, to_entry_id, entries, touch, reason, is_held, since)"
            " SELECT account, book, instrument, leg, now(), 0, 'f0001', now(), 0, 'f0001', 1, 1, 'LATE', false,"
            " now() - interval '61 s' FROM positions",
        )
        wanted = {StatusReason.BROKER_AWAY, StatusReason.EVENTS_LATE, StatusReason.POSITIONS_STALE}
        found = await becomes(service, wanted)
        assert found.broker.event_lag is not None
        assert found.book is not None
        assert found.broker.event_lag > timedelta(seconds=60) < found.book.stale_key_age
        assert found.book.stale_keys == 1


async def test_a_cache_tells_how_often_it_had_the_answer(database_url: str, redis_server: RedisServer) -> None:
    async with serving(database_url, redis_url=SecretStr(redis_server.url)) as service:
        async with client_of(service.address) as steelyard:
            await steelyard.record_fill(make_fill(1))
            for _ in range(4):
                await steelyard.get_portfolio(["desk"])
                await asyncio.sleep(0.05)
        found = await status(service)
    assert found.cache.hit_rate is not None
    assert Decimal(0) < found.cache.hit_rate < Decimal(1)


async def test_without_its_database_it_says_so_with_all_that_is_known_besides(database_url: str) -> None:
    async with serving(database_url, is_held=True) as service:
        found = await status(service)
        assert (found.state, found.reasons) == (ServiceState.NOT_SERVING, (StatusReason.DATABASE_AWAY,))
        assert (found.database.state, found.workers.state) == (PartState.DOWN, PartState.UNKNOWN)
        assert (found.book, found.validation, found.database.schema_revision) == (None, None, None)
        assert found.database.schema_needed == head_revision()
        service.admit()
        assert (await becomes(service, {StatusReason.NO_WORKER})).state is ServiceState.DEGRADED


async def test_a_crowd_of_askers_costs_one_read_a_second(database_url: str) -> None:
    async with serving(database_url) as service, grpc.aio.insecure_channel(service.address) as channel:
        stub = admin_service_pb2_grpc.AdminServiceStub(channel)
        asked = [stub.GetServiceStatus(admin_service_pb2.GetServiceStatusRequest()) for _ in range(100)]
        answers = [await call for call in asked]
        assert len({answer.header.read_at.ToMicroseconds() for answer in answers}) == 1
        await asyncio.sleep(1.1)
        later = await stub.GetServiceStatus(admin_service_pb2.GetServiceStatusRequest())
        assert later.header.read_at.ToMicroseconds() > answers[0].header.read_at.ToMicroseconds()


async def test_the_table_says_what_is_missing_and_what_to_do(database_url: str) -> None:
    async with serving(database_url) as service:
        found = await status(service)
    screen = Console(width=160, record=True, file=io.StringIO())
    screen.print(status_table(found))
    text = screen.export_text()
    assert text.startswith("DEGRADED: no worker beats: start one with `steelyard work`")
    for word in ("database", "schema 0", "workers", "cache", "broker", "positions", "marks", "validation", "keys"):
        assert word in text


def test_the_client_says_the_same_words_as_the_contract() -> None:
    for enum, prefix, words in (
        (status_pb2.StatusReason, "STATUS_REASON_", StatusReason),
        (status_pb2.PartState, "PART_STATE_", PartState),
        (status_pb2.ServiceState, "SERVICE_STATE_", ServiceState),
    ):
        assert {name.removeprefix(prefix) for name in enum.DESCRIPTOR.values_by_name} == {"UNSPECIFIED", *words}
