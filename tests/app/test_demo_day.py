"""`steelyard demo` as a newcomer runs it: a whole day, and a change of mind in the middle."""

import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.app.processes import END_S, command, environment, is_gone, run, until


@pytest.mark.slow
def test_a_day_is_shown_from_start_to_end(tmp_path: Path) -> None:
    result = run("demo", timeout_s=120, TMPDIR=str(tmp_path))
    assert result.returncode == 0, result.stderr
    for told in (
        "Positions, marked at the day's last execution prices",
        "Round trips, the first 15 of ",
        "Exposure in USD",
        "Performance by day",
        "20,000 rows: 20,000 recorded, 0 repeated, 0 conflicting, 0 rejected",
    ):
        assert told in result.stdout
    assert "succeeded: 20,000 of 20,000 fills" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.faults
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    with (tmp_path / "err").open("w+") as err:
        process = subprocess.Popen(
            command("demo"),
            env=environment(TMPDIR=str(tmp_path)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=err,
        )
        until(lambda: "serving on" in (tmp_path / "err").read_text(), what="the demo to start", timeout_s=60)
        children = {str(child.pid): child for child in psutil.Process(process.pid).children(recursive=True)}
        process.send_signal(signal.SIGINT)
        assert process.wait(END_S) == 130
    assert len(children) >= 2
    assert is_gone(children)
    assert (tmp_path / "err").read_text().splitlines()[-1] == "steelyard: interrupted"
    assert [path.name for path in tmp_path.iterdir()] == ["err"]


def test_json_needs_files() -> None:
    result = run("demo", "--json")
    assert result.returncode == 2
    assert "--file" in result.stderr
