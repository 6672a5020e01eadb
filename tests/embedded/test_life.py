"""The server lives exactly as long as its owner, whoever runs it and however the owner ends."""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from steelyard.embedded import EmbeddedPostgres
from steelyard.embedded.data_directory import TEMPORARY_PREFIX
from tests.embedded.owners import (
    as_ordinary_user,
    folder_of_programs,
    is_gone,
    seconds_until,
    start_owner,
    takes_connections,
)

ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="not checked: only root changes its user")
GONE_WITHIN_S = 2.0


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder where every user may make files; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def left_in(parent: Path) -> list[Path]:
    return list(parent.glob(f"{TEMPORARY_PREFIX}*"))


def test_killing_the_owner_ends_the_server(tmp_path: Path) -> None:
    owner = start_owner(tmp_path / "kept", ending="wait")
    owner.kill()
    after_s = seconds_until(lambda: is_gone(owner), at_most_s=GONE_WITHIN_S)
    print(f"server gone {after_s:.3f} s after its owner was killed")


def test_the_next_temporary_server_removes_what_a_killed_owner_left(tmp_path: Path) -> None:
    owner = start_owner(None, parent=tmp_path, ending="wait")
    owner.kill()
    seconds_until(lambda: is_gone(owner), at_most_s=GONE_WITHIN_S)
    assert left_in(tmp_path) == [owner.data_directory]
    with EmbeddedPostgres.start_blocking(durable=False, temporary_parent=tmp_path) as postgres:
        assert left_in(tmp_path) == [postgres.data_directory]
    assert left_in(tmp_path) == []


def test_the_folder_of_a_living_owner_is_not_removed(tmp_path: Path) -> None:
    with (
        EmbeddedPostgres.start_blocking(durable=False, temporary_parent=tmp_path) as first,
        EmbeddedPostgres.start_blocking(durable=False, temporary_parent=tmp_path) as second,
    ):
        assert set(left_in(tmp_path)) == {first.data_directory, second.data_directory}
        assert takes_connections(first.port)


@pytest.mark.parametrize(("ending", "status"), [("raise", 1), ("exit", 0), ("stop", 0)])
def test_an_owner_that_ends_takes_server_and_temporary_files_along(tmp_path: Path, ending: str, status: int) -> None:
    owner = start_owner(None, parent=tmp_path, ending=ending)
    assert owner.process.wait(10) == status
    owner.close()
    assert is_gone(owner)
    assert left_in(tmp_path) == []


def test_a_forked_child_that_ends_leaves_the_server_to_its_parent(tmp_path: Path) -> None:
    owner = start_owner(None, parent=tmp_path, ending="fork")
    assert owner.process.wait(10) == 0
    owner.close()
    assert is_gone(owner)


def test_an_ordinary_user_starts_a_server_and_its_death_ends_it(open_folder: Path) -> None:
    owner = start_owner(None, parent=open_folder, ending="wait", prefix=as_ordinary_user())
    assert owner.user != 0
    owner.kill()
    seconds_until(lambda: is_gone(owner), at_most_s=GONE_WITHIN_S)


def test_without_setpriv_a_pipe_ties_the_server_to_its_owner(tmp_path: Path, open_folder: Path) -> None:
    bare = folder_of_programs(tmp_path / "bin")
    owner = start_owner(None, parent=open_folder, ending="wait", prefix=as_ordinary_user(), search_path=str(bare))
    owner.kill()
    seconds_until(lambda: is_gone(owner), at_most_s=GONE_WITHIN_S)


def test_without_setpriv_a_stop_ends_the_server(tmp_path: Path, open_folder: Path) -> None:
    bare = folder_of_programs(tmp_path / "bin")
    owner = start_owner(None, parent=open_folder, ending="stop", prefix=as_ordinary_user(), search_path=str(bare))
    assert owner.process.wait(10) == 0
    owner.close()
    assert is_gone(owner)
    assert left_in(open_folder) == []


@ONLY_ROOT
@pytest.mark.parametrize("is_named", [True, False])
def test_root_without_user_namespaces_runs_the_server_as_another_user(
    tmp_path: Path, open_folder: Path, is_named: bool
) -> None:
    # As in a chroot or container; pytest's folders are closed to others, as a clone in /root is.
    bare = folder_of_programs(tmp_path / "bin", "setpriv", "true")
    owner = start_owner(
        tmp_path / "kept" if is_named else None, parent=open_folder, ending="wait", search_path=str(bare)
    )
    assert Path(f"/proc/{owner.server}").stat().st_uid != 0
    owner.kill()
    seconds_until(lambda: is_gone(owner), at_most_s=GONE_WITHIN_S)


@ONLY_ROOT
def test_files_made_under_one_user_are_served_under_another(tmp_path: Path) -> None:
    bare = folder_of_programs(tmp_path / "bin", "setpriv", "true")
    for search_path in (None, str(bare), None):
        owner = start_owner(tmp_path / "kept", ending="stop", search_path=search_path)
        assert owner.process.wait(10) == 0
        owner.close()


async def test_a_cancelled_start_leaves_nothing(tmp_path: Path) -> None:
    starting = asyncio.create_task(EmbeddedPostgres.start(durable=False, temporary_parent=tmp_path))
    await asyncio.sleep(0.2)
    assert not starting.done()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert left_in(tmp_path) == []


async def test_other_tasks_run_while_the_server_starts(tmp_path: Path) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.01)

    counting = asyncio.create_task(count())
    async with await EmbeddedPostgres.start(durable=False, temporary_parent=tmp_path) as postgres:
        assert postgres.is_running
    counting.cancel()
    assert turns > 10
