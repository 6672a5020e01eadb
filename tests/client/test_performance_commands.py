"""`steelyard perf`, against a service as a process: ranges, groups, tables for the eye, and a watch of lines."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from steelyard.cli import register
from tests.app.processes import Serving, command, environment, serving

COMMANDS = typer.Typer()
register(COMMANDS)
RANGE = ("--from", "2025-06-19", "--to", "2025-06-20")

pytestmark = pytest.mark.xdist_group("commands")


def run(*arguments: str) -> Any:
    """Runs a command in this process: the service is another one."""
    result = CliRunner().invoke(COMMANDS, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A service with two days of executions in it."""
    folder = tmp_path_factory.mktemp("served")
    file = folder / "days.csv"
    file.write_text(
        "fill_id,account,book,instrument,side,quantity,price,fee,fee_currency,executed_at\n"
        "a,DESK,main,ES SEP25,BUY,1,6000,1,,2025-06-19T14:10:00Z\n"
        "b,DESK,main,ES SEP25,SELL,1,6002,1,,2025-06-19T14:20:00Z\n"
        "c,DESK,swing,ES SEP25,SELL,2,6010,1,,2025-06-20T15:00:00Z\n"
        "d,DESK,swing,ES SEP25,BUY,2,6011,1,,2025-06-20T18:00:00Z\n"
    )
    with serving(folder, "--data", str(folder / "data")) as service:
        done = run("import", str(file), "--server", service.address)
        assert done.exit_code == 0, done.output
        yield service
        assert service.end() == 0


def told(service: Serving, *arguments: str) -> Any:
    """The JSON document a command prints."""
    done = run("perf", *arguments, "--json", "--server", service.address)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("day", ["2025-06-19", "2025-06-20"]),
        ("week", ["2025-06-16"]),
        ("month", ["2025-06"]),
        ("weekday", ["THURSDAY", "FRIDAY"]),
        ("hour", ["09", "13"]),
        ("instrument", ["ES SEP25"]),
        ("book", ["main", "swing"]),
        ("direction", ["LONG", "SHORT"]),
        ("label=strategy", [None]),
    ],
)
def test_a_range_is_told_by_anything_it_can_be_grouped_by(service: Serving, by: str, names: list[str | None]) -> None:
    found = told(service, *RANGE, "--by", by)
    assert [group["name"] for group in found["groups"]] == names
    (all_of_it,) = found["currencies"]
    assert (all_of_it["plain"]["net_pnl"], all_of_it["plain"]["total_trades"]) == ("-4", 2)
    assert (all_of_it["hold_time"]["average"], all_of_it["hold_time"]["sample"]) == ("5700", 2)
    shown = run("perf", *RANGE, "--by", by, "--server", service.address).stdout
    for text in (names[0] or "(without)", "profit factor", "deepest drawdown", "longest run"):
        assert text in shown


def test_days_and_weeks_bound_a_range_too(service: Serving) -> None:
    one_day = told(service, "--day", "2025-06-20", "--by", "hour")
    assert [group["name"] for group in one_day["groups"]] == ["13"]
    week = told(service, "--day", "2025-06-20", "--week", "--by", "day", "--zone", "UTC")
    assert week["interval_start_at"] == "2025-06-16T00:00:00Z"
    assert len(week["groups"]) == 2
    assert told(service, "--by", "day")["groups"] == []


def test_gross_and_the_curve_are_told(service: Serving) -> None:
    found = told(service, *RANGE, "--gross", "--curve")
    assert [point["equity_pnl"] for point in found["equity_curves"][0]["points"]] == ["100", "0"]
    assert found["currencies"][0]["plain"]["net_pnl"] == "-4"
    assert "below the highest" in run("perf", *RANGE, "--curve", "--server", service.address).stdout


def test_books_and_labels_narrow_the_range(service: Serving) -> None:
    assert told(service, *RANGE, "--book", "swing")["currencies"][0]["plain"]["total_trades"] == 1
    both = told(service, *RANGE, "--book", "swing", "--book", "main")
    assert both["currencies"][0]["plain"]["total_trades"] == 2
    assert told(service, *RANGE, "--label", "strategy=trend")["currencies"] == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--by", "moon"], "none of day, week"),
        (["--by", "label"], "label=strategy"),
        (["--by", "day=x"], "label=strategy"),
        ([*RANGE, "--week"], "exclude"),
        (["--watch"], "needs an --account"),
        (["--watch", "--account", "DESK", "--by", "day"], "takes no range"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(arguments: list[str], line: str) -> None:
    done = run("perf", *arguments)
    assert done.exit_code == 1
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


def test_watched_figures_are_lines(service: Serving) -> None:
    watching = subprocess.Popen(
        command("perf", "--watch", "--account", "DESK", "--json", "--server", service.address),
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    try:
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        assert (first["cause"], first["day_currencies"]) == ("BEGIN", [])
    finally:
        watching.kill()
        watching.wait()
