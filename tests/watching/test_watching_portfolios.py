"""Watchers of a portfolio are told its newest figures, after commits and prices that changed them, none twice."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from steelyard.accounting.errors import QueueFull, ResumeTokenExpired
from steelyard.accounting.keys import Account, Book, InstrumentName
from steelyard.operations import portfolio_feeds
from steelyard.operations.mark_tail import MarkTail
from steelyard.operations.portfolio_feeds import PortfolioCause, PortfolioFeeds, PortfolioFilter
from steelyard.operations.watch_portfolio import (
    PortfolioMessage,
    PortfolioPoint,
    PortfolioWatchRequest,
    WatchPortfolio,
)
from steelyard.operations.watch_positions import MessageKind
from steelyard.storage.change_reads import ChangeReads
from steelyard.storage.heads import HeadReads
from steelyard.storage.marks import MarkTable
from tests.questions.books import Book as Desk
from tests.questions.books import fill, key

DESK = Account("desk")
REQUEST = PortfolioWatchRequest(wanted=PortfolioFilter(accounts=(DESK,)), min_interval_s=0.02, heartbeat_s=0.3)


class Watching:
    """The watch side of a process on a desk's database."""

    def __init__(self, desk: Desk) -> None:
        self.marks = MarkTail(MarkTable(desk.database), interval_s=0.01)
        self.feeds = PortfolioFeeds(desk.portfolio, HeadReads(desk.database), marks=self.marks, interval_s=0.01)
        self.portfolio = WatchPortfolio(self.feeds, ChangeReads(desk.database), clock=desk.clock)

    @asynccontextmanager
    async def stream(self, request: PortfolioWatchRequest = REQUEST) -> AsyncIterator["Stream"]:
        """A stream that is closed at the end."""
        async with aclosing(self.portfolio.watch(request)) as messages:
            yield Stream(messages)


class Stream:
    """One watcher's stream."""

    def __init__(self, messages: AsyncGenerator[PortfolioMessage, None]) -> None:
        self._messages = messages

    async def next(self, kind: MessageKind = MessageKind.CHANGE) -> PortfolioMessage:
        """The next message of a kind; heartbeats in between are passed over."""
        async with asyncio.timeout(20):
            async for message in self._messages:
                if message.kind is kind:
                    return message
                assert message.kind is MessageKind.HEARTBEAT, message
        raise AssertionError("the stream ended")


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    opened = Desk(database_url)
    await opened.begin()
    yield opened
    await opened.close()


@pytest.fixture
async def watching(desk: Desk) -> AsyncIterator[Watching]:
    watching = Watching(desk)
    watching.marks.start()
    watching.feeds.start()
    yield watching
    await watching.feeds.close()
    await watching.marks.close()


def exposure(message: PortfolioMessage) -> int:
    assert message.view is not None
    found = message.view.portfolio.currencies.get("USDT")
    return 0 if found is None else int(found.gross_exposure)


async def test_the_whole_is_told_first_and_again_after_a_commit_and_after_a_price(
    desk: Desk, watching: Watching
) -> None:
    async with watching.stream() as stream:
        begin = await stream.next()
        assert (begin.cause, exposure(begin)) == (PortfolioCause.BEGIN, 0)
        await desk.mark(BTCUSDT="100")
        (commit,) = await desk.record(fill("a", "2", "90"))
        bought = await stream.next()
        assert (bought.cause, exposure(bought)) == (PortfolioCause.COMMITS, 200)
        assert list(bought.commits) == [commit]
        desk.now += timedelta(seconds=1)
        await desk.mark(BTCUSDT="110")
        priced = await stream.next()
        assert (priced.cause, exposure(priced)) == (PortfolioCause.PRICES, 220)


async def test_only_what_touches_the_filter_is_told(desk: Desk, watching: Watching) -> None:
    wanted = PortfolioFilter((DESK,), (Book("swing"),), (InstrumentName("BTCUSDT"),))
    await desk.mark(BTCUSDT="100", ETHUSDT="10")
    async with watching.stream(replace(REQUEST, wanted=wanted)) as stream:
        await stream.next()
        await desk.record(fill("a", "1", "100"), fill("b", "1", "10", of=key("ETHUSDT", book="swing")))
        await stream.next(MessageKind.HEARTBEAT)
        await desk.record(fill("c", "3", "100", of=key(book="swing")))
        assert exposure(await stream.next()) == 300


async def test_a_watcher_of_everybody_hears_of_an_account_that_is_new(desk: Desk, watching: Watching) -> None:
    await desk.mark(BTCUSDT="100")
    async with watching.stream(replace(REQUEST, wanted=PortfolioFilter())) as stream:
        await stream.next()
        await desk.record(fill("a", "1", "100", of=key(account=Account("another"))))
        assert exposure(await stream.next()) == 100


async def test_figures_that_are_still_the_same_are_not_told_again_on_return(desk: Desk, watching: Watching) -> None:
    await desk.mark(BTCUSDT="100")
    await desk.record(fill("a", "1", "100"))
    async with watching.stream() as stream:
        point = (await stream.next()).point
    async with watching.stream(replace(REQUEST, resume=point)) as stream:
        point = (await stream.next(MessageKind.HEARTBEAT)).point
    await desk.record(fill("b", "1", "100", minute=1))
    async with watching.stream(replace(REQUEST, resume=point)) as stream:
        again = await stream.next()
        assert (again.cause, exposure(again)) == (PortfolioCause.BEGIN, 200)


async def test_another_database_resets_the_stream_and_an_old_point_is_refused(desk: Desk, watching: Watching) -> None:
    point = PortfolioPoint("another", "", desk.now)
    async with watching.stream(replace(REQUEST, resume=point)) as stream:
        assert (await stream.next(MessageKind.RESET)).reason == "DATABASE_CHANGED"
        assert (await stream.next()).cause is PortfolioCause.BEGIN
    point = PortfolioPoint(await ChangeReads(desk.database).epoch(), "", desk.now - timedelta(hours=25))
    with pytest.raises(ResumeTokenExpired):
        async with watching.stream(replace(REQUEST, resume=point)) as stream:
            await stream.next()


async def test_a_leaving_service_says_so_also_in_the_pause_between_two_figures(desk: Desk, watching: Watching) -> None:
    async with watching.stream(replace(REQUEST, min_interval_s=60)) as stream:
        await stream.next()
        await desk.record(fill("a", "1", "100"))
        waiting = asyncio.create_task(stream.next(MessageKind.GOING_AWAY))
        await asyncio.sleep(0.1)
        watching.feeds.say_goodbye()
        assert (await waiting).point.digest


async def test_a_slow_reader_is_told_the_newest_alone_and_many_readers_cost_one_read(
    desk: Desk, watching: Watching
) -> None:
    await desk.mark(BTCUSDT="100")
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(watching.stream()) for _ in range(20)]
        for stream in streams:
            await stream.next()
        before = watching.feeds.reads
        for number in range(30):
            await desk.record(fill(f"f{number}", "1", "100", minute=number))
        for stream in streams:
            while exposure(message := await stream.next()) != 3_000:
                pass
            assert message.cause is PortfolioCause.COMMITS
        reads = watching.feeds.reads - before
        print(f"30 commits, 20 watchers: {reads} reads")
        assert reads <= 45


async def test_nobody_is_watched_for_once_the_last_watcher_has_gone(
    desk: Desk, watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.record(fill("a", "1", "100"))
    async with watching.stream() as stream:
        await stream.next()
        assert len(watching.marks) == 1
        monkeypatch.setattr(portfolio_feeds, "FEEDS_MAX", 1)
        with pytest.raises(QueueFull):
            async with watching.stream(replace(REQUEST, wanted=PortfolioFilter())) as other:
                await other.next()
    assert len(watching.marks) == 0
    before = watching.feeds.reads
    await desk.record(fill("b", "1", "100", minute=1))
    await asyncio.sleep(0.1)
    assert watching.feeds.reads == before
