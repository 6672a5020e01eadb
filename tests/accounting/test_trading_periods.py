"""Days, weeks and months of a range, over jumps of the wall clock and by session closes: worked values."""

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.accounting.trading_calendar import Calendar, DayRule, Session, day_interval, day_of, local_time
from steelyard.accounting.trading_periods import Length, clock_shifts, periods_of

CHICAGO = Calendar("America/Chicago")
SESSION = Session()
WEEKDAYS = Session(weekdays_only=True)
RULES: list[DayRule] = [
    CHICAGO,
    Calendar("Asia/Kathmandu"),
    Calendar("Pacific/Tongatapu"),
    Calendar("Pacific/Apia"),
    Calendar("Australia/Lord_Howe"),
    SESSION,
    WEEKDAYS,
    Session(time(2, 30), "America/Chicago"),
]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "rule, length, start, end, expected, why",
    [
        (CHICAGO, Length.DAY, "2026-03-07T06:00", "2026-03-10T05:00",
         [("2026-03-07", 24), ("2026-03-08", 23), ("2026-03-09", 24)], "a day of 23 hours"),
        (CHICAGO, Length.DAY, "2026-10-31T05:00", "2026-11-02T06:00",
         [("2026-10-31", 24), ("2026-11-01", 25)], "a day of 25 hours"),
        (CHICAGO, Length.WEEK, "2026-03-03T00:00", "2026-03-10T00:00",
         [("2026-03-02", 167), ("2026-03-09", 168)], "the week of the change to summer time"),
        (CHICAGO, Length.WEEK, "2026-10-27T00:00", "2026-11-02T06:00",
         [("2026-10-26", 169)], "the week of the change back"),
        (CHICAGO, Length.MONTH, "2026-02-10T00:00", "2026-04-01T05:00",
         [("2026-02-01", 28 * 24), ("2026-03-01", 31 * 24 - 1)], "months, of which one loses an hour"),
        (Calendar("Asia/Kathmandu"), Length.DAY, "2026-06-01T18:15", "2026-06-02T18:15",
         [("2026-06-02", 24)], "+5:45"),
        (Calendar("Pacific/Tongatapu"), Length.DAY, "2026-06-01T11:00", "2026-06-02T11:00",
         [("2026-06-02", 24)], "+13"),
        (SESSION, Length.DAY, "2026-03-07T23:00", "2026-03-09T22:00",
         [("2026-03-08", 23), ("2026-03-09", 24)], "from close to close, one of 23 hours"),
        (WEEKDAYS, Length.DAY, "2026-06-04T22:00", "2026-06-09T22:00",
         [("2026-06-05", 24), ("2026-06-08", 72), ("2026-06-09", 24)], "the weekend belongs to Monday"),
        (WEEKDAYS, Length.DAY, "2026-03-06T23:00", "2026-03-09T22:00", [("2026-03-09", 71)], "a Monday of 71 hours"),
        (WEEKDAYS, Length.MONTH, "2026-01-30T23:00", "2026-02-03T00:00", [("2026-02-01", 28 * 24)],
         "a month that begins on a Sunday begins at Friday's close"),
        (Calendar("Pacific/Apia"), Length.DAY, "2011-12-29T10:00", "2011-12-31T10:00",
         [("2011-12-29", 24), ("2011-12-31", 24)], "a day that never was"),
        (CHICAGO, Length.DAY, "2026-03-07T06:00", "2026-03-07T06:00", [], "nothing"),
    ],
)  # fmt: skip
def test_periods_of_a_range(
    rule: DayRule, length: Length, start: str, end: str, expected: list[tuple[str, int]], why: str
) -> None:
    found = periods_of((utc(start), utc(end)), rule, length=length)
    hours = [(each.first_day.isoformat(), (each.ended_at - each.started_at) / timedelta(hours=1)) for each in found]
    assert hours == expected, why


@pytest.mark.parametrize(
    "instant, day, why",
    [
        ("2026-06-07T23:00", "2026-06-08", "Sunday 16:00 Pacific is Monday"),
        ("2026-06-10T21:30", "2026-06-10", "Wednesday 14:30 Pacific is the same day"),
        ("2026-06-08T22:05", "2026-06-09", "Monday 15:05 Pacific is Tuesday"),
    ],
)
@pytest.mark.parametrize("rule", [SESSION, WEEKDAYS])
def test_session_closes(rule: DayRule, instant: str, day: str, why: str) -> None:
    assert day_of(utc(instant), rule) == date.fromisoformat(day), why


INSTANTS = st.integers(1_300_000_000, 1_800_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


@given(INSTANTS, st.integers(0, 40 * 86_400), st.sampled_from(RULES), st.sampled_from(list(Length)))
def test_every_instant_of_a_range_lies_in_the_period_of_its_day(
    start: datetime, seconds: int, rule: DayRule, length: Length
) -> None:
    interval = (start, start + timedelta(seconds=seconds))
    periods = periods_of(interval, rule, length=length)
    assert all(before.ended_at == after.started_at for before, after in pairwise(periods))
    for instant in (start, start + timedelta(seconds=seconds // 2), start + timedelta(seconds=max(seconds - 1, 0))):
        if instant < interval[1]:
            (period,) = (each for each in periods if each.started_at <= instant < each.ended_at)
            first_days = (period.first_day, day_of(period.ended_at - timedelta(microseconds=1), rule))
            assert first_days[0] <= day_of(instant, rule) <= first_days[1]
            if length is Length.DAY:
                assert (period.started_at, period.ended_at) == day_interval(day_of(instant, rule), rule)


@given(INSTANTS, st.integers(0, 400 * 86_400), st.integers(0, 10**9), st.sampled_from(RULES))
def test_clock_shifts_tell_the_wall_clock_of_any_instant(
    start: datetime, seconds: int, part: int, rule: DayRule
) -> None:
    shifts = clock_shifts((start, start + timedelta(seconds=seconds)), rule)
    instant = start + timedelta(seconds=seconds * part // 10**9)
    offset = [each.offset for each in shifts if each.since <= instant][-1]
    assert (instant + offset).replace(tzinfo=None) == local_time(instant, rule).replace(tzinfo=None)


def test_the_clock_shifts_of_a_year_in_chicago() -> None:
    shifts = clock_shifts((utc("2026-01-01T00:00"), utc("2027-01-01T00:00")), CHICAGO)
    assert [(each.since, each.offset / timedelta(hours=1)) for each in shifts] == [
        (utc("2026-01-01T00:00"), -6),
        (utc("2026-03-08T08:00"), -5),
        (utc("2026-11-01T07:00"), -6),
    ]
