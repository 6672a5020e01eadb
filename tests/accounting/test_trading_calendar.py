"""Days and weeks of trading, over jumps of the wall clock."""

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from steelyard.accounting.errors import InvalidField
from steelyard.accounting.trading_calendar import (
    Calendar,
    DayRule,
    Session,
    day_interval,
    day_of,
    local_time,
    monday_of,
    time_zone,
    week_interval,
    week_of,
)

CHICAGO = Calendar()
KATHMANDU = Calendar("Asia/Kathmandu")
TONGATAPU = Calendar("Pacific/Tongatapu")
SESSION = Session()
WEEKDAYS = Session(weekdays_only=True)
EARLY = Session(time(2, 30), "America/Chicago")

ZONES = (
    "UTC",
    "America/Chicago",
    "America/Los_Angeles",
    "America/New_York",
    "America/St_Johns",  # set its clocks at 00:01 until 2011: one hour would carry two dates
    "America/Sao_Paulo",  # skipped midnight until 2018
    "America/Havana",  # sees midnight twice
    "Africa/Cairo",
    "Asia/Beirut",
    "Asia/Kathmandu",  # +5:45
    "Australia/Lord_Howe",  # jumps by half an hour
    "Europe/London",
    "Pacific/Apia",  # skipped 2011-12-30
    "Pacific/Tongatapu",  # +13
)
RULES = st.one_of(
    st.builds(Calendar, st.sampled_from(ZONES)),
    st.builds(
        Session,
        close_time=st.one_of(
            st.sampled_from([time(0), time(0, 0, 30), time(1, 30), time(2, 30), time(15), time(23, 59)]), st.times()
        ),
        zone=st.sampled_from(ZONES),
        weekdays_only=st.booleans(),
    ),
)
INSTANTS = st.integers(3 * 86_400_000_000, 70 * 365 * 86_400_000_000).map(
    lambda microseconds: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "rule, instant, day, why",
    [
        (CHICAGO, "2025-07-01T04:59:59.999999", "2025-06-30", "the last microsecond before midnight, UTC-5"),
        (CHICAGO, "2025-07-01T05:00:00", "2025-07-01", "midnight itself is the new day"),
        (CHICAGO, "2025-12-01T05:59:59", "2025-11-30", "UTC-6 in winter"),
        (KATHMANDU, "2025-06-01T18:14:59", "2025-06-01", "+5:45"),
        (KATHMANDU, "2025-06-01T18:15:00", "2025-06-02", "+5:45"),
        (TONGATAPU, "2025-06-01T11:00:00", "2025-06-02", "+13"),
        (SESSION, "2025-06-20T21:59:59", "2025-06-20", "Friday 14:59:59 in Los Angeles"),
        (SESSION, "2025-06-20T22:00:00", "2025-06-21", "the close itself belongs to the next day"),
        (WEEKDAYS, "2025-06-20T21:59:59", "2025-06-20", "still Friday"),
        (WEEKDAYS, "2025-06-20T22:00:00", "2025-06-23", "after Friday's close it is Monday"),
        (WEEKDAYS, "2025-06-22T12:00:00", "2025-06-23", "Sunday is Monday"),
        (WEEKDAYS, "2025-06-23T21:59:59", "2025-06-23", "Monday until its close"),
        (WEEKDAYS, "2025-06-23T22:00:00", "2025-06-24", "then Tuesday"),
        (Session(time(17), "America/Chicago", weekdays_only=True), "2025-06-19T22:00:00", "2025-06-20", "any close"),
    ],
)
def test_an_instant_belongs_to_the_day_that_its_rule_says(rule: DayRule, instant: str, day: str, why: str) -> None:
    assert day_of(utc(instant), rule) == date.fromisoformat(day), why


@pytest.mark.parametrize(
    "rule, day, start, end, why",
    [
        (CHICAGO, "2025-07-01", "2025-07-01T05:00", "2025-07-02T05:00", "a plain day"),
        (CHICAGO, "2025-03-09", "2025-03-09T06:00", "2025-03-10T05:00", "23 hours"),
        (CHICAGO, "2025-11-02", "2025-11-02T05:00", "2025-11-03T06:00", "25 hours"),
        (KATHMANDU, "2025-06-02", "2025-06-01T18:15", "2025-06-02T18:15", "+5:45"),
        (TONGATAPU, "2025-06-02", "2025-06-01T11:00", "2025-06-02T11:00", "+13"),
        (Calendar("America/Sao_Paulo"), "2018-11-04", "2018-11-04T03:00", "2018-11-05T02:00", "midnight is skipped"),
        (Calendar("America/Havana"), "2025-11-02", "2025-11-02T04:00", "2025-11-03T05:00", "midnight comes twice"),
        (Calendar("America/St_Johns"), "2010-11-07", "2010-11-07T02:30", "2010-11-08T03:30", "set back over midnight"),
        (Calendar("Pacific/Apia"), "2011-12-30", "2011-12-30T10:00", "2011-12-30T10:00", "a day that never was"),
        (SESSION, "2025-06-20", "2025-06-19T22:00", "2025-06-20T22:00", "from close to close"),
        (SESSION, "2025-03-09", "2025-03-08T23:00", "2025-03-09T22:00", "23 hours"),
        (SESSION, "2025-06-21", "2025-06-20T22:00", "2025-06-21T22:00", "Saturday is a day of its own"),
        (WEEKDAYS, "2025-06-23", "2025-06-20T22:00", "2025-06-23T22:00", "Monday begins at Friday's close"),
        (WEEKDAYS, "2025-06-21", "2025-06-20T22:00", "2025-06-20T22:00", "Saturday is empty"),
        (WEEKDAYS, "2025-03-10", "2025-03-07T23:00", "2025-03-10T22:00", "a Monday of 71 hours"),
        (EARLY, "2025-03-10", "2025-03-09T08:00", "2025-03-10T07:30", "a skipped close"),
    ],
)
def test_a_day_lasts_from_its_beginning_to_that_of_the_next(
    rule: DayRule, day: str, start: str, end: str, why: str
) -> None:
    assert day_interval(date.fromisoformat(day), rule) == (utc(start), utc(end)), why


@pytest.mark.parametrize(
    "rule, day, start, end",
    [
        (CHICAGO, "2025-11-02", "2025-10-27T05:00", "2025-11-03T06:00"),
        (CHICAGO, "2025-10-27", "2025-10-27T05:00", "2025-11-03T06:00"),
        (SESSION, "2025-06-18", "2025-06-15T22:00", "2025-06-22T22:00"),
        (WEEKDAYS, "2025-06-18", "2025-06-13T22:00", "2025-06-20T22:00"),
    ],
)
def test_a_week_lasts_from_monday_to_monday(rule: DayRule, day: str, start: str, end: str) -> None:
    assert week_interval(date.fromisoformat(day), rule) == (utc(start), utc(end))


@given(INSTANTS, RULES)
@example(utc("2010-11-07T02:45:00"), Calendar("America/St_Johns"))
@example(utc("2025-03-09T08:00:00"), Session(time(2, 30), "America/Chicago"))
@example(utc("2025-11-02T06:45:00"), Session(time(1, 30), "America/Chicago"))
def test_the_day_of_an_instant_is_the_one_whose_interval_holds_it(instant: datetime, rule: DayRule) -> None:
    day = day_of(instant, rule)
    start, end = day_interval(day, rule)
    assert start <= instant < end
    assert day_of(start, rule) == day
    assert day_of(end - timedelta(microseconds=1), rule) == day
    week_start, week_end = week_interval(day, rule)
    assert week_start <= start < end <= week_end
    assert week_of(instant, rule) == monday_of(day)


@given(INSTANTS, RULES)
def test_days_follow_each_other_without_gap_or_overlap(instant: datetime, rule: DayRule) -> None:
    day = day_of(instant, rule)
    ends = day_interval(day, rule)[1]
    while day_interval(day + timedelta(days=1), rule)[0] == day_interval(day + timedelta(days=1), rule)[1]:
        day += timedelta(days=1)
    assert day_interval(day + timedelta(days=1), rule)[0] <= ends == day_interval(day_of(ends, rule), rule)[0]


@given(INSTANTS, st.sampled_from(ZONES))
def test_outside_of_set_back_midnights_a_calendar_day_is_the_local_date(instant: datetime, zone: str) -> None:
    if zone != "America/St_Johns":
        assert day_of(instant, Calendar(zone)) == local_time(instant, Calendar(zone)).date()


def test_an_unknown_zone_and_a_day_beyond_calendars_are_refused() -> None:
    for name in ("Mars/Olympus", "../etc/passwd", "/etc/passwd", ""):
        with pytest.raises(InvalidField, match="IANA"):
            time_zone(name)
    for day in (date(1, 1, 1), date.max):
        with pytest.raises(InvalidField, match="years"):
            day_interval(day, CHICAGO)
        with pytest.raises(InvalidField, match="years"):
            week_interval(day, CHICAGO)
