"""A named directory keeps its data, its port and its password, and has one owner at a time."""

import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest

from steelyard.embedded import EmbeddedError, EmbeddedPostgres, EmbeddedReason, find_binaries
from steelyard.embedded.data_directory import DataDirectory, command_line
from steelyard.embedded.identity import choose_identity
from steelyard.embedded.server_process import run_initdb
from tests.embedded.owners import seconds_until, start_owner
from tests.support.postgres import TestServer

NOISY_MACHINE_S = 10.0


async def query(url: str, statement: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        return str(await connection.fetchval(statement))
    finally:
        await connection.close()


async def test_cold_and_warm_start_are_quick(tmp_path: Path) -> None:
    took_s = []
    for _ in range(2):
        began = time.monotonic()
        async with await EmbeddedPostgres.start(tmp_path / "kept") as postgres:
            took_s.append(time.monotonic() - began)
            assert await query(postgres.url, "SELECT 1") == "1"
    print(f"cold start {took_s[0]:.3f} s, warm start {took_s[1]:.3f} s")
    assert max(took_s) < NOISY_MACHINE_S


async def test_a_named_directory_keeps_data_port_and_password(tmp_path: Path) -> None:
    async with await EmbeddedPostgres.start(tmp_path / "kept") as postgres:
        url = postgres.url
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE TABLE fills AS SELECT 'F1' AS fill_id")
        await connection.close()
    assert not postgres.is_running
    async with await EmbeddedPostgres.start(tmp_path / "kept") as postgres:
        assert postgres.url == url
        assert await query(url, "SELECT fill_id FROM fills") == "F1"


async def test_named_files_are_safe_against_a_crash_and_throwaway_files_are_not(tmp_path: Path) -> None:
    async with await EmbeddedPostgres.start(tmp_path / "kept") as kept:
        assert await query(kept.url, "SHOW fsync") == "on"
    async with await EmbeddedPostgres.start(durable=False, temporary_parent=tmp_path) as throwaway:
        assert await query(throwaway.url, "SHOW fsync") == "off"
        assert await query(throwaway.url, "SHOW synchronous_commit") == "off"


async def test_the_database_is_utf8_in_code_point_order_and_utc(postgres_server: TestServer) -> None:
    url = postgres_server.postgres.url
    assert await query(url, "SHOW server_encoding") == "UTF8"
    assert await query(url, "SHOW timezone") == "UTC"
    assert await query(url, "SELECT string_agg(x, '' ORDER BY x) FROM (VALUES ('a'), ('B'), ('é')) t(x)") == "Baé"


async def test_another_port_is_taken_when_the_last_one_is_not_free(tmp_path: Path) -> None:
    async with await EmbeddedPostgres.start(tmp_path / "first") as first:
        (tmp_path / "second").mkdir()
        (tmp_path / "second" / "postgres.port").write_text(f"{first.port}\n")
        async with await EmbeddedPostgres.start(tmp_path / "second") as second:
            assert second.port != first.port


async def test_a_password_is_needed_and_kept_from_other_users(tmp_path: Path) -> None:
    async with await EmbeddedPostgres.start(tmp_path / "kept") as postgres:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(
                host="127.0.0.1", port=postgres.port, user="steelyard", password="guess", database="postgres"
            )
        private = postgres.data_directory / "postgres.password"
        assert private.stat().st_mode & 0o077 == 0
        assert postgres.data_directory.stat().st_mode & 0o077 == 0


async def test_a_second_owner_of_a_directory_is_refused(tmp_path: Path) -> None:
    async with await EmbeddedPostgres.start(tmp_path / "kept") as first:
        with pytest.raises(EmbeddedError, match="in use by another embedded server") as refused:
            await EmbeddedPostgres.start(tmp_path / "kept")
        assert refused.value.reason is EmbeddedReason.DIRECTORY_IN_USE
        assert await query(first.url, "SELECT 1") == "1"


def test_a_directory_is_refused_while_another_process_owns_it(tmp_path: Path) -> None:
    owner = start_owner(tmp_path / "kept", ending="wait")
    try:
        with pytest.raises(EmbeddedError, match=f"process {owner.process.pid}"):
            EmbeddedPostgres.start_blocking(tmp_path / "kept")
    finally:
        owner.kill()


def test_a_directory_is_taken_over_at_once_from_a_killed_owner(tmp_path: Path) -> None:
    owner = start_owner(tmp_path / "kept", ending="wait")
    owner.kill()
    with EmbeddedPostgres.start_blocking(tmp_path / "kept") as postgres:
        assert postgres.is_running


async def test_a_server_left_without_owner_is_stopped_first(tmp_path: Path) -> None:
    async with await EmbeddedPostgres.start(tmp_path / "kept") as first:
        home = first.data_directory
    binaries = find_binaries()
    identity = choose_identity(binaries=binaries, home=home, home_is_new=False)
    stale = subprocess.Popen(
        [
            *(*identity.prefix, str(binaries.postgres), "-D", str(home / "postgres")),
            *("-p", str(first.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
        ],
        stderr=subprocess.DEVNULL,
    )
    seconds_until(lambda: "ready" in postmaster_file(home), at_most_s=NOISY_MACHINE_S)
    async with await EmbeddedPostgres.start(home) as second:
        assert stale.wait(1) == 0
        assert await query(second.url, "SELECT 1") == "1"


def postmaster_file(home: Path) -> str:
    file = home / "postgres" / "postmaster.pid"
    return file.read_text() if file.exists() else ""


async def test_a_stranger_with_the_number_of_a_dead_server_is_left_alone(tmp_path: Path) -> None:
    async with await EmbeddedPostgres.start(tmp_path / "kept") as postgres:
        home = postgres.data_directory
        left = postmaster_file(home)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        lines = [str(stranger.pid), *left.splitlines()[1:]]
        (home / "postgres" / "postmaster.pid").write_text("\n".join(lines) + "\n")
        async with await EmbeddedPostgres.start(home) as again:
            assert await query(again.url, "SELECT 1") == "1"
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_a_first_start_that_was_cut_off_is_begun_anew(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path / "kept")
    binaries = find_binaries()
    identity = choose_identity(binaries=binaries, home=directory.home, home_is_new=True)
    steps = run_initdb(directory=directory, binaries=binaries, identity=identity, durable=True)
    for _ in range(20):
        next(steps)
    steps.close()
    directory.close()
    async with await EmbeddedPostgres.start(tmp_path / "kept") as postgres:
        assert await query(postgres.url, "SELECT 1") == "1"


async def test_files_of_another_major_version_are_refused_with_both_versions(tmp_path: Path) -> None:
    async with await EmbeddedPostgres.start(tmp_path / "kept") as postgres:
        version = postgres.data_directory / "postgres" / "PG_VERSION"
    version.write_text("9\n")
    with pytest.raises(EmbeddedError, match=r"made by PostgreSQL 9, but .* is PostgreSQL \d\d") as refused:
        await EmbeddedPostgres.start(tmp_path / "kept")
    assert refused.value.reason is EmbeddedReason.VERSION_MISMATCH


def test_the_command_line_of_a_process_that_is_gone_is_empty() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert command_line(ended.pid) == []
