"""What the tests of imports and builds work with: the operations on a real database, and workers in this process."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from steelyard.accounting.keys import Account, Book, FillId, InstrumentName, Leg, PositionKey
from steelyard.builds.progress_feed import ProgressFeed
from steelyard.builds.worker import WorkerSettings, run_worker
from steelyard.imports.reading import ParsedFiles
from steelyard.imports.spool import SpoolFolder
from steelyard.operations.build_positions import BuildPositions
from steelyard.operations.building import (
    Build,
    BuildMode,
    BuildPriority,
    BuildScope,
    BuildTrigger,
    KeyResult,
    NewBuild,
    RequestMark,
)
from steelyard.operations.import_trades import ImportLimits, ImportReceipt, ImportRequest, ImportTrades
from steelyard.operations.importing import RowCategory
from steelyard.operations.ports import AccountRules
from steelyard.operations.record_fills import RecordFills
from steelyard.storage.build_chunks import PostgresChunkWork
from steelyard.storage.build_sweep import PostgresSweep
from steelyard.storage.builds import PostgresBuilds
from steelyard.storage.codec import key_of
from steelyard.storage.database import Database
from steelyard.storage.imports import PostgresImports
from steelyard.storage.ledger import PostgresLedger

NINJATRADER_HEADER = (
    "Instrument,Action,Quantity,Price,Time,ID,E/X,Position,Order ID,Name,Commission,Rate,Account,Connection,"
)
GENERIC_HEADER = "fill_id,account,book,instrument,side,quantity,price,fee,fee_currency,executed_at"
WAIT_S = 60.0


def clock() -> datetime:
    return datetime.now(UTC)


def key(account: str, book: str, instrument: str) -> PositionKey:
    """A key on the net leg."""
    return PositionKey(Account(account), Book(book), InstrumentName(instrument), Leg.NET)


def scope(
    accounts: Sequence[str] = (), pairs: Sequence[tuple[str, str]] = (), fills: Sequence[tuple[str, str]] = ()
) -> BuildScope:
    """What a build is about."""
    return BuildScope(
        tuple(map(Account, accounts)),
        tuple((Account(account), InstrumentName(name)) for account, name in pairs),
        tuple((Account(account), FillId(fill_id)) for account, fill_id in fills),
    )


def generic(rows: Iterable[str], header: str = GENERIC_HEADER) -> bytes:
    """A generic CSV of these rows."""
    return "\n".join([header, *rows, ""]).encode()


async def chunked(content: bytes, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


@dataclass
class Desk:
    """The operations on one database."""

    url: str
    limits: ImportLimits = field(default_factory=ImportLimits)

    def __post_init__(self) -> None:
        self.database = Database(self.url)
        self.store = PostgresImports(self.database)
        self.imports = ImportTrades(
            store=self.store, reader=ParsedFiles(), spool=SpoolFolder(), clock=clock, limits=self.limits
        )
        self.builds = PostgresBuilds(self.database)
        self.feed = ProgressFeed(self.builds)
        self.ledger = PostgresLedger(self.database, clock)
        self.builder = BuildPositions(PostgresChunkWork(self.database, clock), clock)
        self.sweep = PostgresSweep(self.database)
        self.fills = RecordFills(
            self.ledger, clock, new_accounts=AccountRules(Account(""), time_zone="UTC"), jitter=lambda: 0.5
        )

    async def load(self, content: bytes, **asked: Any) -> ImportReceipt:
        """Imports a file."""
        request = ImportRequest(request_id=uuid.uuid4(), file_name="trades.csv")
        return await self.imports.run(replace(request, **asked), chunked(content))

    async def create(
        self, scope: BuildScope | None = None, mode: BuildMode = BuildMode.INCREMENTAL, **more: Any
    ) -> Build:
        """Starts a build."""
        mark: RequestMark | None = more.pop("mark", None)
        new = NewBuild(
            uuid.uuid4(), scope or BuildScope(), mode, BuildTrigger.MANUAL, more.pop("priority", None), 3_600, **more
        )
        build, _ = await self.builds.create(new, mark)
        return build

    async def retry(self, build_id: uuid.UUID) -> Build:
        new = NewBuild(
            uuid.uuid4(), BuildScope(), BuildMode.INCREMENTAL, BuildTrigger.RETRY, None, 3_600, retry_of=build_id
        )
        return (await self.builds.retry(new, None))[0]

    async def run(self, build_id: uuid.UUID | None) -> Build:
        """Does a build's chunks here and now, without a worker."""
        assert build_id is not None
        for row in await self.rows("SELECT chunk FROM build_chunks WHERE build_id = $1 ORDER BY 1", build_id):
            await self.builder.run_chunk(build_id, row["chunk"])
        return await self.build(build_id)

    async def build(self, build_id: uuid.UUID) -> Build:
        found = await self.builds.find(build_id, results_max=1_000)
        assert found is not None
        return found

    async def ended(self, build_id: uuid.UUID | None, *, timeout_s: float = WAIT_S) -> Build:
        """Waits for the end of a build."""
        assert build_id is not None
        async with asyncio.timeout(timeout_s):
            while not (build := await self.build(build_id)).state.is_terminal:  # noqa: ASYNC110 - the store is looked at
                await asyncio.sleep(0.05)
        return build

    @asynccontextmanager
    async def worker(self, **settings: Any) -> AsyncIterator[None]:
        """A worker in this process."""
        stop = asyncio.Event()
        work = asyncio.ensure_future(
            run_worker(self.url, builder=self.builder, sweep=self.sweep, settings=WorkerSettings(**settings), stop=stop)
        )
        try:
            yield
        finally:
            stop.set()
            await work

    async def rows(self, sql: str, *arguments: Any) -> list[Any]:
        async with self.database.read() as connection:
            return list(await connection.fetch(sql, *arguments))

    async def value(self, sql: str, *arguments: Any) -> Any:
        async with self.database.read() as connection:
            return await connection.fetchval(sql, *arguments)

    async def plant(self, sql: str, *arguments: Any) -> None:
        """Changes the store behind the product's back."""
        async with self.database.write() as connection:
            await connection.execute(sql, *arguments)

    async def positions(self) -> dict[PositionKey, dict[str, Any]]:
        """All positions as stored."""
        return {key_of(row): dict(row) for row in await self.rows("SELECT * FROM positions")}

    async def book(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything folded, as one value to compare; versions and times of writing left out."""
        left_out = {"version", "created_at", "updated_at", "since_checkpoint", "annotation_version"}
        compared: dict[str, list[tuple[Any, ...]]] = {}
        for table, order in (
            ("positions", "account, book, instrument, leg"),
            ("round_trips", "account, trip_id"),
            ("lots", "account, book, instrument, leg, opened_at, opened_sequence, opened_entry_id"),
        ):
            found = await self.rows(f"SELECT * FROM {table} ORDER BY {order}")
            compared[table] = [tuple(v for k, v in row.items() if k not in left_out) for row in found]
        return compared

    async def cancel(self, build_id: uuid.UUID | None, mark: RequestMark | None = None) -> tuple[Build, bool]:
        """Asks a build to stop."""
        assert build_id is not None
        return await self.builds.cancel(build_id, mark)

    async def close(self) -> None:
        await self.database.close()


def failed_checks(results: Iterable[KeyResult]) -> dict[str, list[str]]:
    """Which checks which instruments failed."""
    return {result.key.instrument: [error.check for error in result.errors] for result in results if result.errors}


def reasons(receipt: ImportReceipt) -> list[tuple[int, RowCategory, str | None]]:
    """What an import says of rows."""
    return [(said.row_number, said.category, said.field) for said in receipt.results]


__all__ = ["BuildPriority", "Desk", "chunked", "clock", "failed_checks", "generic", "key", "reasons", "scope"]
