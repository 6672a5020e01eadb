"""Trader performance: what completed round trips add up to, per settle currency (DOMAIN 10).

A round trip belongs to the instant at which it closes. Winning, losing, streaks and drawdown go by its result, which is
net unless gross is asked for; both sums are always given. Money is exact; averages and ratios have 18 places,
half-even, the win rate 3. The sums themselves are counted where the trips lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum

from steelyard.accounting.units import PLACES_3, ZERO, Ratio, exactly, quotient, ratio_of

_MICROSECOND = timedelta(microseconds=1)


class Basis(StrEnum):
    """By which result a round trip has won or lost."""

    NET = "NET"
    """By price, less all valued fees, plus funding."""
    GROSS = "GROSS"
    """By price alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """The plain figures of a set of completed trips of one settle currency."""

    currency: str
    total: int
    """Completed round trips."""
    winning: int
    """With a result > 0."""
    losing: int
    """With a result < 0."""
    scratch: int
    """With a result of 0."""
    win_rate: Ratio
    """winning / total over all trips, scratches too, 3 places half-even; 0 when there are none."""
    net: Decimal
    gross: Decimal
    fees: Decimal
    fees_complete: bool
    """Whether every fee could be valued; where not, net figures are incomplete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """A figure and the number of trips it rests on; None where there were none."""

    value: Decimal | None
    sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldTime:
    """How long trips were held, and how many; averages to the microsecond, half-even. None where there were none."""

    average: timedelta | None
    shortest: timedelta | None
    longest: timedelta | None
    sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Streak:
    """The longest run of trips of one kind, in order of closing, among `sample` trips; a scratch ends any run."""

    length: int
    sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendedPerformance:
    """The figures that need more than sums, each with its sample size. By result, settle currency."""

    plain: Performance
    profit_factor: Sampled
    """Sum of wins / sum of losses; None without losses. Sample: wins and losses."""
    expectancy: Sampled
    """Average result of a trip."""
    average_win: Sampled
    average_loss: Sampled
    """Negative."""
    largest_win: Sampled
    largest_loss: Sampled
    """Negative."""
    hold_time: HoldTime
    winning_hold_time: HoldTime
    losing_hold_time: HoldTime
    long: Performance
    short: Performance
    longest_winning_streak: Streak
    longest_losing_streak: Streak
    max_drawdown: Sampled
    """Deepest fall of the running sum of results below its highest point so far, which starts at zero; >= 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendedSums:
    """What a store counts of a set of completed trips, from which the extended figures follow."""

    plain: Performance
    long: Performance
    short: Performance
    won: Decimal = ZERO
    """Sum of the results above zero."""
    lost: Decimal = ZERO
    """Sum of the results below zero; not positive."""
    largest_win: Decimal | None = None
    largest_loss: Decimal | None = None
    hold_time: HoldTime
    winning_hold_time: HoldTime
    losing_hold_time: HoldTime
    longest_wins: int = 0
    longest_losses: int = 0
    drawdown: Decimal = ZERO


def win_rate(winning: int, total: int) -> Ratio:
    """winning / total, 3 places half-even (3 of 8 is 0.375, 15 of 35 is 0.429); 0 when there are none."""
    return Ratio(quotient(Decimal(winning), Decimal(total), PLACES_3)) if total else Ratio(ZERO)


@exactly
def performance_of_sums(
    currency: str,
    *,
    total: int = 0,
    winning: int = 0,
    losing: int = 0,
    gross: Decimal = ZERO,
    fees: Decimal = ZERO,
    funding: Decimal = ZERO,
    fees_complete: bool = True,
) -> Performance:
    """The plain figures from sums that a store has already counted; without any, the zeros of no trips."""
    return Performance(
        currency=currency,
        total=total,
        winning=winning,
        losing=losing,
        scratch=total - winning - losing,
        win_rate=win_rate(winning, total),
        net=gross - fees + funding,
        gross=gross,
        fees=fees,
        fees_complete=fees_complete,
    )


def hold_time_of(
    held: timedelta | None = None, *, shortest: timedelta | None = None, longest: timedelta | None = None, sample: int
) -> HoldTime:
    """The hold times of `sample` trips that were held for `held` in all."""
    average = None
    if held is not None and sample:
        whole, rest = divmod(held // _MICROSECOND, sample)
        rounds_up = 2 * rest > sample or (2 * rest == sample and whole % 2 == 1)
        average = (whole + rounds_up) * _MICROSECOND
    return HoldTime(average=average, shortest=shortest, longest=longest, sample=sample)


@exactly
def extended_of_sums(sums: ExtendedSums) -> ExtendedPerformance:
    """The extended figures from sums that a store has already counted."""
    plain = sums.plain
    total, winning, losing = plain.total, plain.winning, plain.losing
    return ExtendedPerformance(
        plain=plain,
        profit_factor=Sampled(value=ratio_of(sums.won, -sums.lost) if losing else None, sample=winning + losing),
        expectancy=_average(sums.won + sums.lost, total),
        average_win=_average(sums.won, winning),
        average_loss=_average(sums.lost, losing),
        largest_win=Sampled(value=sums.largest_win, sample=winning),
        largest_loss=Sampled(value=sums.largest_loss, sample=losing),
        hold_time=sums.hold_time,
        winning_hold_time=sums.winning_hold_time,
        losing_hold_time=sums.losing_hold_time,
        long=sums.long,
        short=sums.short,
        longest_winning_streak=Streak(length=sums.longest_wins, sample=total),
        longest_losing_streak=Streak(length=sums.longest_losses, sample=total),
        max_drawdown=Sampled(value=sums.drawdown if total else None, sample=total),
    )


def no_trips(currency: str) -> ExtendedPerformance:
    """The extended figures of no trips at all."""
    zeros, never = performance_of_sums(currency), hold_time_of(sample=0)
    return extended_of_sums(
        ExtendedSums(
            plain=zeros, long=zeros, short=zeros, hold_time=never, winning_hold_time=never, losing_hold_time=never
        )
    )


def _average(total: Decimal, sample: int) -> Sampled:
    return Sampled(value=ratio_of(total, Decimal(sample)) if sample else None, sample=sample)
