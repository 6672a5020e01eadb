"""The floors of coverage fail where a room is tested less than it must be."""

import json
from pathlib import Path

import pytest

from tools.coverage_floor import main

ROOM = "server/steelyard/accounting"


def report(folder: Path, *, covered: int) -> str:
    """A coverage report of one module of 100 statements, of which so many ran."""
    summary = {"num_statements": 100, "covered_lines": covered}
    path = folder / "report.json"
    path.write_text(json.dumps({"files": {f"{ROOM}/fold.py": {"summary": summary}}}), encoding="utf-8")
    return str(path)


def test_a_room_at_its_floor_passes(tmp_path: Path) -> None:
    assert main([report(tmp_path, covered=95), "90", f"{ROOM}=95"]) == 0


def test_a_room_under_its_floor_fails_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([report(tmp_path, covered=94), "90", f"{ROOM}=95"]) == 1
    assert f"{ROOM} is below its floor: 94.00 % of 95 %" in capsys.readouterr().err


def test_the_whole_under_its_floor_fails(tmp_path: Path) -> None:
    assert main([report(tmp_path, covered=89), "90"]) == 1


def test_a_room_that_was_not_measured_fails(tmp_path: Path) -> None:
    assert main([report(tmp_path, covered=100), "90", "server/steelyard/builds=95"]) == 1
