"""The pool hands out connections that are as good as new, whatever happened to those who had them before."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from steelyard.storage.database import Database, DatabaseLimits

TURNS_MAX = 250
"""Turns of the loop after which a transaction is long over."""
SETTLE_S = 0.003
"""By then what was cut off has had its effect."""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, DatabaseLimits(pool_size=1))
    yield database
    await database.close()


async def test_whoever_is_cancelled_while_his_transaction_begins_leaves_no_open_one_in_the_pool(
    database: Database,
) -> None:
    """What is written next would be a savepoint within it, and never be committed."""

    async def write() -> None:
        async with database.write() as connection:
            await connection.fetchval("SELECT 1")

    await write()
    for turns in range(TURNS_MAX):
        writing = asyncio.create_task(write())
        for _ in range(turns):
            await asyncio.sleep(0)
        writing.cancel()
        with suppress(asyncio.CancelledError):
            await writing
        await asyncio.sleep(SETTLE_S)
        async with database.bare() as connection:
            assert not connection.is_in_transaction()
        await write()
