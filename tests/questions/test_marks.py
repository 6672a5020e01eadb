"""Prices: the newer price time wins, bad ones are named, the others are kept."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from decimal import Decimal

from steelyard.accounting.keys import InstrumentName
from steelyard.accounting.marks import Mark, MarkState
from steelyard.operations.apply_marks import MarkRejection, Reported, ReportedMark
from tests.questions.books import NOW, Book, fill, key


def reported(index: int, name: str, price: str, *, seconds: float = 0) -> ReportedMark:
    """A price whose time lies `seconds` after now."""
    mark = Mark(Decimal(price), NOW + timedelta(seconds=seconds), "test")
    return ReportedMark(index, InstrumentName(name), mark)


async def stream(*messages: Sequence[Reported], pause_s: float = 0) -> AsyncIterator[Sequence[Reported]]:
    for message in messages:
        yield message
        await asyncio.sleep(pause_s)


async def prices(book: Book) -> dict[str, Decimal]:
    rows = (await book.marks.page(size=100)).rows
    return {view.instrument: view.mark.price for view in rows if view.mark is not None}


async def test_the_newer_price_time_wins_in_whatever_order_they_arrive(book: Book) -> None:
    messages = (
        [reported(0, "BTCUSDT", "1", seconds=-9), reported(1, "BTCUSDT", "3", seconds=-7)],
        [reported(2, "BTCUSDT", "2", seconds=-8)],
        [reported(3, "BTCUSDT", "3", seconds=-7)],
    )
    first = await book.marks.report(stream(*messages, pause_s=0.02))
    assert (first.accepted, first.superseded) == (1, 3)
    again = await book.marks.report(stream(*messages))
    assert (again.accepted, again.superseded) == (0, 4)
    assert await prices(book) == {"BTCUSDT": Decimal(3)}


async def test_prices_that_cannot_be_taken_are_counted_and_named_and_the_others_kept(book: Book) -> None:
    tally = await book.marks.report(
        stream(
            [
                reported(0, "BTCUSDT", "50000", seconds=5),
                reported(1, "ETHUSDT", "3000", seconds=5.000001),
                reported(2, "NOBODY", "1"),
                reported(3, "XRPUSDT", "0"),
            ],
            [MarkRejection(4, "XRPUSDT", "price", "must be a plain decimal"), reported(5, "MNQ JUN27", "25000")],
        )
    )
    assert (tally.accepted, tally.superseded, tally.rejected) == (2, 0, 4)
    assert [(each.index, each.field) for each in tally.rejections] == [
        (1, "at"),
        (2, "instrument"),
        (3, "price"),
        (4, "price"),
    ]
    assert await prices(book) == {"BTCUSDT": Decimal(50000), "MNQ JUN27": Decimal(25000)}


async def test_only_the_first_hundred_refusals_are_named(book: Book) -> None:
    tally = await book.marks.report(stream([reported(n, "NOBODY", "1") for n in range(150)]))
    assert (tally.rejected, len(tally.rejections)) == (150, 100)


async def test_an_empty_stream_changes_nothing(book: Book) -> None:
    tally = await book.marks.report(stream())
    assert (tally.accepted, tally.superseded, tally.rejected) == (0, 0, 0)


async def test_marks_never_step_a_version(book: Book) -> None:
    await book.record(fill("a", "1", "10"))
    await book.marks.report(stream([reported(0, "BTCUSDT", "12")]))
    answer = await book.positions.get(key())
    assert (answer.value.row.version, answer.seen.commits[0].seq) == (1, 1)
    assert answer.value.figures().unrealized_pnl == 2


async def test_named_instruments_without_a_price_are_missing_and_pages_follow_the_name(book: Book) -> None:
    await book.marks.report(stream([reported(0, "BTCUSDT", "1"), reported(1, "ETHUSDT", "2", seconds=-301)]))
    names = [InstrumentName(name) for name in ("XRPUSDT", "ETHUSDT", "BTCUSDT")]
    for size in (1, 2, 5):
        found: list[tuple[str, MarkState]] = []
        after = None
        while True:
            page = await book.marks.page(names, size=size, after=after)
            found += [(view.instrument, view.state) for view in page.rows]
            after = page.next_after
            if after is None:
                break
        assert found == [
            ("BTCUSDT", MarkState.FRESH),
            ("ETHUSDT", MarkState.STALE),
            ("XRPUSDT", MarkState.MISSING),
        ]
    everything = await book.marks.page(size=1)
    assert everything.next_after == ("BTCUSDT",)
