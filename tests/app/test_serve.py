"""`steelyard serve` as a process: what it says, what it survives, and how it ends."""

import json
import signal
import socket
from pathlib import Path

import pytest

from steelyard.embedded import EmbeddedPostgres
from steelyard.migrations import upgrade
from tests.app.processes import NOT_SERVING, SERVING, is_gone, run, serving, until


def events(log: Path) -> list[str]:
    return [json.loads(line)["event"] for line in log.read_text().splitlines() if line.startswith("{")]


@pytest.mark.faults
def test_it_serves_on_an_embedded_database_that_may_die_and_ends_in_order(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(tmp_path, "--data", str(data)) as service:
        assert service.banner[0].endswith(": this machine only, without keys")
        assert str(data) in service.banner[1]
        assert service.health() == service.health("steelyard.v1.FillService") == SERVING
        children = service.children()
        assert set(children) == {"postgres", "worker"}
        children["postgres"].kill()
        until(lambda: service.health() == NOT_SERVING, what="health to notice")
        until(lambda: service.health() == SERVING, what="health to recover without restart")
        children |= service.children()
        assert service.end() == 0
        assert is_gone(children)
        # The worker writes to the same log, wherever it is when its own signal comes.
        assert [event for event in events(service.log) if event.startswith("drain")] == ["draining", "drained"]


@pytest.mark.faults
def test_it_comes_back_when_a_database_of_others_does(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres.start_blocking(tmp_path / "postgres", durable=False)
    upgrade(postgres.url)
    with serving(tmp_path, STEELYARD_DATABASE_URL=postgres.url) as service:
        assert service.health() == SERVING
        assert service.children() == {}
        assert "steelyard work" in service.banner[-1]
        postgres.stop_blocking()
        until(lambda: service.health() == NOT_SERVING, what="health to notice")
        with EmbeddedPostgres.start_blocking(tmp_path / "postgres", durable=False):
            until(lambda: service.health() == SERVING, what="health to recover without restart")
            assert service.end(signal.SIGINT) == 0


@pytest.mark.faults
def test_nothing_outlives_it_when_it_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path, "--data", str(tmp_path / "data")) as service:
        children = service.children()
        service.process.kill()
        until(lambda: is_gone(children), what="its database and worker to end", timeout_s=15)


@pytest.mark.faults
def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    with serving(tmp_path, "--data", str(tmp_path / "data")) as service:
        killed = service.children()["worker"]
        killed.kill()
        until(lambda: service.children().get("worker", killed).pid != killed.pid, what="a new worker", timeout_s=15)
        assert service.health() == SERVING
        assert service.end() == 0


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run("serve", "--port", port, "--data", str(tmp_path / "data"), "--no-worker")
    assert result.returncode == 1
    assert f"steelyard: cannot listen on 127.0.0.1:{port}: is it in use?" in result.stderr.splitlines()


def test_a_data_folder_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with EmbeddedPostgres.start_blocking(tmp_path / "data", durable=False):
        result = run("serve", "--port", "0", "--data", str(tmp_path / "data"))
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "in use" in result.stderr


def test_a_database_without_the_schema_names_the_command_that_makes_it(empty_database_url: str) -> None:
    result = run("serve", "--port", "0", STEELYARD_DATABASE_URL=empty_database_url)
    assert result.returncode == 1
    assert "run `steelyard migrate`" in result.stderr


def test_a_database_that_there_is_none_of_is_one_clear_line(empty_database_url: str) -> None:
    """Waiting would not mend it, as it may where nobody answers."""
    server, _, name = empty_database_url.rpartition("/")
    result = run("serve", "--port", "0", STEELYARD_DATABASE_URL=f"{server}/no_{name}")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "cannot be used" in result.stderr


def test_settings_that_are_wrong_stop_it_with_one_line_that_names_them() -> None:
    result = run("serve", STEELYARD_PORT="many", STEELYARD_DATABASE="x")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "STEELYARD_PORT" in result.stderr
    assert "STEELYARD_DATABASE is no setting" in result.stderr


def test_a_host_on_the_network_is_said_aloud(tmp_path: Path) -> None:
    arguments = ("--data", str(tmp_path / "data"), "--no-worker", "--host", "0.0.0.0")
    refused = run("serve", *arguments)
    assert refused.returncode == 2
    assert "settings: STEELYARD_HOST 0.0.0.0 can be reached from the network" in refused.stderr
    with serving(tmp_path, *arguments, STEELYARD_API_KEYS="off") as service:
        assert "REACHABLE FROM THE NETWORK, without keys" in service.banner[0]
        assert service.end() == 0
