"""`steelyard work` as a process of its own: it waits for its store, and ends when it is told to."""

import asyncio
import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from steelyard.app.samples import generate_day
from steelyard.embedded import EmbeddedPostgres
from steelyard.migrations import upgrade
from tests.app.processes import END_S, command, environment, run, until
from tests.client.desk import client_of, serving_book

AWAY = {"store_away", "sweep_failed", "worker_waits_for_store"}


@contextmanager
def working(folder: Path, *arguments: str, **variables: str) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    log = folder / "work.log"
    with log.open("w") as err:
        process = subprocess.Popen(
            command("work", *arguments), env=environment(**variables), stdin=subprocess.PIPE, stderr=err
        )
    try:
        yield process, log
    finally:
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


def events(log: Path) -> list[str]:
    return [json.loads(line).get("event", "") for line in log.read_text().splitlines() if line.startswith("{")]


async def built(url: str, file: Path) -> str:
    """The state in which the build of a file's import ends."""
    async with serving_book(url) as service, client_of(service.address) as steelyard:
        outcome = await steelyard.import_trades(file)
        assert outcome.trade_import.build_id is not None
        return str((await steelyard.build(outcome.trade_import.build_id).wait(timeout_s=60)).state)


@pytest.mark.faults
def test_a_worker_waits_for_a_store_that_is_away_and_goes_on(tmp_path: Path) -> None:
    data, file = tmp_path / "postgres", tmp_path / "day.csv"
    file.write_text("".join(generate_day(3, fills=20)))
    with EmbeddedPostgres.start_blocking(data, durable=False) as postgres:
        upgrade(postgres.url)
        with working(tmp_path, STEELYARD_DATABASE_URL=postgres.url) as (process, log):
            until(lambda: "worker_started" in events(log), what="the worker to begin", timeout_s=60)
            postgres.stop_blocking()
            until(lambda: not AWAY.isdisjoint(events(log)), what="the worker to notice", timeout_s=60)
            with EmbeddedPostgres.start_blocking(data, durable=False) as again:
                assert asyncio.run(built(again.url, file)) == "SUCCEEDED"
                process.send_signal(signal.SIGTERM)
                assert process.wait(END_S) == 0
            assert events(log)[-1] == "worker_stopped"


def test_a_worker_ends_with_its_owner(database_url: str, tmp_path: Path) -> None:
    with working(tmp_path, "--owned", STEELYARD_DATABASE_URL=database_url) as (process, log):
        until(lambda: "worker_started" in events(log), what="the worker to begin", timeout_s=60)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(END_S) == 0


def test_a_worker_refuses_a_database_without_the_schema(empty_database_url: str) -> None:
    result = run("work", STEELYARD_DATABASE_URL=empty_database_url)
    assert result.returncode == 1
    assert "run `steelyard migrate`" in result.stderr
