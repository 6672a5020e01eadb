"""The generator of sample files: the same by seed, plausible, and flat at the end but for what is left open."""

from __future__ import annotations

from collections import Counter
from datetime import date

import pytest

from steelyard.accounting.keys import root_of
from steelyard.app.samples import contracts_of, generate_day, generic_csv
from tests.imports.files import read


def test_same_seed_gives_the_same_day_and_another_seed_another() -> None:
    assert list(generate_day(4, fills=200)) == list(generate_day(4, fills=200))
    assert list(generate_day(4, fills=200)) != list(generate_day(5, fills=200))
    assert list(generic_csv(4, fills=50)) == list(generic_csv(4, fills=50))


@pytest.mark.parametrize("leave_open", [0, 1, 3])
def test_day_ends_flat_but_for_what_is_left_open(leave_open: int) -> None:
    parsed = read("".join(generate_day(9, fills=500, leave_open=leave_open)))
    held: Counter[object] = Counter()
    for row in parsed.rows:
        held[row["account"], row["instrument"]] += int(str(row["quantity"])) * (1 if row["side"] == "BUY" else -1)
    assert sum(quantity != 0 for quantity in held.values()) == leave_open


def test_day_has_what_days_have() -> None:
    parsed = read("".join(generate_day(9, fills=500, accounts=2)))
    assert parsed.results == []
    assert len(parsed.rows) == 500
    assert len(set(parsed.column("fill_id"))) == 500
    assert {root_of(str(name)) for name in parsed.column("instrument")} == {"MNQ", "ES", "MES", "CL", "MGC"}
    assert len(set(parsed.column("account"))) == 2
    assert parsed.column("executed_at") == sorted(str(at) for at in parsed.column("executed_at"))
    # Several executions in one second, and turns through flat.
    assert "1" in parsed.column("source_sequence")
    assert _flips(parsed.rows) > 0


def _flips(rows: list[dict[str, str | None]]) -> int:
    held: Counter[object] = Counter()
    flips = 0
    for row in rows:
        key = (row["account"], row["instrument"])
        before = held[key]
        held[key] += int(str(row["quantity"])) * (1 if row["side"] == "BUY" else -1)
        flips += before * held[key] < 0
    return flips


def test_generic_file_spreads_over_its_keys() -> None:
    parsed = read("".join(generic_csv(2, fills=120, accounts=3, books=("main", "hedge"), instruments=("ES SEP25",))))
    counts = Counter((row["account"], row["book"], row["instrument"]) for row in parsed.rows)
    assert parsed.results == []
    assert len(counts) == 6
    assert set(counts.values()) == {20}


@pytest.mark.parametrize(
    "day, expiry",
    [(date(2025, 6, 20), "SEP25"), (date(2025, 1, 2), "JUN25"), (date(2025, 12, 31), "MAR26")],
)
def test_contracts_expire_after_the_day(day: date, expiry: str) -> None:
    assert contracts_of(day)[0].name == f"MNQ {expiry}"
