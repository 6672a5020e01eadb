"""The second reference of B4: the statements of a service's rounds, straight through asyncpg.

The statements that the service's own writer sends while it commits batches are noted with their arguments, on a copy of
the book, and sent again to another copy as they were: the same rows in the same batches, with nothing to be decided,
folded or told in between.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg

from steelyard.accounting.errors import SteelyardError
from steelyard.operations.record_fills import RecordFills
from steelyard.rpc import decode_fill
from steelyard.storage.database import Database
from steelyard.storage.ledger import PostgresLedger, PostgresTransaction
from steelyard.v1 import fill_service_pb2
from tests.bench.harness import BenchUnavailable
from tests.bench.store import PATTERN, open_database

CAUSE = "fill"
Statement = tuple[str, tuple[Any, ...]]


class _Noting:
    """A connection that notes what it is asked."""

    def __init__(self, connection: Any, noted: list[Statement]) -> None:
        self._connection = connection
        self._noted = noted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def fetch(self, statement: str, *arguments: Any) -> Any:
        self._noted.append((statement, arguments))
        return await self._connection.fetch(statement, *arguments)

    async def fetchval(self, statement: str, *arguments: Any) -> Any:
        self._noted.append((statement, arguments))
        return await self._connection.fetchval(statement, *arguments)

    async def fetchrow(self, statement: str, *arguments: Any) -> Any:
        self._noted.append((statement, arguments))
        return await self._connection.fetchrow(statement, *arguments)

    async def execute(self, statement: str, *arguments: Any) -> Any:
        self._noted.append((statement, arguments))
        return await self._connection.execute(statement, *arguments)


@dataclass(slots=True)
class _NotingLedger:
    """The ledger, with the statements of each transaction noted."""

    ledger: PostgresLedger
    rounds: list[list[Statement]] = field(default_factory=list)

    @asynccontextmanager
    async def transaction(self, *, cause: str, is_read_only: bool = False) -> AsyncIterator[PostgresTransaction]:
        noted: list[Statement] = []
        async with self.ledger.transaction(cause=cause, is_read_only=is_read_only) as book:
            book.connection = _Noting(book.connection, noted)
            yield book
        self.rounds.append(noted)


async def rounds_of(url: str, batches: Iterable[fill_service_pb2.StreamFillsRequest]) -> list[list[Statement]]:
    """What the service's writer sends to a book for these batches, one transaction after the other."""
    database: Database = open_database(url)
    ledger = _NotingLedger(PostgresLedger(database, lambda: datetime.now(UTC)))
    record = RecordFills(ledger, lambda: datetime.now(UTC), new_accounts=PATTERN)
    record.start()
    try:
        for batch in batches:
            fills = [decode_fill.fill(message, field="fill") for message in batch.fills]
            for item in (await record.record_batch(fills)).items:
                if isinstance(item, SteelyardError):
                    raise BenchUnavailable(f"a fill was refused: {item}")
    finally:
        await record.close()
        await database.close()
    return ledger.rounds


async def seconds_of(url: str, rounds: Sequence[Sequence[Statement]]) -> float:
    """How long sending these statements takes, each round one transaction of one connection."""
    connection = await asyncpg.connect(url)
    try:
        # As for the service, whose connections know their statements: each is prepared before anything is measured.
        for statement in {statement for statements in rounds for statement, _ in statements}:
            await connection.prepare(statement)
        started = time.perf_counter()
        for statements in rounds:
            async with connection.transaction():
                for statement, arguments in statements:
                    await connection.fetch(statement, *arguments)
        return time.perf_counter() - started
    finally:
        await connection.close()
