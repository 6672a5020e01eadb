"""Days and weeks of trading: which day an instant belongs to, and from when to when a day lasts.

Problem: wall clocks jump. A day of a zone may have 23 or 25 hours, begin at 01:00 because midnight does not exist, or
see its midnight twice; yet every instant must belong to exactly one day, and a day must be one half-open interval.
Choice: a day is defined by where it begins, the first instant at which the wall clock has reached its opening time.
`day_of` guesses from the local date and corrects by those beginnings, so both questions cannot disagree.
Rejected: trusting the local date alone; where a clock is set back over midnight (00:01 -> 23:01) it calls the same
hour by two dates and a day by two intervals.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from steelyard.accounting.errors import InvalidField

DEFAULT_CALENDAR_ZONE = "America/Chicago"
DEFAULT_SESSION_ZONE = "America/Los_Angeles"
DEFAULT_SESSION_CLOSE = time(15, 0)

_DAY = timedelta(days=1)
_WEEK = timedelta(days=7)
_SATURDAY = 5
_FIRST_YEAR, _LAST_YEAR = 1900, 9990

Interval = tuple[datetime, datetime]
"""Half-open, aware UTC: from the first instant that belongs to it to the first that does not."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """Days from local midnight to local midnight."""

    zone: str = DEFAULT_CALENDAR_ZONE
    """IANA name."""


@dataclass(frozen=True, slots=True)
class Session:
    """Days that end at a local closing time; at it and after it the next day has begun."""

    close_time: time = DEFAULT_SESSION_CLOSE
    zone: str = DEFAULT_SESSION_ZONE
    """IANA name."""
    weekdays_only: bool = False
    """Saturday and Sunday belong to Monday, which then lasts from Friday's close."""


DayRule = Calendar | Session


def time_zone(name: str, *, field: str = "time_zone") -> ZoneInfo:
    """The zone that an IANA name means. Raises `InvalidField` for a name that is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidField(field, "is not an IANA time zone such as America/Chicago") from None


def day_of(instant: datetime, rule: DayRule) -> date:
    """The trading day an instant belongs to: the one day whose `day_interval` holds it."""
    zone = time_zone(rule.zone)
    local = instant.astimezone(zone)
    day = local.date()
    if isinstance(rule, Session) and local.time() >= rule.close_time:
        day += _DAY
    close, name = _opening(rule), rule.zone
    while instant < _beginning(day, close=close, zone=name):
        day -= _DAY
    while instant >= _beginning(day + _DAY, close=close, zone=name):
        day += _DAY
    return _weekday(day) if isinstance(rule, Session) and rule.weekdays_only else day


def week_of(instant: datetime, rule: DayRule) -> date:
    """The Monday of the week of an instant's trading day."""
    return monday_of(day_of(instant, rule))


def monday_of(day: date) -> date:
    """The Monday on or before a day."""
    return day - timedelta(days=day.weekday())


def day_interval(day: date, rule: DayRule) -> Interval:
    """From when to when a trading day lasts. With `weekdays_only` Monday begins at Friday's close, and Saturday and
    Sunday are empty. Raises `InvalidField` for days no calendar reaches."""
    _check(day)
    close, zone = _opening(rule), rule.zone
    begins, ends = _beginning(day, close=close, zone=zone), _beginning(day + _DAY, close=close, zone=zone)
    if isinstance(rule, Session) and rule.weekdays_only:
        if day.weekday() >= _SATURDAY:
            return begins, begins
        if day.weekday() == 0:
            begins = _beginning(day - 2 * _DAY, close=close, zone=zone)
    return begins, ends


def week_interval(day: date, rule: DayRule) -> Interval:
    """From when to when the week of a day lasts, Monday to Monday. Raises `InvalidField` like `day_interval`."""
    _check(day)
    monday = monday_of(day)
    return day_interval(monday, rule)[0], day_interval(monday + _WEEK, rule)[0]


def local_time(instant: datetime, rule: DayRule) -> datetime:
    """The instant on the wall clock of the rule's zone: for figures by weekday and by hour."""
    return instant.astimezone(time_zone(rule.zone))


def _check(day: date) -> None:
    if not _FIRST_YEAR <= day.year <= _LAST_YEAR:
        raise InvalidField("date", f"must lie in the years {_FIRST_YEAR} to {_LAST_YEAR}")


def _weekday(day: date) -> date:
    return day if day.weekday() < _SATURDAY else monday_of(day) + _WEEK


def _opening(rule: DayRule) -> time | None:
    """The wall time on the date before at which a day begins; None: midnight of its own date."""
    return rule.close_time if isinstance(rule, Session) else None


@lru_cache(maxsize=4096)
def _beginning(day: date, *, close: time | None, zone: str) -> datetime:
    """The first instant at which the wall clock of the zone has reached the day's beginning, UTC."""
    wall = datetime.combine(day, time()) if close is None else datetime.combine(day - _DAY, close)
    return _first_instant(wall, time_zone(zone))


def _first_instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first instant at which a wall clock shows this time or, where it skips it, has gone past it."""
    # Of a time that comes twice, fold 0 is the first. Of one that is skipped, fold 1 lies before the gap, fold 0 after.
    instant = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if _wall(instant, zone) == wall:
        return instant
    before, after = wall.replace(tzinfo=zone, fold=1).astimezone(UTC), instant
    while after - before > timedelta(microseconds=1):
        middle = before + (after - before) // 2
        if _wall(middle, zone) < wall:
            before = middle
        else:
            after = middle
    return after


def _wall(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)
