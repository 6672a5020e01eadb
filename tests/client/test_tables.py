"""What the eye gets: rounded, dashes for what is absent, and never a minus zero."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from steelyard.cli import tables


@pytest.mark.parametrize(
    "value, quantity, money",
    [
        (None, "-", "-"),
        ("0", "0", "0"),
        ("-0.000000001", "0", "0"),
        ("1000", "1000", "1000"),
        ("25006.123456789", "25006.12345679", "25006.12"),
        ("-483.335", "-483.335", "-483.34"),
        ("0.00012345", "0.00012345", "0.00012345"),
        ("1e30", "1" + "0" * 30, "1" + "0" * 30),
    ],
)
def test_numbers_are_rounded_for_the_eye(value: str | None, quantity: str, money: str) -> None:
    number = None if value is None else Decimal(value)
    assert (tables.shown(number), tables.amount(number)) == (quantity, money)


def test_gains_are_green_and_losses_red() -> None:
    styles = [str(tables.money(Decimal(value)).style) for value in (1, -1, 0)]
    assert styles == ["green", "red", ""]


@pytest.mark.parametrize(
    "seconds, text", [(0, "0s"), (59, "59s"), (190, "3m 10s"), (7_200, "2h"), (187_200, "2d 4h"), (86_460, "1d 1m")]
)
def test_a_duration_is_told_in_its_two_largest_units(seconds: int, text: str) -> None:
    assert tables.duration(timedelta(seconds=seconds)) == text


def test_a_time_is_told_in_utc_to_the_minute() -> None:
    assert tables.moment(datetime(2025, 6, 20, 14, 5, 59, tzinfo=UTC)) == "2025-06-20 14:05"
    assert tables.moment(None) == "-"


def test_empty_answers_say_so() -> None:
    assert tables.positions_table([]) == "no positions"
    assert tables.trips_table([]) == "no round trips"
    assert tables.builds_table([]) == "no builds"
    assert tables.accounts_table([]) == "no accounts"
    assert tables.instruments_table([]) == "no instruments"
    assert tables.performance_table([]) == "no completed round trips"
