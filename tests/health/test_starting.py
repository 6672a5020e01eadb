"""Real processes that start while what they stand on is away, and recover without a restart."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import psutil
import pytest

from steelyard.client import FillReceipt, ServiceStatus, Steelyard
from steelyard.embedded import EmbeddedPostgres
from steelyard.migrations import upgrade
from tests.app.processes import NOT_SERVING, SERVING, Serving, serving, until
from tests.app.test_work import working
from tests.client.desk import make_fill

BUILDS = "steelyard.v1.BuildService"
AWAY = {
    "STEELYARD_REDIS_URL": "redis://127.0.0.1:1/0",
    "STEELYARD_AMQP_URL": "amqp://guest:guest@127.0.0.1:1/",
    "STEELYARD_WORKER_SILENCE_MAX_S": "4",
}


def status(service: Serving) -> ServiceStatus:
    async def ask() -> ServiceStatus:
        async with Steelyard.connect(service.address) as steelyard:
            return await steelyard.get_service_status()

    return asyncio.run(ask())


async def recorded(service: Serving) -> FillReceipt:
    async with Steelyard.connect(service.address) as steelyard:
        return (await steelyard.record_fill(make_fill(1))).receipt


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a database that exists and does not run."""
    EmbeddedPostgres.start_blocking(tmp_path / "postgres", durable=False).stop_blocking()
    return tmp_path


def url_of(folder: Path, *, is_migrated: bool) -> str:
    with EmbeddedPostgres.start_blocking(folder / "postgres", durable=False) as postgres:
        if is_migrated:
            upgrade(postgres.url)
        return postgres.url


@pytest.mark.faults
def test_service_and_worker_start_with_everything_away_and_recover(folder: Path) -> None:
    url = url_of(folder, is_migrated=True)
    with (
        serving(folder, STEELYARD_DATABASE_URL=url, **AWAY) as service,
        working(folder, STEELYARD_DATABASE_URL=url) as (worker, _),
    ):
        assert any("AWAY: waiting for it" in line for line in service.banner)
        assert {service.health(name) for name in ("", "readiness", "startup", BUILDS)} == {NOT_SERVING}
        assert service.health("liveness") == SERVING
        found = status(service)
        assert (found.state, found.workers.state) == ("NOT_SERVING", "UNKNOWN")
        assert set(found.reasons) == {"DATABASE_AWAY", "CACHE_AWAY", "BROKER_AWAY"}
        with EmbeddedPostgres.start_blocking(folder / "postgres", durable=False):
            for name in ("", "startup", BUILDS):
                until(lambda name=name: service.health(name) == SERVING, what=f"{name} to serve")  # type: ignore[misc]
            found = status(service)
            assert (found.state, set(found.reasons)) == ("DEGRADED", {"CACHE_AWAY", "BROKER_AWAY"})
            assert asyncio.run(recorded(service)).version == 1
            worker.kill()
            until(lambda: service.health(BUILDS) == NOT_SERVING, what="the missing worker to be noticed")
            assert service.health() == SERVING
            with working(folder, STEELYARD_DATABASE_URL=url) as (again, _):
                until(lambda: service.health(BUILDS) == SERVING, what="the new worker to be noticed")
                again.send_signal(signal.SIGTERM)
                assert again.wait(30) == 0
            assert service.end() == 0
        assert "Traceback" not in service.log.read_text()


@pytest.mark.faults
@pytest.mark.parametrize("processes", ["1", pytest.param("2", marks=pytest.mark.long)])
def test_a_database_that_turns_out_to_lack_the_schema_ends_them_with_what_to_do(folder: Path, processes: str) -> None:
    url = url_of(folder, is_migrated=False)
    with (
        serving(folder, "--processes", processes, STEELYARD_DATABASE_URL=url) as service,
        working(folder, STEELYARD_DATABASE_URL=url) as (worker, log),
    ):
        assert service.health() == NOT_SERVING
        servers = psutil.Process(service.process.pid).children(recursive=True)
        with EmbeddedPostgres.start_blocking(folder / "postgres", durable=False):
            assert service.process.wait(30) == worker.wait(30) == 1
        for said in (service.log, log):
            assert "run `steelyard migrate`" in said.read_text()
            assert "Traceback" not in said.read_text()
        until(lambda: not any(each.is_running() for each in servers), what="all processes to end")


def test_a_worker_that_waits_for_its_database_ends_when_it_is_told_to(tmp_path: Path) -> None:
    with working(tmp_path, STEELYARD_DATABASE_URL="postgresql://nobody:secret@127.0.0.1:1/nothing") as (worker, log):
        until(lambda: "store_away" in log.read_text(), what="the worker to say that it waits")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
        assert "secret" not in log.read_text()
