"""The store that benchmarks work on: an embedded PostgreSQL that flushes to disk, and histories put into it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from steelyard.accounting.fold import FoldRules
from steelyard.accounting.keys import DEFAULT_BOOK, Account, InstrumentName, Leg, PositionKey
from steelyard.embedded import EmbeddedPostgres
from steelyard.migrations import upgrade
from steelyard.operations.ports import AccountRules
from steelyard.operations.refold import Cause, refold_key
from steelyard.storage.database import Database, DatabaseLimits
from steelyard.storage.ledger import PostgresLedger
from tests.bench.histories import Execution

FOLDER = Path(".work") / "bench"
PATTERN = AccountRules(Account("pattern"))
NOW = datetime(2026, 6, 1, tzinfo=UTC)
"""What the benchmarks' own operations take for the current time."""
STATEMENT_TIMEOUT_MS = 600_000
FILL = ("account", "book", "instrument", "leg", "fill_id", "delta", "price", "fee", "executed_at", "source_sequence",
        "commit_id")  # fmt: skip


@asynccontextmanager
async def durable_postgres() -> AsyncIterator[EmbeddedPostgres]:
    """A server of our own whose commits reach the disk, on files that are thrown away afterwards."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    async with await EmbeddedPostgres.start(durable=True, temporary_parent=FOLDER.resolve()) as postgres:
        yield postgres


async def new_database(postgres: EmbeddedPostgres, name: str) -> str:
    """The url of a new database with the newest schema."""
    await _administer(postgres, f'CREATE DATABASE "{name}"')
    url = postgres.database_url(name)
    await asyncio.to_thread(upgrade, url)
    return url


async def copy_database(postgres: EmbeddedPostgres, name: str, *, template: str) -> str:
    """The url of a copy of a database that nobody is connected to."""
    await _administer(postgres, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    return postgres.database_url(name)


async def drop_database(postgres: EmbeddedPostgres, name: str) -> None:
    """Drops a database, ending whatever is still connected to it."""
    await _administer(postgres, f'DROP DATABASE "{name}" WITH (FORCE)')


async def _administer(postgres: EmbeddedPostgres, statement: str) -> None:
    connection = await asyncpg.connect(postgres.url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def open_database(url: str) -> Database:
    """A pool whose statements may take as long as a seed needs."""
    limits = DatabaseLimits(
        statement_timeout_ms=STATEMENT_TIMEOUT_MS, idle_in_transaction_timeout_ms=STATEMENT_TIMEOUT_MS
    )
    return Database(url, limits)


def ledger_on(database: Database) -> PostgresLedger:
    """The ledger, at the benchmarks' time."""
    return PostgresLedger(database, lambda: NOW)


def key_of(account: str, instrument: str) -> PositionKey:
    """A net position in the default book."""
    return PositionKey(Account(account), DEFAULT_BOOK, InstrumentName(instrument), Leg.NET)


async def make_instruments(database: Database, names: Iterable[str]) -> None:
    """Linear contracts, one money per point, settled in USD."""
    async with database.write() as connection:
        await connection.execute(
            "INSERT INTO instruments (instrument, kind, multiplier, quote_currency, settle_currency) "
            "SELECT n, 'LINEAR', 1, 'USD', 'USD' FROM unnest($1::text[]) AS t(n)",
            sorted(names),
        )


async def store_history(database: Database, key: PositionKey, fills: Iterable[Execution]) -> None:
    """Puts the fills of a new key into the book and folds them, in one transaction."""
    async with ledger_on(database).transaction(cause="seed") as book:
        await book.accounts([key.account], make=PATTERN)
        rules = FoldRules((await book.instruments([key.instrument]))[key.instrument], key.leg)
        await book.connection.copy_records_to_table(
            "fills",
            records=(
                (*key, fill.fill_id, fill.delta, fill.price, fill.fee, fill.executed_at, 0, book.commit_id)
                for fill in fills
            ),
            columns=FILL,
        )
        stored = (await book.lock_positions([key]))[key]
        await book.apply([await refold_key(book, stored=stored, rules=rules, changed=None, cause=Cause("seed"))])


async def settle(database: Database) -> None:
    """Brings statistics up to date and flushes, so that every run starts alike."""
    async with database.bare() as connection:
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")
