"""How trading went, through the whole service: worked vectors, days of 23 and 25 hours, ranges, and a watch."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from steelyard.client import (
    CalendarDay,
    DayRule,
    EquityCurvePoints,
    Fill,
    Instrument,
    InstrumentKind,
    InvalidField,
    PerformanceBasis,
    PerformanceChangeCause,
    PerformanceGrouping,
    PositionKey,
    SessionDay,
    Side,
    Steelyard,
)
from tests.client.desk import client_of, now, serving_book

CHICAGO = DayRule(calendar=CalendarDay(time_zone="America/Chicago"))
KATHMANDU = DayRule(calendar=CalendarDay(time_zone="Asia/Kathmandu"))
TONGATAPU = DayRule(calendar=CalendarDay(time_zone="Pacific/Tongatapu"))
SESSION = DayRule(session=SessionDay(close_time="15:00", time_zone="America/Los_Angeles", weekdays_only=False))
WEEKDAYS = DayRule(session=SessionDay(close_time="15:00", time_zone="America/Los_Angeles", weekdays_only=True))
MONDAY = date(2026, 3, 2)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def trip(number: int, won: str, *, at: datetime, held: timedelta = timedelta(minutes=1), **more: Any) -> list[Fill]:
    """A purchase and a sale that wins so much in money; the sale at `at`."""
    base = {"account": "desk", "instrument": "BTCUSDT", "quantity": Decimal(1), **more}
    entry, price = Decimal(1_000), Decimal(1_000) + Decimal(won)
    return [
        Fill(fill_id=f"in-{number:03}", side=Side.BUY, price=entry, executed_at=at - held, **base),
        Fill(fill_id=f"out-{number:03}", side=Side.SELL, price=price, executed_at=at, **base),
    ]


async def register(desk: Steelyard) -> None:
    """Makes the contract whose point is worth one."""
    known = Instrument(instrument="BTCUSDT", kind=InstrumentKind.LINEAR, multiplier=Decimal(1), quote_currency="USDT")
    await desk.upsert_instrument(known)


@pytest.fixture
async def traded(desk: Steelyard) -> Steelyard:
    """A desk that knows its instrument."""
    await register(desk)
    return desk


async def test_the_worked_vector_through_every_call(traded: Steelyard) -> None:
    at = utc("2026-03-02T15:00")
    for number, won in enumerate(("150.25", "-75.50", "200.00")):
        for fill in trip(number, won, at=at + timedelta(hours=number)):
            await traded.record_fill(fill)
    daily = await traded.get_daily_performance(["desk"], day=MONDAY)
    weekly = await traded.get_weekly_performance(["desk"], day=date(2026, 3, 6))
    ranged = await traded.get_performance(["desk"], days=(MONDAY, date(2026, 3, 3)))
    for (figures,) in (daily.currencies, weekly.currencies, tuple(each.plain for each in ranged.currencies)):
        assert (figures.net_pnl, figures.total_trades) == (Decimal("274.75"), 3)
        assert (figures.winning_trades, figures.losing_trades) == (2, 1)
        assert figures.win_rate == Decimal("0.667")
    (more,) = ranged.currencies
    assert (more.profit_factor.value, more.profit_factor.sample) == (Decimal("4.639072847682119205"), 3)
    assert (more.expectancy.value, more.expectancy.sample) == (Decimal("91.583333333333333333"), 3)
    assert (more.average_win.value, more.average_win.sample) == (Decimal("175.125"), 2)
    assert (more.average_loss.value, more.average_loss.sample) == (Decimal("-75.5"), 1)
    assert (more.largest_win.value, more.largest_loss.value) == (Decimal(200), Decimal("-75.5"))
    assert (more.max_drawdown.value, more.max_drawdown.sample) == (Decimal("75.5"), 3)
    assert (more.hold_time.average, more.hold_time.sample) == (timedelta(minutes=1), 3)
    assert (more.longest_winning_streak.length, more.longest_losing_streak.length) == (1, 1)
    assert (more.long.total_trades, more.short.total_trades) == (3, 0)


@pytest.mark.parametrize(("won", "lost", "rate"), [(3, 5, "0.375"), (15, 20, "0.429")])
async def test_win_rates_have_three_places(traded: Steelyard, won: int, lost: int, rate: str) -> None:
    at = utc("2026-03-02T15:00")
    results = ["1"] * won + ["-1"] * lost
    fills = [
        fill for number, one in enumerate(results) for fill in trip(number, one, at=at + number * timedelta(minutes=5))
    ]
    await traded.batch_record_fills(fills)
    (figures,) = (await traded.get_daily_performance(["desk"], day=MONDAY)).currencies
    assert figures.win_rate == Decimal(rate)
    (ranged,) = (await traded.get_performance(["desk"], days=(MONDAY, date(2026, 3, 3)))).currencies
    assert (ranged.longest_winning_streak.length, ranged.longest_losing_streak.length) == (won, lost)


CLOSES = [
    # rule, closes at (UTC), its day, hours of that day, why
    (CHICAGO, "2026-03-08T05:59:59", "2026-03-07", 24, "the last second of a Saturday"),
    (CHICAGO, "2026-03-08T06:00:00", "2026-03-08", 23, "midnight begins the day of 23 hours"),
    (CHICAGO, "2026-03-09T04:59:59", "2026-03-08", 23, "its last second"),
    (CHICAGO, "2026-03-09T05:00:00", "2026-03-09", 24, "Monday, an hour earlier by UTC"),
    (CHICAGO, "2025-11-02T06:30:00", "2025-11-02", 25, "01:30, the first time"),
    (CHICAGO, "2025-11-02T07:30:00", "2025-11-02", 25, "01:30, the second time"),
    (CHICAGO, "2025-11-03T05:59:59", "2025-11-02", 25, "the last second of the day of 25 hours"),
    (KATHMANDU, "2026-06-01T18:14:59", "2026-06-01", 24, "+5:45"),
    (KATHMANDU, "2026-06-01T18:15:00", "2026-06-02", 24, "+5:45"),
    (TONGATAPU, "2026-06-01T10:59:59", "2026-06-01", 24, "+13"),
    (TONGATAPU, "2026-06-01T11:00:00", "2026-06-02", 24, "+13"),
    (WEEKDAYS, "2026-06-07T23:00:00", "2026-06-08", 72, "Sunday 16:00 Pacific is Monday"),
    (WEEKDAYS, "2026-06-10T21:30:00", "2026-06-10", 24, "Wednesday 14:30 is the same day"),
    (WEEKDAYS, "2026-06-08T22:05:00", "2026-06-09", 24, "Monday 15:05 is Tuesday"),
    (SESSION, "2026-06-07T23:00:00", "2026-06-08", 24, "Sunday 16:00 is Monday, which begins then"),
    (SESSION, "2026-03-08T21:59:59", "2026-03-08", 23, "a session of 23 hours"),
    (WEEKDAYS, "2026-03-07T12:00:00", "2026-03-09", 71, "a Monday of 71 hours"),
]


async def test_every_close_counts_in_the_day_and_week_of_its_rule(traded: Steelyard) -> None:
    instants = sorted({text for _, text, _, _, _ in CLOSES})
    numbers = {text: 2**place for place, text in enumerate(instants)}
    held = timedelta(milliseconds=1)
    fills = [
        fill for place, text in enumerate(instants) for fill in trip(place, str(numbers[text]), at=utc(text), held=held)
    ]
    await traded.batch_record_fills(fills)
    for rule, text, day_text, hours, why in CLOSES:
        day = date.fromisoformat(day_text)
        daily = await traded.get_daily_performance(["desk"], day=day, day_rule=rule)
        (figures,) = daily.currencies
        assert int(figures.net_pnl) & numbers[text], why
        assert (daily.interval_end_at - daily.interval_start_at) / timedelta(hours=1) == hours, why
        assert daily.interval_start_at <= utc(text) < daily.interval_end_at, why
        monday = day - timedelta(days=day.weekday())
        weekly = await traded.get_weekly_performance(["desk"], day=day, day_rule=rule)
        assert weekly.week_start_day == monday, why
        (of_week,) = weekly.currencies
        assert int(of_week.net_pnl) & numbers[text], why
        for grouping, name in ((PerformanceGrouping.DAY, day), (PerformanceGrouping.WEEK, monday)):
            ranged = await traded.get_performance(
                ["desk"], closed=(utc("2025-10-01"), utc("2026-07-01")), grouping=grouping, day_rule=rule
            )
            (group,) = (each for each in ranged.groups if each.day == name)
            assert group.name == name.isoformat()
            expected = figures if grouping is PerformanceGrouping.DAY else of_week
            assert group.currencies[0].plain.net_pnl == expected.net_pnl, why


async def test_the_weeks_over_both_changes_of_the_clock(traded: Steelyard) -> None:
    for day, hours in ((date(2026, 3, 4), 167), (date(2025, 10, 29), 169), (date(2026, 3, 11), 168)):
        week = await traded.get_weekly_performance(["desk"], day=day, day_rule=CHICAGO)
        assert (week.interval_end_at - week.interval_start_at) / timedelta(hours=1) == hours


async def test_a_range_is_grouped_by_label_and_drawn_as_a_curve(traded: Steelyard) -> None:
    at = utc("2026-03-02T15:00")
    fills = [*trip(0, "5", at=at), *trip(1, "-2", at=at + timedelta(hours=1), book="swing")]
    await traded.batch_record_fills(fills)
    swing = PositionKey(account="desk", instrument="BTCUSDT", book="swing")
    await traded.update_position(swing, labels={"strategy": "carry"})
    found = await traded.get_performance(
        ["desk"],
        days=(MONDAY, date(2026, 3, 3)),
        grouping=PerformanceGrouping.LABEL,
        label_name="strategy",
        equity_curve=EquityCurvePoints.PER_TRIP,
        settle_currencies=["USD", "USDT"],
    )
    assert [(group.name, group.day, group.currencies[0].plain.net_pnl) for group in found.groups] == [
        ("carry", None, Decimal(-2)),
        (None, None, Decimal(5)),
    ]
    (curve,) = found.equity_curves
    assert [(point.equity_pnl, point.drawdown_pnl, point.total_trades) for point in curve.points] == [
        (Decimal(5), Decimal(0), 1),
        (Decimal(3), Decimal(2), 2),
    ]
    zeros, usdt = found.currencies
    assert (zeros.plain.settle_currency, zeros.plain.total_trades, zeros.expectancy.value) == ("USD", 0, None)
    assert usdt.plain.net_pnl == Decimal(3)
    labelled = await traded.get_performance(days=(MONDAY, date(2026, 3, 3)), labels=["strategy=carry"])
    assert labelled.currencies[0].plain.total_trades == 1


async def test_by_gross_fees_decide_nothing(traded: Steelyard) -> None:
    at = utc("2026-03-02T15:00")
    for fill in trip(0, "1", at=at, fee=Decimal(1)):
        await traded.record_fill(fill)
    for question in (traded.get_daily_performance, traded.get_weekly_performance):
        (net,) = (await question(["desk"], day=MONDAY)).currencies
        (gross,) = (await question(["desk"], day=MONDAY, basis=PerformanceBasis.GROSS)).currencies
        assert (net.net_pnl, net.losing_trades) == (gross.net_pnl, gross.winning_trades) == (Decimal(-1), 1)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "day_from"),
        ({"days": (MONDAY, MONDAY), "closed": (utc("2026-03-02"), utc("2026-03-03"))}, "day_from"),
        ({"days": (MONDAY, date(2026, 3, 1))}, "day_before"),
        ({"closed": (utc("2016-01-01"), utc("2026-03-03"))}, "closed_before"),
        ({"days": (date(2020, 1, 1), MONDAY), "grouping": PerformanceGrouping.DAY}, "grouping"),
        ({"days": (MONDAY, MONDAY), "grouping": PerformanceGrouping.LABEL}, "label_name"),
        ({"days": (MONDAY, MONDAY), "label_name": "x"}, "label_name"),
        ({"days": (MONDAY, MONDAY), "equity_curve": EquityCurvePoints.PER_GROUP}, "equity_curve"),
        ({"days": (MONDAY, MONDAY), "labels": ["no sign"]}, "labels[0]"),
        ({"days": (MONDAY, MONDAY), "books": ["\t"]}, "books[0]"),
    ],
)
async def test_what_cannot_be_answered_is_refused_by_field(desk: Steelyard, asked: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        await desk.get_performance(**asked)
    assert [violation.field for violation in refused.value.violations] == [field]


async def test_a_watch_survives_a_restart_and_tells_nothing_twice(database_url: str) -> None:
    async with serving_book(database_url) as service:
        address = service.address
        async with client_of(address) as steelyard:
            await register(steelyard)
            watched = steelyard.watch_performance(["desk"], min_interval=timedelta(milliseconds=100))
            async with asyncio.timeout(30):
                first = await anext(watched)
                assert (first.cause, first.day_currencies) == (PerformanceChangeCause.BEGIN, ())
                await steelyard.batch_record_fills(trip(0, "5", at=now()))
                second = await anext(watched)
                assert (second.cause, second.day_currencies[0].net_pnl) == (PerformanceChangeCause.TRIPS, Decimal(5))
                assert second.week_currencies[0].net_pnl == Decimal(5)
                await service.stop()
                async with serving_book(database_url, port=int(address.rpartition(":")[2])):
                    await asyncio.sleep(0.3)
                    await steelyard.batch_record_fills(trip(1, "2", at=now()))
                    third = await anext(watched)
                    assert third.day_currencies[0].net_pnl == Decimal(7)
            await watched.aclose()


async def test_a_watch_names_its_accounts(desk: Steelyard) -> None:
    with pytest.raises(InvalidField):
        await anext(desk.watch_performance([]))
