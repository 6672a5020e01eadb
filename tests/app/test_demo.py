"""`steelyard demo --file ... --json` against an independent replay of the same rows, and what it makes of bad input."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from steelyard.app.samples import NINJATRADER_HEADER, generate_day
from tests.app.processes import run
from tests.imports.reference import expected_rows
from tests.oracle import OracleFill, OracleInstrument, OraclePosition, replay
from tests.oracle.performance import CalendarDays, by_day, completed

MULTIPLIERS = {"MNQ": "2", "ES": "50", "MES": "5", "CL": "1000", "MGC": "10"}
FILLS = 400
MORNING_FILLS = 150
METHOD = "FIFO"
"""A futures journal's accounts are kept by lots, first in first out."""
Document = dict[str, Any]


def demo(*files: Path) -> Document:
    named = [word for file in files for word in ("--file", str(file))]
    result = run("demo", *named, "--json", timeout_s=120)
    assert result.returncode == 0, result.stderr
    document: Document = json.loads(result.stdout)
    return document


def replayed(text: str) -> Sequence[OraclePosition]:
    """The oracle's positions of a NinjaTrader file."""
    rows = [
        OracleFill(
            fill_id=str(name),
            account=str(account),
            instrument=str(instrument),
            side=str(side),
            quantity=str(quantity),
            price=str(price),
            fee=str(fee),
            executed_at=at,
            source_sequence=rank,
        )
        for account, instrument, at, side, quantity, price, fee, rank, _order, name in (
            _typed(row) for row in expected_rows(text)
        )
    ]
    instruments = {
        row.instrument: OracleInstrument(
            name=row.instrument, multiplier=MULTIPLIERS[row.instrument.split()[0]], settle_currency="USD"
        )
        for row in rows
    }
    return list(replay(rows, instruments=instruments).values())


def _typed(row: tuple[object, ...]) -> tuple[Any, ...]:
    return row


def instant(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1_000_000)


def told_trip(trip: Document) -> tuple[Any, ...]:
    """A round trip of the document in the oracle's terms."""
    return (
        trip["account"],
        trip["instrument"],
        instant(trip["opened_at"]),
        trip["direction"],
        Fraction(trip["entered_quantity"]),
        Fraction(trip["max_quantity"]),
        Fraction(trip["average_entry_price"]),
        None if trip["average_exit_price"] is None else Fraction(trip["average_exit_price"]),
        Fraction(trip["gross_realized_pnl"]),
        Fraction(trip["fees"]),
        Fraction(trip["net_realized_pnl"]),
        None if trip["closed_at"] is None else instant(trip["closed_at"]),
        trip["fill_count"],
    )


@pytest.fixture(scope="module")
def day() -> str:
    return "".join(generate_day(11, fills=FILLS, leave_open=3))


@pytest.fixture(scope="module")
def shown(day: str, tmp_path_factory: pytest.TempPathFactory) -> Document:
    """The morning's export and then the whole day's, as the demo shows them."""
    folder = tmp_path_factory.mktemp("exports")
    morning, whole = folder / "morning.csv", folder / "day.csv"
    morning.write_text("".join(day.splitlines(keepends=True)[: MORNING_FILLS + 1]))
    whole.write_text(day)
    return demo(morning, whole)


@pytest.mark.xdist_group("demo")
def test_a_growing_export_records_each_fill_once(shown: Document) -> None:
    counts = [
        {name: one[name] for name in ("file", "rows", "recorded", "repeated", "conflicting", "rejected", "build_state")}
        for one in shown["imports"]
    ]
    none = {"conflicting": 0, "rejected": 0, "build_state": "SUCCEEDED"}
    assert counts == [
        {"file": "morning.csv", "rows": MORNING_FILLS, "recorded": MORNING_FILLS, "repeated": 0, **none},
        {"file": "day.csv", "rows": FILLS, "recorded": FILLS - MORNING_FILLS, "repeated": MORNING_FILLS, **none},
    ]


@pytest.mark.xdist_group("demo")
def test_round_trips_are_those_of_an_independent_replay(shown: Document, day: str) -> None:
    expected = sorted(
        (
            trip.key.account,
            trip.key.instrument,
            trip.opened_at,
            trip.direction,
            trip.entered_quantity,
            trip.max_quantity,
            trip.average_entry,
            trip.average_exit if trip.closed_at is not None else None,
            trip.gross_pnl[METHOD],
            trip.fees,
            trip.net_pnl[METHOD],
            trip.closed_at,
            trip.fill_count,
        )
        for position in replayed(day)
        for trip in position.trips
    )
    found = [told_trip(trip) for trip in shown["round_trips"]]
    assert len(found) > 50
    assert sum(trip["closed_at"] is None for trip in shown["round_trips"]) == 3
    assert [one[:3] for one in found] == [one[:3] for one in expected], "sorted by account, instrument and opening"
    assert sorted(found, key=str) == sorted(expected, key=str)


@pytest.mark.xdist_group("demo")
def test_positions_are_those_of_an_independent_replay(shown: Document, day: str) -> None:
    expected = {
        (position.key.account, position.key.instrument): (
            position.quantity,
            position.figures[METHOD].average if position.quantity else None,
            position.figures[METHOD].gross_realized_pnl,
            position.figures[METHOD].net_realized_pnl,
            position.fees,
            position.fill_count,
        )
        for position in replayed(day)
    }
    found = {
        (position["account"], position["instrument"]): (
            Fraction(position["quantity"]),
            None if position["average_price"] is None else Fraction(position["average_price"]),
            Fraction(position["gross_realized_pnl"]),
            Fraction(position["net_realized_pnl"]),
            Fraction(position["fees"]),
            position["fill_count"],
        )
        for position in shown["positions"]
    }
    assert found == expected


@pytest.mark.xdist_group("demo")
def test_daily_performance_is_that_of_an_independent_replay(shown: Document, day: str) -> None:
    positions = replayed(day)
    expected = {}
    for account in {position.key.account for position in positions}:
        own = [position for position in positions if position.key.account == account]
        for (currency, on), figures in by_day(completed(own, method=METHOD), CalendarDays("America/Chicago")).items():
            expected[account, currency, on.isoformat()] = (
                figures.net,
                figures.gross,
                figures.total_trades,
                figures.winning,
                figures.losing,
                figures.scratch,
            )
    found = {
        (one["account"], one["settle_currency"], one["day"]): (
            Fraction(one["net_pnl"]),
            Fraction(one["gross_pnl"]),
            one["total_trades"],
            one["winning_trades"],
            one["losing_trades"],
            one["scratch_trades"],
        )
        for one in shown["performance"]
    }
    assert found == expected
    assert [(one["account"], one["day"]) for one in shown["performance"]] == sorted(
        (account, on) for account, _currency, on in expected
    )


@pytest.mark.xdist_group("demo")
def test_decimals_are_text_and_times_are_utc(shown: Document) -> None:
    assert list(_floats(shown)) == []
    for trip in shown["round_trips"]:
        assert datetime.fromisoformat(trip["opened_at"]).tzinfo == UTC


def _floats(value: Any) -> Iterable[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _floats(one)
    elif isinstance(value, list):
        for one in value:
            yield from _floats(one)


GOOD = "MNQ SEP25,Buy,2,21850.25,6/20/2025 1:00:00 PM,a1,Entry,2 L,,,$1.04,1,SIM-1,,\n"
CLOSE = "MNQ SEP25,Sell,2,21860.25,6/20/2025 1:05:00 PM,a2,Exit,-,,,$1.04,1,SIM-1,,\n"
ONE_BAD = {
    # file: (rows, what it gives: recorded, repeated, conflicting, rejected, and the category of what is said)
    "price": (GOOD.replace("a1", "b1").replace("21850.25", "many"), (0, 0, 0, 1), "parsing"),
    "action": (GOOD.replace("a1", "b2").replace("Buy", "Hold"), (0, 0, 0, 1), "validation"),
    "root": (GOOD.replace("a1", "b3").replace("MNQ", "XQZ"), (0, 0, 0, 1), "validation"),
    "conflict": (GOOD.replace("21850.25", "21851.25"), (0, 0, 1, 0), "conflict"),
    "twice": (CLOSE + CLOSE, (1, 0, 0, 1), "duplicate"),
    "truncated": (GOOD + GOOD.replace("a1", "b4")[:40], (0, 1, 0, 1), "parsing"),
}


def test_bad_rows_are_results_and_what_is_good_goes_on(tmp_path: Path) -> None:
    """The table of imports/FORMATS.md over the command line: one file with one fault each, into one database."""
    files = [tmp_path / f"{name}.csv" for name in ("good", *ONE_BAD, "windows")]
    files[0].write_text(NINJATRADER_HEADER + GOOD)
    for file, (rows, _counts, _category) in zip(files[1:-1], ONE_BAD.values(), strict=True):
        file.write_text(NINJATRADER_HEADER + rows)
    text = (NINJATRADER_HEADER + GOOD + CLOSE).replace("\n", "\r\n")
    files[-1].write_bytes(b"\xef\xbb\xbf" + text.encode())
    document = demo(*files)
    names = ("recorded", "repeated", "conflicting", "rejected")
    found = {
        Path(one["file"]).stem: (tuple(one[name] for name in names), [row["category"] for row in one["row_results"]])
        for one in document["imports"]
    }
    assert found == {
        "good": ((1, 0, 0, 0), []),
        **{name: (counts, [category]) for name, (_rows, counts, category) in ONE_BAD.items()},
        "windows": ((0, 2, 0, 0), []),
    }
    (trip,) = document["round_trips"]
    assert (trip["gross_realized_pnl"], trip["fees"], trip["net_realized_pnl"]) == ("40", "2.08", "37.92")


@pytest.mark.parametrize(
    ("content", "told"),
    [("Instrument,Price\nMNQ SEP25,1\n", "header"), ("", "header")],
    ids=["wrong header", "empty file"],
)
def test_a_file_that_is_refused_is_one_clear_line(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "wrong.csv"
    file.write_text(content)
    result = run("demo", "--file", str(file), "--json", timeout_s=120)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("steelyard: ")
    assert told in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_a_file_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    result = run("demo", "--file", str(tmp_path / "nothing.csv"), "--json")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"steelyard: {tmp_path / 'nothing.csv'}: No such file or directory\n"
