"""`steelyard migrate` brings a database to a revision and says from where to where."""

import asyncio
from pathlib import Path

import pytest

from steelyard.app.migrate import migrate
from steelyard.app.settings import read_settings
from steelyard.app.store import StoreNotReady
from steelyard.migrations import head_revision
from tests.app.processes import run


def migrated(url: str, revision: str) -> list[str]:
    """What is said."""
    said: list[str] = []
    settings = read_settings({"STEELYARD_DATABASE_URL": url})
    assert asyncio.run(migrate(settings, revision=revision, say=said.append))
    return said


def test_a_database_goes_up_down_and_up_again(empty_database_url: str) -> None:
    head = head_revision()
    for wanted, now, before in [
        ("head", head, "none"),
        ("base", "none", head),
        ("0001", "0001", "none"),
        ("head", head, "0001"),
        ("0001", "0001", head),
    ]:
        said = migrated(empty_database_url, wanted)
        assert said == [f"the database is at revision {now}, was at {before}"]


def test_the_embedded_database_is_migrated_by_its_folder(tmp_path: Path) -> None:
    result = run("migrate", "--data", str(tmp_path / "data"))
    assert result.stdout == f"the database is at revision {head_revision()}, was at none\n"


@pytest.mark.parametrize("wanted", ["nine", "0000_nothing"])
def test_an_unknown_revision_is_refused_by_name(wanted: str, database_url: str) -> None:
    with pytest.raises(StoreNotReady, match=wanted):
        migrated(database_url, wanted)


def test_a_store_that_is_away_is_one_clear_line() -> None:
    result = run("migrate", STEELYARD_DATABASE_URL="postgresql://nobody:secret@127.0.0.1:1/nothing")
    assert result.returncode == 1
    assert result.stderr.startswith("steelyard: the database cannot be migrated: ")
    assert len(result.stderr.splitlines()) == 1
    assert "secret" not in result.stderr
