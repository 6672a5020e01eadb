"""Ids for rows without one and ranks within a second: the same for the first rows of a file however it grows."""

from __future__ import annotations

import random

import pytest

from steelyard.app.samples import generate_day
from steelyard.imports import sequence
from tests.imports.files import generic, ninjatrader, read


def test_rows_alike_without_id_get_different_ids() -> None:
    parsed = read(ninjatrader({"ID": ""}, {"ID": ""}, {"ID": " ", "Price": "21,850.250"}, {"ID": "", "Quantity": "2"}))
    ids = [str(fill_id) for fill_id in parsed.column("fill_id")]
    assert len(set(ids)) == 4
    assert all(fill_id.startswith("row:") for fill_id in ids)
    # The content is in the hash, the occurrence behind it.
    assert len({fill_id.rsplit(":", 1)[0] for fill_id in ids}) == 2
    assert [fill_id.rsplit(":", 1)[1] for fill_id in ids] == ["1", "2", "3", "1"]


@pytest.mark.parametrize(
    "column, text", [("Commission", "$9.99"), ("Position", "7 L"), ("Name", "Somebody"), ("Connection", "Live")]
)
def test_id_does_not_depend_on_commission_position_and_names(column: str, text: str) -> None:
    one, other = (read(ninjatrader({"ID": "", **more})).column("fill_id") for more in ({}, {column: text}))
    assert one == other


@pytest.mark.parametrize(
    "column, text",
    [
        ("Account", "SIM-2"),
        ("Instrument", "ES SEP25"),
        ("Action", "Sell"),
        ("Quantity", "2"),
        ("Price", "21850.50"),
        ("Time", "6/20/2025 9:06:49 AM"),
        ("Order ID", "o2"),
    ],
)
def test_id_depends_on_what_was_executed(column: str, text: str) -> None:
    one, other = (read(ninjatrader({"ID": "", **more})).column("fill_id") for more in ({}, {column: text}))
    assert one != other


def test_generic_rows_without_id_are_numbered_too() -> None:
    ids = read(generic({"fill_id": ""}, {"fill_id": "", "fee": "1"}, {"fill_id": "", "book": "b"})).column("fill_id")
    assert [str(fill_id).rsplit(":", 1)[1] for fill_id in ids] == ["1", "2", "1"]


@pytest.mark.parametrize("with_ids", [True, False])
def test_first_rows_of_a_longer_file_are_the_rows_of_the_shorter_one(with_ids: bool) -> None:
    lines = list(generate_day(5, fills=400, accounts=2, with_ids=with_ids))
    random.Random(1).shuffle(tail := lines[1:])
    for rows in (lines[1:], tail):
        whole = read("".join([lines[0], *rows]))
        for length in (1, 57, 399):
            assert read("".join([lines[0], *rows[:length]])).rows == whole.rows[:length]


def test_second_that_is_visited_again_goes_on_counting() -> None:
    times = ["9:00:01", "9:00:02", "9:00:01", "9:00:03", "9:00:02", "9:00:01", "9:00:00", "9:00:03"]
    parsed = read(ninjatrader(*({"Time": f"6/20/2025 {time} AM"} for time in times)))
    assert parsed.column("source_sequence") == ["0", "0", "1", "0", "1", "2", "0", "1"]


def test_ranks_still_rise_when_states_had_to_be_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "KEYS_MAX", 2)
    rows = [{"Account": f"A{n % 5}"} for n in range(20)]
    parsed = read(ninjatrader(*rows))
    assert parsed.column("source_sequence") == [str(n // 5) for n in range(20)]
    generics = read(generic(*({"account": f"A{n % 5}"} for n in range(20))))
    assert generics.column("source_sequence") == [str(n // 5) for n in range(20)]


def test_seconds_that_share_a_cell_skip_numbers_but_never_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "CELLS", 1)
    times = [f"9:00:0{n % 3}" for n in range(12)]
    parsed = read(ninjatrader(*({"Time": f"6/20/2025 {time} AM"} for time in times)))
    for second in range(3):
        ranks = [int(str(rank)) for rank in parsed.column("source_sequence")[second::3]]
        assert ranks == sorted(set(ranks))


def test_rows_in_time_order_are_numbered_however_many_were_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "OCCURRENCES_MAX", 3)
    rows = [
        {"ID": "", "Account": account, "Time": f"6/20/2025 9:{n // 60:02d}:{n % 60:02d} AM"}
        for account in "AB"
        for n in range(100)
        for _ in range(2)
    ]
    parsed = read(ninjatrader(*rows))
    assert parsed.results == []
    assert len(set(parsed.column("fill_id"))) == 400


def test_row_without_id_in_a_forgotten_second_is_refused_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "OCCURRENCES_MAX", 3)
    rows = [{"ID": "", "Time": f"6/20/2025 9:00:{n:02d} AM"} for n in range(10)]
    parsed = read(ninjatrader(*rows, rows[2], rows[8], {"Time": "6/20/2025 9:00:02 AM"}))
    assert parsed.reasons == [(12, "parsing", "ID")]
    assert "sort the file by time" in parsed.results[0].reason


def test_rows_without_id_of_too_many_keys_are_refused_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "KEYS_MAX", 2)
    rows = [{"ID": "", "Account": account} for account in ("A", "B", "C", "A", "A")]
    parsed = read(ninjatrader(*rows, {"ID": "", "Account": "A", "Price": "1"}))
    # A is remembered with its content; C and A's new content may have been there before.
    assert [number for number, _, _ in parsed.reasons] == [4, 7]
    assert [str(fill_id)[-1] for fill_id in parsed.column("fill_id")] == ["1", "1", "2", "3"]
