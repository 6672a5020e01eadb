"""Figures made of sums: win rates, averages and ratios, and what has no sample."""

from datetime import timedelta
from typing import Any

import pytest

from steelyard.accounting.performance import (
    ExtendedSums,
    HoldTime,
    extended_of_sums,
    hold_time_of,
    no_trips,
    performance_of_sums,
    win_rate,
)
from tests.accounting.cases import D

NEVER = hold_time_of(sample=0)


def sums(**more: Any) -> ExtendedSums:
    """The sums of seven trips: 10, 20 and 40 won, 5, 15 and 1 lost, one scratch."""
    plain = performance_of_sums("USD", total=7, winning=3, losing=3, gross=D(56), fees=D(7))
    base: dict[str, Any] = {
        "plain": plain,
        "long": performance_of_sums("USD", total=4, gross=D(39), fees=D(4)),
        "short": performance_of_sums("USD", total=3, gross=D(17), fees=D(3)),
        "won": D(70),
        "lost": D(-21),
        "largest_win": D(40),
        "largest_loss": D(-15),
        "hold_time": NEVER,
        "winning_hold_time": NEVER,
        "losing_hold_time": NEVER,
        "longest_wins": 2,
        "longest_losses": 3,
        "drawdown": D(21),
    }
    return ExtendedSums(**{**base, **more})


def test_the_worked_example_of_a_day() -> None:
    figures = performance_of_sums("USD", total=3, winning=2, losing=1, gross=D("277.75"), fees=D(3))
    assert (figures.net, figures.gross, figures.fees) == (D("274.75"), D("277.75"), D(3))
    assert (figures.total, figures.winning, figures.losing, figures.scratch) == (3, 2, 1, 0)
    assert figures.win_rate == D("0.667")
    assert figures.fees_complete


@pytest.mark.parametrize(
    "winning, total, rate",
    [(3, 8, "0.375"), (15, 35, "0.429"), (0, 0, "0"), (0, 3, "0"), (1, 1, "1"), (1, 16, "0.062")],
)
def test_win_rate_is_over_all_trips_with_three_places_half_even(winning: int, total: int, rate: str) -> None:
    assert win_rate(winning, total) == D(rate)


def test_a_scratch_counts_as_neither_and_lowers_the_win_rate() -> None:
    figures = performance_of_sums("USD", total=2, winning=1, gross=D(1))
    assert (figures.winning, figures.losing, figures.scratch, figures.win_rate) == (1, 0, 1, D("0.5"))


def test_net_is_gross_less_fees_plus_funding() -> None:
    assert performance_of_sums("USD", gross=D(10), fees=D("2.5"), funding=D("-0.75")).net == D("6.75")


def test_the_extended_figures_name_their_samples() -> None:
    figures = extended_of_sums(sums())
    assert (figures.profit_factor.value, figures.profit_factor.sample) == (D("3.333333333333333333"), 6)
    assert (figures.expectancy.value, figures.expectancy.sample) == (D(7), 7)
    assert (figures.average_win.value, figures.average_win.sample) == (D("23.333333333333333333"), 3)
    assert (figures.average_loss.value, figures.average_loss.sample) == (D(-7), 3)
    assert (figures.largest_win.value, figures.largest_win.sample) == (D(40), 3)
    assert (figures.largest_loss.value, figures.largest_loss.sample) == (D(-15), 3)
    assert (figures.longest_winning_streak.length, figures.longest_winning_streak.sample) == (2, 7)
    assert (figures.longest_losing_streak.length, figures.longest_losing_streak.sample) == (3, 7)
    assert (figures.max_drawdown.value, figures.max_drawdown.sample) == (D(21), 7)
    assert (figures.long.net, figures.short.net) == (D(35), D(14))


def test_without_losses_there_is_no_profit_factor() -> None:
    only_wins = performance_of_sums("USD", total=1, winning=1, gross=D(5))
    figures = extended_of_sums(sums(plain=only_wins, won=D(5), lost=D(0), largest_loss=None))
    assert (figures.profit_factor.value, figures.profit_factor.sample) == (None, 1)
    assert (figures.average_loss.value, figures.largest_loss.value) == (None, None)


def test_what_has_no_sample_has_no_value() -> None:
    figures = no_trips("USD")
    for each in (figures.profit_factor, figures.expectancy, figures.average_win, figures.average_loss):
        assert (each.value, each.sample) == (None, 0)
    for each in (figures.largest_win, figures.largest_loss, figures.max_drawdown):
        assert (each.value, each.sample) == (None, 0)
    assert figures.hold_time == HoldTime(average=None, shortest=None, longest=None, sample=0)
    assert figures.plain.win_rate == 0


@pytest.mark.parametrize(
    "held_us, sample, average_us, why",
    [
        (10, 3, 3, "a third is rounded down"),
        (11, 3, 4, "two thirds are rounded up"),
        (5, 2, 2, "a half goes to the even number below"),
        (7, 2, 4, "or above"),
    ],
)
def test_an_average_hold_time_is_rounded_to_the_microsecond(
    held_us: int, sample: int, average_us: int, why: str
) -> None:
    found = hold_time_of(timedelta(microseconds=held_us), sample=sample)
    assert found.average == timedelta(microseconds=average_us), why
