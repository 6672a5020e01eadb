"""Who asks for marks is told positions with them, and again when a mark alone has moved: conflated, at one version."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from steelyard.accounting.keys import Account
from steelyard.accounting.marks import Mark, MarkState
from steelyard.operations.account_tail import AccountTail
from steelyard.operations.mark_tail import MarkTail
from steelyard.operations.watch_positions import (
    ChangeKind,
    MessageKind,
    WatchMessage,
    WatchMode,
    WatchPositions,
    WatchRequest,
)
from steelyard.storage.change_reads import ChangeReads
from steelyard.storage.marks import MarkTable
from tests.questions.books import Book, fill, key

REQUEST = WatchRequest(account=Account("desk"), min_interval_s=0.02, heartbeat_s=0.5, has_marks=True)
BTC = key().instrument


class Watching:
    """A book and the watch side of a process."""

    def __init__(self, url: str) -> None:
        self.book = Book(url)
        self.store = MarkTable(self.book.database)
        changes = ChangeReads(self.book.database)
        self.tail = AccountTail(changes, interval_s=0.01)
        self.marks = MarkTail(self.store, interval_s=0.01)
        self.positions = WatchPositions(changes, self.tail, marks=self.marks, clock=self.book.clock)

    async def price(self, price: str) -> None:
        """A newer price of BTCUSDT, written as any process would."""
        self.book.now += timedelta(seconds=1)
        await self.store.keep({BTC: Mark(Decimal(price), self.book.now, "test")})


@pytest.fixture
async def watching(database_url: str) -> AsyncIterator[Watching]:
    watching = Watching(database_url)
    await watching.book.begin()
    watching.tail.start()
    watching.marks.start()
    yield watching
    await watching.tail.close()
    await watching.marks.close()
    await watching.book.close()


async def change(stream: AsyncIterator[WatchMessage]) -> WatchMessage:
    """The next position told."""
    async with asyncio.timeout(20):
        async for message in stream:
            if message.kind is MessageKind.CHANGE:
                return message
    raise AssertionError("the stream ended")


def told(message: WatchMessage) -> tuple[ChangeKind | None, int, str, bool]:
    """Its kind, version, mark, and whether only that has moved."""
    assert message.row is not None
    mark = message.row.mark
    return message.change, message.row.version, "" if mark is None else str(mark.price), message.is_mark_only


@pytest.mark.parametrize("mode", WatchMode)
async def test_a_moved_mark_is_told_at_the_version_told_before(watching: Watching, mode: WatchMode) -> None:
    await watching.book.record(fill("a", "2", "90"))
    await watching.price("100")
    async with aclosing(watching.positions.watch(replace(REQUEST, mode=mode))) as stream:
        begin = await change(stream)
        assert (told(begin), begin.mark_state) == ((ChangeKind.ADDED, 1, "100", False), MarkState.FRESH)
        await watching.price("101")
        assert told(await change(stream)) == (ChangeKind.UPDATED, 1, "101", True)
        await watching.book.record(fill("b", "1", "90", minute=1))
        assert told(await change(stream)) == (ChangeKind.UPDATED, 2, "101", False)
        await watching.price("102")
        assert told(await change(stream)) == (ChangeKind.UPDATED, 2, "102", True)


async def test_a_first_mark_of_what_is_bought_while_watching_is_told(watching: Watching) -> None:
    async with aclosing(watching.positions.watch(REQUEST)) as stream:
        await anext(stream)
        await watching.book.record(fill("a", "2", "90"))
        assert told(await change(stream)) == (ChangeKind.ADDED, 1, "", False)
        await watching.price("100")
        assert told(await change(stream)) == (ChangeKind.UPDATED, 1, "100", True)


async def test_what_is_flat_is_told_no_more_prices_and_nobody_looks_for_them(watching: Watching) -> None:
    await watching.book.record(fill("a", "2", "90"))
    async with aclosing(watching.positions.watch(REQUEST)) as stream:
        await change(stream)
        assert len(watching.marks) == 1
        await watching.book.record(fill("b", "-2", "95", minute=1))
        assert told(await change(stream))[:2] == (ChangeKind.CLOSED, 2)
        assert len(watching.marks) == 0


async def test_who_does_not_ask_for_marks_is_told_none(watching: Watching) -> None:
    await watching.book.record(fill("a", "2", "90"))
    await watching.price("100")
    async with aclosing(watching.positions.watch(replace(REQUEST, has_marks=False))) as stream:
        begin = await change(stream)
        assert (told(begin)[2], begin.mark_state) == ("", MarkState.MISSING)
        await watching.price("101")
        async with asyncio.timeout(20):
            async for message in stream:
                assert message.kind is not MessageKind.CHANGE
                if message.kind is MessageKind.HEARTBEAT:
                    break


async def test_a_thousand_prices_between_two_deliveries_are_told_as_one(watching: Watching) -> None:
    await watching.book.record(fill("a", "2", "90"))
    async with aclosing(watching.positions.watch(replace(REQUEST, min_interval_s=0.3))) as stream:
        await change(stream)
        prices: list[str] = []
        for number in range(1, 101):
            await watching.price(str(number))
        while not prices or prices[-1] != "100":
            prices.append(told(await change(stream))[2])
        print(f"100 prices, told {len(prices)} times")
        assert len(prices) < 20


async def test_a_stream_taken_up_tells_the_marks_of_what_the_one_before_told(watching: Watching) -> None:
    await watching.book.record(fill("a", "2", "90"))
    async with aclosing(watching.positions.watch(REQUEST)) as stream:
        point = (await change(stream)).point
        async for message in stream:
            point = message.point
            if message.kind is MessageKind.SNAPSHOT_END:
                break
    await watching.book.record(fill("b", "1", "90", minute=1))
    await watching.price("100")
    every = replace(REQUEST, mode=WatchMode.EVERY_VERSION, resume=point)
    async with aclosing(watching.positions.watch(every)) as stream:
        assert told(await change(stream))[:2] == (ChangeKind.UPDATED, 2)
        assert told(await change(stream)) == (ChangeKind.UPDATED, 2, "100", True)
