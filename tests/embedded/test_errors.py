"""What a user reads when the embedded server cannot do its work."""

import errno
import os
from pathlib import Path

import pytest

from steelyard.embedded import Binaries, EmbeddedError, EmbeddedPostgres, EmbeddedReason
from steelyard.embedded.errors import from_os_error, from_server_output


async def test_a_server_that_does_not_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match='invalid value for parameter "shared_buffers"') as failed:
        await EmbeddedPostgres.start(tmp_path / "kept", settings={"shared_buffers": "plenty"})
    assert failed.value.reason is EmbeddedReason.START_FAILED
    async with await EmbeddedPostgres.start(tmp_path / "kept") as postgres:
        assert postgres.is_running


async def test_an_initdb_that_fails_shows_what_it_said(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("postgres", "exit 0"), ("initdb", "echo out of luck >&2; exit 1")):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    with pytest.raises(EmbeddedError, match="out of luck") as failed:
        await EmbeddedPostgres.start(tmp_path / "kept", binaries=Binaries(programs, 18))
    assert failed.value.reason is EmbeddedReason.START_FAILED


async def test_programs_nobody_can_run_are_named(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("not checked: only root looks for another user")
    with pytest.raises(EmbeddedError, match="PostgreSQL does not run as root") as failed:
        await EmbeddedPostgres.start(durable=False, binaries=Binaries(tmp_path, 18))
    assert failed.value.reason is EmbeddedReason.NOT_EXECUTABLE


async def test_a_file_in_place_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(EmbeddedError, match=r"taken cannot hold a database: Not a directory") as failed:
        await EmbeddedPostgres.start(tmp_path / "taken")
    assert failed.value.reason is EmbeddedReason.DIRECTORY_NOT_USABLE


def test_a_full_disk_is_named_as_such() -> None:
    from_file = from_os_error(OSError(errno.ENOSPC, "No space left on device"), "the folder d")
    from_log = from_server_output("PANIC: could not write: No space left on device", "no start")
    assert from_file.reason is from_log.reason is EmbeddedReason.DISK_FULL
    assert "the disk is full" in str(from_log)
