"""`steelyard migrate` brings a database to a revision and says from where to where."""

from pathlib import Path

import pytest

from steelyard.migrations import head_revision
from tests.app.processes import run


def test_a_database_goes_up_down_and_up_again(empty_database_url: str) -> None:
    head = head_revision()
    steps = [("head", head, "none"), ("base", "none", head), ("0001", "0001", "none"), ("head", head, "0001")]
    for wanted, now, before in steps:
        result = run("migrate", "--to", wanted, STEELYARD_DATABASE_URL=empty_database_url)
        assert result.stdout == f"the database is at revision {now}, was at {before}\n", result.stderr


def test_the_embedded_database_is_migrated_by_its_folder(tmp_path: Path) -> None:
    result = run("migrate", "--data", str(tmp_path / "data"))
    assert result.stdout == f"the database is at revision {head_revision()}, was at none\n"


@pytest.mark.parametrize("wanted", ["nine", "0000_nothing"])
def test_an_unknown_revision_is_one_clear_line(wanted: str, empty_database_url: str) -> None:
    result = run("migrate", "--to", wanted, STEELYARD_DATABASE_URL=empty_database_url)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert wanted in result.stderr
