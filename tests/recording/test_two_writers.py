"""Two writers on the same keys stay exact: versions are dense, nothing is lost, nobody starves."""

import asyncio
import random
from decimal import Decimal

import asyncpg

from steelyard.accounting import keys
from steelyard.accounting.entries import Fill
from steelyard.operations.apply_fills import FillReceipt
from tests.recording.desk import Desk, assert_equals_oracle, key_of, make_fill, random_fills


async def test_ten_writers_of_a_hundred_fills_on_one_key_lose_nothing(desk: Desk, database_url: str) -> None:
    second = Desk(database_url)
    second.recording.start()

    async def write(writer: int) -> None:
        recording = (desk if writer % 2 else second).recording
        for number in range(100):
            await recording.record(make_fill(writer * 100 + number, "BUY", "0.1", "21000"), caller=str(writer))

    await asyncio.gather(*(write(writer) for writer in range(10)))
    stored = await desk.position(key_of())
    connection = await asyncpg.connect(database_url)
    versions = [row["version"] for row in await connection.fetch("SELECT version FROM position_events ORDER BY 1")]
    applied = await connection.fetchval("SELECT sum(fill_count) FROM position_events")
    await connection.close()
    await second.recording.close()
    await second.database.close()
    assert (stored.state.quantity, stored.state.lifetime.fill_count) == (Decimal(100), 1_000)
    assert versions == list(range(1, stored.version + 1))
    assert applied == 1_000


async def test_crossing_batches_of_two_writers_end_in_the_oracles_state(desk: Desk, database_url: str) -> None:
    second = Desk(database_url)
    second.recording.start()
    books = [keys.Book(f"b{number}") for number in range(4)]
    fills = [
        fill._replace(key=key_of()._replace(book=books[place % 4])) for place, fill in enumerate(random_fills(2, 400))
    ]
    chance = random.Random(4)

    async def write(desk: Desk) -> None:
        own = chance.sample(fills, len(fills))
        for start in range(0, len(own), 40):
            result = await desk.recording.record_batch(own[start : start + 40])
            assert all(isinstance(item, FillReceipt) for item in result.items)

    await asyncio.gather(write(desk), write(second))
    for book in books:
        of_book: list[Fill] = [fill for fill in fills if fill.key.book == book]
        assert_equals_oracle(await desk.position(key_of()._replace(book=book)), of_book)
    await second.recording.close()
    await second.database.close()
