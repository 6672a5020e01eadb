"""The schema goes up, down and up again, and keeps the rules that sharding and exactness need."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import asyncpg
import pytest

from steelyard import migrations

ACCOUNT_TABLES = {
    "account_heads",
    "account_commits",
    "account_limits",
    "accounts",
    "adjustments",
    "checkpoints",
    "discrepancies",
    "fill_attestations",
    "fill_moves",
    "fill_revisions",
    "fills",
    "inbox",
    "instrument_limits",
    "limit_breaches",
    "lots",
    "order_feeds",
    "order_states",
    "outbox",
    "past_changes",
    "position_events",
    "position_snapshots",
    "positions",
    "published_portfolios",
    "round_trips",
    "stale_keys",
    "venue_reports",
}


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    opened = await asyncpg.connect(database_url)
    yield opened
    await opened.close()


async def _tables(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    await connection.close()
    return {row["tablename"] for row in rows}


async def test_migrations_go_up_down_and_up_again(empty_database_url: str) -> None:
    await asyncio.to_thread(migrations.upgrade, empty_database_url)
    full = await _tables(empty_database_url)
    await asyncio.to_thread(migrations.downgrade, empty_database_url, "base")
    assert await _tables(empty_database_url) == {"alembic_version"}
    await asyncio.to_thread(migrations.upgrade, empty_database_url)
    assert await _tables(empty_database_url) == full
    assert migrations.current_revision(empty_database_url) == migrations.head_revision()


async def test_two_processes_that_migrate_at_once_do_not_meet(empty_database_url: str) -> None:
    await asyncio.gather(*(asyncio.to_thread(migrations.upgrade, empty_database_url) for _ in range(3)))
    assert migrations.current_revision(empty_database_url) == migrations.head_revision()


async def test_every_key_and_index_of_account_data_begins_with_the_account(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        """
        SELECT t.relname AS table, i.relname AS index, a.attname AS first
        FROM pg_index x
        JOIN pg_class t ON t.oid = x.indrelid AND t.relkind IN ('r', 'p') AND NOT t.relispartition
        JOIN pg_class i ON i.oid = x.indexrelid
        JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = x.indkey[0]
        JOIN pg_namespace n ON n.oid = t.relnamespace AND n.nspname = 'public'
        """
    )
    indexed = [row for row in rows if row["table"] in ACCOUNT_TABLES]
    assert {row["table"] for row in indexed} == ACCOUNT_TABLES
    assert [row["index"] for row in indexed if row["first"] != "account"] == []


async def test_a_table_with_an_account_column_is_known_as_account_data(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        """
        SELECT DISTINCT c.table_name FROM information_schema.columns c JOIN pg_class t ON t.relname = c.table_name
        WHERE c.table_schema = 'public' AND c.column_name = 'account' AND NOT t.relispartition
          AND t.relkind IN ('r', 'p')
        """
    )
    # What a job does, key by key, belongs to the job and is found by its id.
    assert {row["table_name"] for row in rows} - ACCOUNT_TABLES <= {"build_keys", "import_staging", "import_fills"}


@pytest.mark.parametrize("bad", ["NaN", "1e20", "-1e20", "Infinity"])
async def test_a_number_that_cannot_be_kept_exactly_is_refused(connection: asyncpg.Connection, bad: str) -> None:
    with pytest.raises((asyncpg.CheckViolationError, asyncpg.NumericValueOutOfRangeError)):
        await connection.execute(
            "INSERT INTO marks (instrument, price, marked_at, source) VALUES ('X', $1, now(), 's')", Decimal(bad)
        )


async def test_small_differences_are_kept(connection: asyncpg.Connection) -> None:
    await connection.execute(
        "INSERT INTO marks (instrument, price, marked_at, source) VALUES ('X', $1, now(), 's')", Decimal("1e-19")
    )
    assert await connection.fetchval("SELECT price FROM marks WHERE instrument = 'X'") == Decimal("1e-19")


async def test_a_key_has_at_most_one_open_trip(connection: asyncpg.Connection) -> None:
    insert = """
        INSERT INTO round_trips SELECT 'a', gen_random_uuid(), 'main', 'X', 'NET', 'LONG', now(), $1, 'f', 1, false,
            now(), 0, 'f', NULL, 1, 1, 0, 0, 1, 1, false, 0, 0, 0, 0, 0, 0, 0, 0, 1, NULL
    """
    await connection.execute(insert, 1)
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute(insert, 2)
