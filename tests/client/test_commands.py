"""The commands a trader types, against `steelyard serve` as a process: what they print, and how they fail."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from steelyard.cli import register
from tests.app.processes import Serving, command, environment, serving, until

COMMANDS = typer.Typer()
register(COMMANDS)

HEADER = "Instrument,Action,Quantity,Price,Time,ID,E/X,Position,Order ID,Name,Commission,Rate,Account,Connection,"
ROWS = (
    "MNQ SEP25,Buy,2,21850.25,6/20/2025 9:06:48 AM,1_1,Entry,2 L,,,$1.00,1,EVAL-1,,",
    "MNQ SEP25,Sell,2,21870.25,6/20/2025 9:09:58 AM,2_1,Exit,-,,,$1.00,1,EVAL-1,,",
    "ES SEP25,Sell,1,6000,6/20/2025 9:10:00 AM,3_1,Entry,1 S,,,$2.00,1,EVAL-2,,",
)
BAD_ROW = "MNQ SEP25,Hold,2,21850.25,6/20/2025 9:11:48 AM,4_1,Entry,2 L,,,$1.00,1,EVAL-1,,"

pytestmark = pytest.mark.xdist_group("commands")


def write(path: Path, *rows: str) -> Path:
    path.write_text("\n".join((HEADER, *rows)) + "\n")
    return path


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A service with a day of executions in it."""
    folder = tmp_path_factory.mktemp("served")
    with serving(folder, "--data", str(folder / "data")) as service:
        done = run("import", str(write(folder / "day.csv", *ROWS, BAD_ROW)), "--server", service.address)
        assert done.returncode == 0, done.stderr
        assert "Hold" in done.stdout
        yield service
        assert service.end() == 0


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def run(*arguments: str) -> Done:
    """Runs a command in this process: the service is another one."""
    result = CliRunner().invoke(COMMANDS, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def told(service: Serving, *arguments: str, status: int = 0) -> Any:
    """The JSON document a command prints."""
    done = run(*arguments, "--json", "--server", service.address)
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


def shown(service: Serving, *arguments: str) -> str:
    """What a command prints for the eye."""
    done = run(*arguments, "--server", service.address)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_import_sums_up_what_became_of_each_row(service: Serving, tmp_path: Path) -> None:
    grown = write(tmp_path / "later.csv", *ROWS, BAD_ROW, ROWS[0].replace("1_1", "5_1").replace("9:06", "9:16"))
    (taken,) = told(service, "import", str(grown), "--validate-only")
    counts = taken["outcome"]["trade_import"]
    assert [counts[name] for name in ("rows", "recorded", "repeated", "conflicting", "rejected")] == [5, 1, 3, 0, 1]
    (row,) = taken["outcome"]["rows"]
    assert (row["row_number"], row["category"], row["field"]) == (5, "VALIDATION", "Action")
    assert taken["build"] is None


def test_positions_are_told_with_exact_decimals(service: Serving) -> None:
    flat, short = told(service, "positions")
    assert (flat["instrument"], flat["quantity"], flat["net_realized_pnl"]) == ("MNQ SEP25", "0", "78")
    assert (short["instrument"], short["quantity"], short["average_price"]) == ("ES SEP25", "-1", "6000")
    assert [position["instrument"] for position in told(service, "positions", "--open")] == ["ES SEP25"]
    assert told(service, "positions", "--account", "EVAL-1", "--size-min", "1") == []
    (full,) = told(service, "positions", "--open", "--full")
    assert full["lots"]["average_price"] == "6000"
    assert "ES SEP25" in shown(service, "positions")


def test_trips_of_all_accounts_or_one_are_told(service: Serving) -> None:
    closed, still_open = told(service, "trips")
    assert (closed["direction"], closed["gross_realized_pnl"], closed["net_realized_pnl"]) == ("LONG", "80", "78")
    assert (still_open["state"], still_open["average_exit_price"]) == ("OPEN", None)
    assert told(service, "trips", "--account", "EVAL-2", "--closed") == []
    assert len(told(service, "trips", "--limit", "1")) == 1
    assert "21850.25" in shown(service, "trips", "--closed")


def test_a_portfolio_names_the_prices_it_lacks(service: Serving) -> None:
    (currency,) = told(service, "portfolio", "--positions")["currencies"]
    assert (currency["open_count"], currency["missing_prices"], currency["complete"]) == (1, ["ES SEP25"], False)
    assert currency["gross_realized_pnl"] == "80"
    text = shown(service, "portfolio", "--positions")
    assert "without a price" in text


@pytest.mark.parametrize("arguments", [["--day", "2025-06-20"], ["--day", "2025-06-18", "--week"]])
def test_performance_of_a_day_or_a_week_is_told(service: Serving, arguments: list[str]) -> None:
    (usd,) = told(service, "perf", *arguments)["currencies"]
    assert (usd["net_pnl"], usd["total_trades"], usd["win_rate"]) == ("78", 1, "1")
    assert "78" in shown(service, "perf", *arguments, "--zone", "America/Chicago")


def test_a_session_that_closed_before_gives_a_trade_to_the_next_day(service: Serving) -> None:
    session = ("--session", "09:00", "--zone", "America/Los_Angeles")
    assert told(service, "perf", "--day", "2025-06-20", *session)["currencies"] == []
    assert "no completed round trips" in shown(service, "perf", "--day", "2025-06-20", *session)


def test_accounts_and_instruments_are_listed(service: Serving) -> None:
    assert [account["account"] for account in told(service, "accounts")] == ["EVAL-1", "EVAL-2"]
    assert "LOTS" in shown(service, "accounts")
    root, contract = told(service, "instruments", "--prefix", "MNQ")
    assert (root["multiplier"], root["root"], contract["instrument"]) == ("2", True, "MNQ SEP25")
    assert "MNQ" in shown(service, "instruments")


def test_a_build_is_started_followed_listed_and_too_late_to_cancel(service: Serving) -> None:
    build = told(service, "build", "start", "--full")
    assert (build["state"], build["progress"]["percent"]) == ("SUCCEEDED", 100.0)
    assert build["build_id"] in shown(service, "build", "list")
    watched = run("build", "watch", build["build_id"], "--json", "--server", service.address)
    (line,) = watched.stdout.splitlines()
    assert json.loads(line)["state"] == "SUCCEEDED"
    assert "succeeded" in shown(service, "build", "watch", build["build_id"])
    for late in ("cancel", "retry"):
        done = run("build", late, build["build_id"], "--server", service.address)
        assert done.returncode == 1
        assert done.stderr.startswith("steelyard: BUILD_ALREADY_DONE")
    pair = told(service, "build", "start", "--pair", "EVAL-1:MNQ SEP25", "--no-wait")
    assert pair["mode"] == "INCREMENTAL"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["positions", "--account", "no  good"], "accounts[0]:"),
        (["positions", "--size-min", "many"], "--size-min: 'many' is no number"),
        (["trips", "--open", "--closed"], "exclude each other"),
        (["build", "watch", "7"], "build_id:"),
        (["build", "watch", "00000000-0000-4000-8000-000000000000"], "NOT_FOUND"),
        (["build", "start", "--pair", "EVAL-1"], "is not ACCOUNT:INSTRUMENT"),
        (["build", "start", "--pair", "A:B", "--account", "A"], "exclude each other"),
        (["import"], "name FILES"),
        (["import", "nowhere.csv"], "there is no file nowhere.csv"),
        (["import", "--format", "xls", "nowhere.csv"], "'xls' is none of ninjatrader, generic_csv"),
        (["perf", "--zone", "Mars/Olympus"], "day_rule"),
    ],
)
def test_a_failure_is_one_clear_line_and_a_status_above_0(service: Serving, arguments: list[str], words: str) -> None:
    done = run(*arguments, "--server", service.address)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("steelyard: ")
    assert words in line


def test_a_file_of_no_known_format_is_refused_on_one_line(service: Serving, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear Sir,\n")
    done = run("import", str(tmp_path / "letter.txt"), "--server", service.address)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (1, 1)


def test_without_a_service_a_command_says_how_to_start_one() -> None:
    done = run("accounts", "--server", "127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr == "steelyard: no service at 127.0.0.1:1 (start one with: steelyard serve)\n"


def test_a_watched_folder_is_imported_by_content_once_it_lies_still(service: Serving, tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    folder.mkdir()
    first = write(folder / "a.csv", ROWS[0].replace("EVAL-1", "WATCH"))
    said = tmp_path / "said"
    with said.open("w") as out:
        watcher = subprocess.Popen(
            command("import", "--watch", str(folder), "--json", "--server", service.address),
            stdout=out, stderr=subprocess.STDOUT, env=environment(),
        )  # fmt: skip

    def taken() -> list[dict[str, Any]]:
        lines = [line for line in said.read_text().splitlines() if line.startswith("{")]
        return [json.loads(line)["outcome"]["trade_import"] for line in lines]

    try:
        until(lambda: len(taken()) == 1, what="the first file")
        (folder / "copy of a.csv").write_bytes(first.read_bytes())
        write(first, *(row.replace("EVAL-1", "WATCH") for row in ROWS[:2]))
        until(lambda: len(taken()) == 2, what="the grown file")
    finally:
        watcher.terminate()
        watcher.wait(30)
    counts = [(one["recorded"], one["repeated"]) for one in taken()]
    assert counts == [(1, 0), (1, 1)]
