"""Stretches of trading: the days, weeks and months of a range by a day rule, and where the wall clock jumps in it.

Round trips are counted where they lie, which knows nothing of trading days. So a range is cut here, by the same
calendar that answers every other question about days, and the cuts are handed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from steelyard.accounting.trading_calendar import (
    DayRule,
    Interval,
    day_interval,
    day_of,
    local_time,
    monday_of,
)

_DAY = timedelta(days=1)
_PRECISION = timedelta(microseconds=1)


class Length(StrEnum):
    """How long a stretch is."""

    DAY = "DAY"
    WEEK = "WEEK"
    """Monday to Monday."""
    MONTH = "MONTH"


@dataclass(frozen=True, slots=True)
class Period:
    """A stretch of trading days: its first day, and its half-open interval."""

    first_day: date
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class ClockShift:
    """From when on the wall clock is how far ahead of UTC."""

    since: datetime
    offset: timedelta


def periods_of(interval: Interval, rule: DayRule, *, length: Length) -> Sequence[Period]:
    """The periods that hold any of an interval, in order and without gap; the first and last may reach beyond it.

    Days that are empty by the rule, such as Saturdays where only weekdays trade, are left out. Raises `InvalidField`
    for days that no calendar reaches.
    """
    started_at, ended_at = interval
    if ended_at <= started_at:
        return ()
    day = _first_of(day_of(started_at, rule), length)
    begins = _beginning(day, rule)
    found: list[Period] = []
    while begins < ended_at:
        following = _first_of(day + _step(length), length)
        ends = _beginning(following, rule)
        if ends > begins:
            found.append(Period(day, begins, ends))
        day, begins = following, ends
    return found


def clock_shifts(interval: Interval, rule: DayRule) -> Sequence[ClockShift]:
    """How far the wall clock of the rule's zone is ahead of UTC throughout an interval; the first is its beginning."""
    at, ended_at = interval
    found = [ClockShift(at, _offset(at, rule))]
    while at < ended_at:
        following = min(at + _DAY, ended_at)
        offset = _offset(following, rule)
        if offset != found[-1].offset:
            found.append(ClockShift(_jump(at, following, rule=rule), offset))
        at = following
    return found


def _first_of(day: date, length: Length) -> date:
    if length is Length.WEEK:
        return monday_of(day)
    return day.replace(day=1) if length is Length.MONTH else day


def _beginning(day: date, rule: DayRule) -> datetime:
    """When the first day from this one on that is not empty begins: a weekend may belong to the Monday after it."""
    begins, ends = day_interval(day, rule)
    while begins == ends:
        day += _DAY
        begins, ends = day_interval(day, rule)
    return begins


def _step(length: Length) -> timedelta:
    """Leads from the first day of a period into the next one."""
    return {Length.DAY: _DAY, Length.WEEK: 7 * _DAY, Length.MONTH: 31 * _DAY}[length]


def _offset(at: datetime, rule: DayRule) -> timedelta:
    offset = local_time(at, rule).utcoffset()
    assert offset is not None
    return offset


def _jump(before: datetime, after: datetime, *, rule: DayRule) -> datetime:
    """The first instant with the offset that holds at `after`."""
    target = _offset(after, rule)
    while after - before > _PRECISION:
        middle = before + (after - before) // 2
        if _offset(middle, rule) == target:
            after = middle
        else:
            before = middle
    return after
