"""Watched performance: told as it begins, when trips close or change, and when the day ends; silent otherwise."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pytest

from steelyard.accounting.errors import InvalidField, QueueFull
from steelyard.accounting.keys import Account
from steelyard.accounting.keys import Book as BookName
from steelyard.accounting.trading_calendar import Calendar, Session
from steelyard.operations import watch_performance
from steelyard.operations.account_tail import AccountTail
from steelyard.operations.read_performance import PerformanceFilter
from steelyard.operations.watch_performance import (
    Cause,
    PerformanceMessage,
    PerformanceWatchRequest,
    Silence,
    WatchedFigures,
    WatchPerformance,
)
from steelyard.storage.change_reads import ChangeReads
from tests.questions.books import Book, fill, key

DESK, OTHER = Account("desk"), Account("other")
SUNDAY_NIGHT = datetime(2026, 3, 9, 4, 59, 59, 900_000, tzinfo=UTC)
"""A tenth of a second before Monday in Chicago, on the Sunday of 23 hours."""
REQUEST = PerformanceWatchRequest(
    filter=PerformanceFilter(accounts=[DESK, OTHER]), min_interval_s=0.01, heartbeat_s=0.2
)


class Desk:
    """A book, and the watch side of the service on it."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.tail = AccountTail(ChangeReads(book.database), interval_s=0.01)
        self.watch = WatchPerformance(book.performance, self.tail, clock=book.clock)
        self._trips = 0

    async def trade(self, won: str, *, at: datetime, account: str = "desk", book: str = "main") -> None:
        """A round trip that closes then."""
        self._trips += 1
        of = key(account=account, book=book)
        price = Decimal(100) + Decimal(won)
        await self.book.record(
            fill(f"in-{self._trips}", "1", "100", of=of, at=at - timedelta(milliseconds=1)),
            fill(f"out-{self._trips}", "-1", str(price), of=of, at=at),
        )


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    book = Book(database_url)
    await book.begin()
    desk = Desk(book)
    desk.tail.start()
    yield desk
    await desk.tail.close()
    await book.close()


async def figures(stream: AsyncIterator[PerformanceMessage]) -> WatchedFigures:
    """The next message with figures."""
    async with asyncio.timeout(20):
        async for message in stream:
            if isinstance(message, WatchedFigures):
                return message
    raise AssertionError("the stream ended")


def sums(told: WatchedFigures) -> tuple[Decimal | int, Decimal | int]:
    """What today and this week come to."""
    day, week = told.day.value.currencies.get("USDT"), told.week.value.currencies.get("USDT")
    return (day.net if day else 0, week.net if week else 0)


async def test_figures_are_told_at_first_and_again_when_a_trip_closes(desk: Desk) -> None:
    now = desk.book.now
    await desk.trade("5", at=now - timedelta(days=1))
    stream = desk.watch.watch(REQUEST)
    told = await figures(stream)
    assert (told.cause, sums(told)) == (Cause.BEGIN, (0, 5))
    await desk.trade("2.5", at=now)
    told = await figures(stream)
    assert (told.cause, sums(told)) == (Cause.TRIPS, (Decimal("2.5"), Decimal("7.5")))
    await desk.trade("-1", at=now, account="other")
    assert sums(await figures(stream)) == (Decimal("1.5"), Decimal("6.5"))
    await stream.aclose()


async def test_what_closes_no_trip_is_told_to_nobody(desk: Desk) -> None:
    stream = desk.watch.watch(REQUEST)
    await figures(stream)
    await desk.book.record(fill("open", "1", "100", at=desk.book.now))
    async with asyncio.timeout(20):
        assert await anext(stream) is Silence.HEARTBEAT
    await desk.book.record(fill("close", "-1", "103", at=desk.book.now))
    assert sums(await figures(stream)) == (3, 3)
    await stream.aclose()


async def test_other_books_are_not_looked_at(desk: Desk) -> None:
    wanted = replace(REQUEST, filter=replace(REQUEST.filter, book=BookName("swing")))
    stream = desk.watch.watch(wanted)
    await figures(stream)
    await desk.trade("1", at=desk.book.now)
    await desk.trade("2", at=desk.book.now, book="swing")
    assert sums(await figures(stream)) == (2, 2)
    await stream.aclose()


async def test_midnight_begins_a_new_day_and_on_monday_a_new_week(desk: Desk) -> None:
    desk.book.now = SUNDAY_NIGHT
    await desk.trade("4", at=SUNDAY_NIGHT)
    stream = desk.watch.watch(REQUEST)
    told = await figures(stream)
    assert (told.day.value.day, told.week.value.day) == (date(2026, 3, 8), date(2026, 3, 2))
    assert sums(told) == (4, 4)
    begun = asyncio.get_running_loop().time()
    desk.book.now = SUNDAY_NIGHT + timedelta(seconds=1, milliseconds=100)
    told = await figures(stream)
    assert asyncio.get_running_loop().time() - begun < 15
    assert told.cause is Cause.NEW_DAY
    assert (told.day.value.day, told.week.value.day) == (date(2026, 3, 9), date(2026, 3, 9))
    assert sums(told) == (0, 0)
    await desk.trade("7", at=desk.book.now)
    assert sums(await figures(stream)) == (7, 7)
    await stream.aclose()


async def test_the_timer_itself_tells_of_midnight_without_any_heartbeat(desk: Desk) -> None:
    desk.book.now = SUNDAY_NIGHT
    stream = desk.watch.watch(replace(REQUEST, heartbeat_s=300))
    await figures(stream)
    waiting = asyncio.ensure_future(figures(stream))
    await asyncio.sleep(0.02)
    desk.book.now = SUNDAY_NIGHT + timedelta(milliseconds=100)
    assert (await waiting).cause is Cause.NEW_DAY
    await stream.aclose()


async def test_a_session_ends_at_its_close(desk: Desk) -> None:
    close = datetime(2026, 3, 6, 23, 0, tzinfo=UTC)
    desk.book.now = close - timedelta(milliseconds=50)
    rule = Session(time(15, 0), "America/Los_Angeles", weekdays_only=True)
    stream = desk.watch.watch(replace(REQUEST, filter=replace(REQUEST.filter, day_rule=rule)))
    told = await figures(stream)
    assert (told.day.value.day, told.day.value.ended_at, told.day.value.day_rule) == (date(2026, 3, 6), close, rule)
    desk.book.now = close
    told = await figures(stream)
    assert (told.day.value.day, told.week.value.day) == (date(2026, 3, 9), date(2026, 3, 9))
    assert told.day.value.ended_at - told.day.value.started_at == timedelta(hours=71)
    await stream.aclose()


async def test_a_correction_of_a_closed_trip_is_told(desk: Desk) -> None:
    now = desk.book.now
    await desk.book.record(fill("a", "1", "100", at=now - timedelta(seconds=9)), fill("c", "-1", "110", at=now))
    stream = desk.watch.watch(REQUEST)
    assert sums(await figures(stream)) == (10, 10)
    # A late purchase makes two of the one that was sold: the trip is open again.
    await desk.book.record(fill("b", "1", "100", at=now - timedelta(seconds=5)))
    assert sums(await figures(stream)) == (0, 0)
    await stream.aclose()


async def test_a_server_that_leaves_says_so(desk: Desk) -> None:
    stream = desk.watch.watch(REQUEST)
    await figures(stream)
    desk.tail.say_goodbye()
    async with asyncio.timeout(20):
        assert [message async for message in stream if message is not Silence.HEARTBEAT] == [Silence.GOING_AWAY]


async def test_watchers_are_limited_and_leave_nothing_behind(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_performance, "WATCHERS_MAX", 1)
    stream = desk.watch.watch(REQUEST)
    await figures(stream)
    with pytest.raises(QueueFull):
        await anext(desk.watch.watch(REQUEST))
    await stream.aclose()
    again = desk.watch.watch(REQUEST)
    await figures(again)
    await again.aclose()


async def test_a_zone_that_is_none_is_refused(desk: Desk) -> None:
    wanted = replace(REQUEST.filter, day_rule=Calendar("Mars/Olympus"))
    with pytest.raises(InvalidField):
        await anext(desk.watch.watch(replace(REQUEST, filter=wanted)))
