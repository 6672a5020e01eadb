"""How trading went, as callers get it.

Names and meanings are those of the contract (`protos/steelyard/v1/performance.proto`), which says more of each field.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from steelyard.client.reports import DayRule, Performance


class PerformanceBasis(StrEnum):
    """By which result a round trip has won or lost."""

    NET = "NET"
    GROSS = "GROSS"


class PerformanceGrouping(StrEnum):
    """What round trips are grouped by; days, weeks, months and weekdays are those of the trading day of the close."""

    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"
    WEEKDAY = "WEEKDAY"
    HOUR = "HOUR"
    INSTRUMENT = "INSTRUMENT"
    BOOK = "BOOK"
    DIRECTION = "DIRECTION"
    LABEL = "LABEL"


class EquityCurvePoints(StrEnum):
    """What an equity curve has a point for."""

    PER_GROUP = "PER_GROUP"
    PER_TRIP = "PER_TRIP"


class PerformanceChangeCause(StrEnum):
    """Why watched figures are told."""

    BEGIN = "BEGIN"
    TRIPS = "TRIPS"
    NEW_DAY = "NEW_DAY"


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyPerformance:
    """How a day went: round trips closed in [interval_start_at, interval_end_at)."""

    day: date
    day_rule: DayRule
    interval_start_at: datetime
    interval_end_at: datetime
    currencies: tuple[Performance, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeeklyPerformance:
    """How a week went, which begins with a Monday."""

    week_start_day: date
    day_rule: DayRule
    interval_start_at: datetime
    interval_end_at: datetime
    currencies: tuple[Performance, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledFigure:
    """A figure and the number of round trips it rests on."""

    value: Decimal | None
    sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldTime:
    """How long round trips were held."""

    average: timedelta | None
    shortest: timedelta | None
    longest: timedelta | None
    sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceStreak:
    """The longest run of round trips of one kind."""

    length: int
    sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendedPerformance:
    """Completed round trips of one settle currency, with everything there is to say about them."""

    plain: Performance
    profit_factor: SampledFigure
    expectancy: SampledFigure
    average_win: SampledFigure
    average_loss: SampledFigure
    largest_win: SampledFigure
    largest_loss: SampledFigure
    hold_time: HoldTime
    winning_hold_time: HoldTime
    losing_hold_time: HoldTime
    long: Performance
    short: Performance
    longest_winning_streak: PerformanceStreak
    longest_losing_streak: PerformanceStreak
    max_drawdown: SampledFigure


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceGroup:
    """The round trips of a range that have something in common; without a name their positions have not the label."""

    name: str | None
    day: date | None
    interval_start_at: datetime | None
    interval_end_at: datetime | None
    currencies: tuple[ExtendedPerformance, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EquityPoint:
    """The running sum of results up to the round trip that closed then."""

    closed_at: datetime
    equity_pnl: Decimal
    drawdown_pnl: Decimal
    total_trades: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EquityCurve:
    """The running sum of the results of one settle currency."""

    settle_currency: str
    points: tuple[EquityPoint, ...]
    trades_per_point: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RangePerformance:
    """How a range of time went: round trips closed in [interval_start_at, interval_end_at)."""

    day_rule: DayRule
    interval_start_at: datetime
    interval_end_at: datetime
    currencies: tuple[ExtendedPerformance, ...]
    groups: tuple[PerformanceGroup, ...]
    equity_curves: tuple[EquityCurve, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedPerformance:
    """Today and this week as of one moment."""

    cause: PerformanceChangeCause
    day_rule: DayRule
    day: date
    day_start_at: datetime
    day_end_at: datetime
    day_currencies: tuple[Performance, ...]
    week_start_day: date
    week_start_at: datetime
    week_end_at: datetime
    week_currencies: tuple[Performance, ...]
