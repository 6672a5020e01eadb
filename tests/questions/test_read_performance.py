"""How trading went: days and weeks by either rule, checked against the oracle."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest

from steelyard.accounting.errors import InvalidField
from steelyard.accounting.keys import Account, InstrumentName
from steelyard.accounting.keys import Book as BookName
from steelyard.accounting.performance import Performance
from steelyard.accounting.round_trips import CostMethod
from steelyard.accounting.trading_calendar import Calendar, DayRule, Session
from steelyard.operations.ports import AccountRules
from steelyard.operations.read_performance import PerformanceFilter, funding_of
from tests.oracle.performance import CalendarDays, OraclePerformance, SessionDays, by_day, by_week, completed
from tests.questions.books import NOW, Book, fill, funding, key, oracle, same

DESK = Account("desk")
MNQ = key("MNQ MAR26")


def trips(*, count: int = 120) -> list[object]:
    """Round trips that close all over three weeks, across the change to summer time of 8 March 2026."""
    begin = datetime(2026, 2, 27, 5, 0, tzinfo=UTC)
    found = []
    for number in range(count):
        of = (key(), MNQ, key("ETHUSDT", account="other", book="swing"))[number % 3]
        at = begin + timedelta(hours=3 * number, minutes=number)
        price, move = 100 + number % 7, (number * 5) % 11 - 5
        found.append(fill(f"in-{number}", "2", str(price), of=of, fee="0.75", at=at))
        found.append(fill(f"out-{number}", "-2", str(price + move), of=of, fee="0.25", at=at + timedelta(minutes=40)))
    return found  # type: ignore[return-value] # fills


RULES: list[tuple[DayRule, CalendarDays | SessionDays]] = [
    (Calendar(), CalendarDays()),
    (Calendar("Asia/Tokyo"), CalendarDays("Asia/Tokyo")),
    (Session(weekdays_only=True), SessionDays()),
    (Session(time(17, 0), "America/Chicago"), SessionDays(time(17, 0), "America/Chicago", weekdays_only=False)),
]


def assert_same(ours: Performance, theirs: OraclePerformance) -> None:
    assert same(ours.net, theirs.net)
    assert same(ours.gross, theirs.gross)
    assert (ours.total, ours.winning, ours.losing, ours.scratch) == (
        theirs.total_trades,
        theirs.winning,
        theirs.losing,
        theirs.scratch,
    )
    assert same(ours.win_rate, theirs.win_rate)


@pytest.mark.parametrize(("rule", "oracle_rule"), RULES)
async def test_every_day_and_week_equals_the_oracle(
    book: Book, rule: DayRule, oracle_rule: CalendarDays | SessionDays
) -> None:
    book.now = datetime(2026, 4, 1, tzinfo=UTC)
    fills = trips()
    await book.record(*fills)  # type: ignore[arg-type] # fills
    results = completed(oracle(fills).values())  # type: ignore[arg-type] # fills
    for figures, ask in (
        (by_day(results, oracle_rule), book.performance.daily),
        (by_week(results, oracle_rule), book.performance.weekly),
    ):
        day, seen = date(2026, 2, 23), set()
        while day < date(2026, 3, 24):
            read = (await ask(PerformanceFilter(day=day, day_rule=rule))).value
            assert read.day == (day if ask == book.performance.daily else day - timedelta(days=day.weekday()))
            assert set(read.currencies) == {currency for currency, of_day in figures if of_day == read.day}
            for currency, ours in read.currencies.items():
                assert_same(ours, figures[currency, read.day])
                seen.add((currency, read.day))
            day += timedelta(days=1)
        assert seen == set(figures)


async def test_the_worked_vector_of_three_trades(book: Book) -> None:
    moves = ("150.25", "-75.50", "200.00")
    for number, move in enumerate(moves):
        price = Decimal(1000) + Decimal(move)
        await book.record(
            fill(f"in-{number}", "1", "1000", minute=2 * number),
            fill(f"out-{number}", "-1", str(price), minute=2 * number + 1),
        )
    read = (await book.performance.daily(PerformanceFilter(accounts=[DESK], day=date(2026, 3, 2)))).value
    figures = read.currencies["USDT"]
    assert figures.net == Decimal("274.75")
    assert (figures.total, figures.winning, figures.losing) == (3, 2, 1)
    assert figures.win_rate == Decimal("0.667")


@pytest.mark.parametrize("cost", list(CostMethod))
async def test_the_accounts_cost_method_decides_and_funding_is_within_net(book: Book, cost: CostMethod) -> None:
    fills = [
        fill("a", "2", "100", fee="1"),
        fill("b", "1", "130", minute=1),
        fill("c", "-3", "120", minute=2),
    ]
    await book.record(*fills, rules=AccountRules(DESK, cost_method=cost))
    await book.adjust(funding("2.5", minute=1.5))
    figures = (await book.performance.daily(PerformanceFilter(day=date(2026, 3, 2)))).value.currencies["USDT"]
    assert (figures.gross, figures.fees, funding_of(figures)) == (Decimal(30), Decimal(1), Decimal("2.5"))
    assert figures.net == Decimal("31.5")
    assert figures.fees_complete


async def test_today_and_the_rule_come_from_the_one_account_named(book: Book) -> None:
    await book.record(fill("a", "1", "1"), fill("b", "-1", "2", minute=1))
    async with book.database.write() as connection:
        await connection.execute(
            """UPDATE accounts SET day_rule = '{"kind": "SESSION", "close_time": "06:00", "time_zone": "UTC"}'"""
        )
    mine = (await book.performance.daily(PerformanceFilter(accounts=[DESK]))).value
    assert mine.day_rule == Session(time(6, 0), "UTC", weekdays_only=False)
    assert mine.day == date(2026, 3, 7)
    assert (mine.started_at, mine.ended_at) == (NOW.replace(hour=6), NOW.replace(day=7, hour=6))
    all_of_them = (await book.performance.weekly(PerformanceFilter())).value
    assert all_of_them.day_rule == Calendar()
    assert all_of_them.day == date(2026, 3, 2)
    assert all_of_them.currencies["USDT"].total == 1
    unknown = (await book.performance.daily(PerformanceFilter(accounts=[Account("nobody")]))).value
    assert (unknown.day_rule, unknown.currencies) == (Calendar(), {})


async def test_books_and_instruments_narrow_the_figures(book: Book) -> None:
    fills = trips(count=12)
    await book.record(*fills)  # type: ignore[arg-type] # fills
    week = date(2026, 2, 26)
    swing = await book.performance.weekly(PerformanceFilter(day=week, book=BookName("swing")))
    assert [(name, each.total) for name, each in swing.value.currencies.items()] == [("USDT", 4)]
    mnq = await book.performance.weekly(PerformanceFilter(day=week, instrument=InstrumentName("MNQ MAR26")))
    assert list(mnq.value.currencies) == ["USD"]
    assert Fraction(mnq.value.currencies["USD"].fees) == 4


async def test_a_zone_that_is_none_is_refused(book: Book) -> None:
    with pytest.raises(InvalidField):
        await book.performance.daily(PerformanceFilter(day_rule=Calendar("Mars/Olympus")))
