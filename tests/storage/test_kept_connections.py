"""Connections kept at hand for short reads: the same one again, never a broken one, and never more than a part."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from steelyard.accounting.errors import StoreUnavailable
from steelyard.storage.database import Database, DatabaseLimits

PID = "SELECT pg_backend_pid()"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, DatabaseLimits(pool_size=10))
    yield database
    await database.close()


async def pid(database: Database) -> int:
    async with database.keyed() as connection:
        return int(await connection.fetchval(PID))


async def sleep(database: Database) -> None:
    async with database.keyed() as connection:
        await connection.fetchval("SELECT pg_sleep(30)")


async def end(database: Database, backend: int) -> None:
    """Ends a connection from the store's side, and waits until its socket has heard."""
    async with database.bare() as connection:
        assert await connection.fetchval("SELECT pg_terminate_backend($1, 5000)", backend)
    await asyncio.sleep(0.05)


async def test_the_same_connection_serves_one_read_after_the_other_and_keeps_its_plans(database: Database) -> None:
    async with database.keyed() as connection:
        assert await connection.fetchval("SHOW plan_cache_mode") == "force_generic_plan"
    assert await pid(database) == await pid(database)
    async with database.bare() as connection:
        assert await connection.fetchval("SHOW plan_cache_mode") == "auto"
    assert database.in_use == 0


async def test_a_fifth_of_the_pool_is_kept_and_whoever_comes_then_takes_from_the_pool(database: Database) -> None:
    async with database.keyed() as one, database.keyed() as two, database.keyed() as three:
        modes = [await each.fetchval("SHOW plan_cache_mode") for each in (one, two, three)]
        assert modes == ["force_generic_plan", "force_generic_plan", "auto"]
        assert database.in_use == 3
    assert database.in_use == 0


async def test_a_small_pool_keeps_nothing(database_url: str) -> None:
    small = Database(database_url, DatabaseLimits(pool_size=4))
    async with small.keyed() as connection:
        assert await connection.fetchval("SHOW plan_cache_mode") == "auto"
    await small.close()


async def test_one_that_the_store_has_ended_is_replaced(database: Database) -> None:
    before = await pid(database)
    await end(database, before)
    assert await pid(database) != before


async def test_one_that_ends_while_it_is_used_is_an_outage_and_gone(database: Database) -> None:
    before = await pid(database)
    reading = asyncio.create_task(sleep(database))
    await asyncio.sleep(0.05)
    await end(database, before)
    with pytest.raises(StoreUnavailable):
        await reading
    assert await pid(database) != before
    assert database.in_use == 0


async def test_whoever_is_cancelled_while_he_reads_takes_his_connection_with_him(database: Database) -> None:
    """What it was sent may still be answered: nobody else may read that."""
    before = await pid(database)
    reading = asyncio.create_task(sleep(database))
    await asyncio.sleep(0.05)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await pid(database) != before


async def test_none_is_left_when_all_are_closed(database_url: str) -> None:
    database = Database(database_url, DatabaseLimits(pool_size=10))
    backend = await pid(database)
    await database.close()
    connection = await asyncpg.connect(database_url)
    assert not await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", backend)
    await connection.close()


async def test_none_can_be_had_of_a_store_that_is_away_and_all_of_one_that_is_back() -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/nothing", DatabaseLimits(pool_size=5))
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await pid(away)
    assert away._kept.has_one
    await away.close()
