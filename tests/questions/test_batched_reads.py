"""Single positions read many at a time: never older than the question, and never other than a read of their own."""

import asyncio
from collections.abc import Collection, Mapping, Sequence

import pytest

from steelyard.accounting.errors import NotFound, StoreUnavailable
from steelyard.accounting.keys import Account, PositionKey
from steelyard.operations.batched_reads import BatchedPositions, Found
from steelyard.operations.position_view import Detail
from steelyard.operations.read_positions import PositionFilter, PositionsRead
from steelyard.operations.reading import Snapshot
from steelyard.storage.database import Database
from steelyard.storage.known_positions import KnownPositions
from steelyard.storage.position_reads import PositionReads
from tests.questions.books import Book, fill, key

ETH = key("ETHUSDT")
SAYS = (
    "INSERT INTO venue_reports (account, book, instrument, leg, quantity, ties, source, received_at) "
    "VALUES ('desk', 'main', 'BTCUSDT', 'NET', 3, 0, 'venue', now())"
)


class Many:
    """Finds nothing, when it is let; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[PositionKey]] = []
        self.gate = asyncio.Event()

    async def many(
        self, keys: Sequence[PositionKey], *, detail: Detail, heads: Collection[Account]
    ) -> Mapping[PositionKey, Found]:
        self.asked.append(list(keys))
        await self.gate.wait()
        return {each: Snapshot(PositionsRead((), {}), {}) for each in keys}


async def test_questions_that_come_during_a_read_wait_for_the_next_and_share_it(book: Book) -> None:
    many = Many()
    reads = BatchedPositions(book.position_reads, many)
    asking = []
    for names in (["A"], ["B"], ["C", "D", "C"]):
        asking += [asyncio.create_task(reads.position(key(name), detail=Detail.FULL, heads=())) for name in names]
        await asyncio.sleep(0.001)
    # Whoever came later is not in the read under way.
    assert many.asked == [[key("A")]]
    many.gate.set()
    await asyncio.gather(*asking)
    assert many.asked[1:] == [[key("B"), key("C"), key("D")]]


async def test_a_caller_who_goes_away_leaves_the_answer_to_the_others(book: Book) -> None:
    many = Many()
    reads = BatchedPositions(book.position_reads, many)
    gone, staying = (asyncio.create_task(reads.position(key(), detail=Detail.FULL, heads=())) for _ in range(2))
    await asyncio.sleep(0.001)
    gone.cancel()
    many.gate.set()
    assert (await staying).value == PositionsRead((), {})


async def test_each_asker_is_told_when_the_store_is_away() -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/nothing")
    reads = BatchedPositions(PositionReads(away), KnownPositions(away))
    asking = (reads.position(key(name), detail=Detail.BASIC, heads=()) for name in ("A", "B", "A"))
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailable] * 3
    await away.close()


@pytest.mark.parametrize("detail", Detail)
async def test_whatever_changes_around_a_position_is_told_at_once(book: Book, detail: Detail) -> None:
    known = KnownPositions(book.database)

    async def told() -> None:
        """Asks for both twice, and compares with statements of their own."""
        for _ in range(2):
            for each in (key(), ETH):
                many = (await book.positions.get(each, detail=detail)).value.row
                alone = await book.position_reads.position(each, detail=detail, heads=[each.account])
                assert [many] == list(alone.value.rows)
                view = (await book.positions.get(each, detail=detail)).value
                assert view.gross_exposure == alone.value.exposures.get((each.account, "USDT"), 0)
            pages = [
                await reads.page(PositionFilter(), size=1, after=after, detail=detail, heads=[key().account])
                for reads in (known, book.position_reads)
                for after in (None, tuple(map(str, key())))
            ]
            assert pages[:2] == pages[2:]

    await book.record(fill("a", "2", "50000"), fill("b", "1", "3000", of=ETH))
    await told()
    for change in (
        "UPDATE marks SET price = price + 1",
        "INSERT INTO marks VALUES ('BTCUSDT', 50100, now(), 'test', now()), ('ETHUSDT', 3100, now(), 'test', now())",
        "UPDATE marks SET price = price + 1 WHERE instrument = 'ETHUSDT'",
        "UPDATE positions SET notes = 'look', annotation_version = annotation_version + 1 WHERE instrument = 'BTCUSDT'",
        "UPDATE instruments SET multiplier = 2 WHERE instrument = 'BTCUSDT'",
        "UPDATE instruments SET multiplier = 1 WHERE instrument = 'BTCUSDT'",
        "UPDATE accounts SET cost_method = 'LOTS'",
        SAYS,
        "UPDATE venue_reports SET quantity = 4",
        "DELETE FROM marks",
    ):
        async with book.database.write() as connection:
            await connection.execute(change)
        await told()
    await book.record(fill("c", "-2", "50010", minute=1))
    await told()
    assert not (await book.positions.get(key(), detail=detail)).value.quantity


async def test_a_position_that_was_not_there_is_found_once_it_is(book: Book) -> None:
    for _ in range(2):
        with pytest.raises(NotFound):
            await book.positions.get(key())
    await book.record(fill("a", "2", "50000"))
    answer = await book.positions.get(key())
    assert answer.value.quantity == 2
    assert [commit.seq for commit in answer.seen.commits] == [1]
