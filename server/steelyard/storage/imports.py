"""Imports as they are stored, and the session in which a file becomes fills."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg

from steelyard.accounting.errors import VersionMismatch
from steelyard.operations.importing import (
    ImportBuild,
    ImportCounts,
    ImportFilter,
    ImportRecord,
    ImportState,
    RowCategory,
    RowResult,
)
from steelyard.operations.reading import Cursor, Page, page_of
from steelyard.storage import staging
from steelyard.storage.build_making import make_import_build
from steelyard.storage.database import Connection, Database
from steelyard.storage.driver_errors import translated
from steelyard.storage.import_lane import FileSoFar, ImportLane, affected

CONNECT_TIMEOUT_S = 5
REQUEST_WAIT_MS = 600_000
"""How long a repeat waits for the import under the same request id."""
ALIVE_LOCK = 4_800_002
"""Advisory locks (this, hash of the import id) are held by imports at work."""
REQUEST_LOCK = 4_800_003
_SESSION = {
    "application_name": "steelyard-import",
    "jit": "off",
    "timezone": "UTC",
    "statement_timeout": "600000",
    "lock_timeout": "30000",
    "idle_in_transaction_session_timeout": "60000",
    "temp_buffers": "64MB",
    "work_mem": "64MB",
}
RECORD = """
SELECT import_id, request_id, file_name, format, content_hash, size_bytes, default_account, time_zone, state,
       is_auto_build, row_count, recorded, repeated, conflicting, rejected, warnings, build_id, error, created_at,
       finished_at, rolled_back_at, withdrawn
FROM imports
"""
_PAGE = f"""
{RECORD}
WHERE ($1::uuid IS NULL OR import_id = $1) AND ($2::text IS NULL OR $2 = ANY(accounts))
  AND ($3::timestamptz IS NULL OR (created_at, import_id) < ($3, $4::uuid))
ORDER BY created_at DESC, import_id DESC LIMIT $5
"""
_BEGIN = """
INSERT INTO imports (import_id, request_id, file_name, format, content_hash, size_bytes, default_account, time_zone,
                     state, is_auto_build, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'RUNNING', $9, $10)
"""
_FINISH = """
UPDATE imports SET state = 'DONE', row_count = $2, recorded = $3, repeated = $4, conflicting = $5, rejected = $6,
       warnings = $7, build_id = $8, finished_at = $9, accounts = $10
WHERE import_id = $1 AND state = 'RUNNING'
"""
_RESULTS_PAGE = """
SELECT row_number, category, field, reason, raw FROM import_rows
WHERE import_id = $1 AND (cardinality($2::text[]) = 0 OR category = ANY($2))
  AND ($3::bigint IS NULL OR (row_number, category) > ($3, $4::text))
ORDER BY row_number, category LIMIT $5
"""
_ROW = ("import_id", "row_number", "category", "field", "reason", "raw")


def _result_of_row(row: Mapping[str, Any]) -> RowResult:
    return RowResult(row["row_number"], RowCategory(row["category"]), row["field"], row["reason"], row["raw"])


def record_of_row(row: Mapping[str, Any]) -> ImportRecord:
    """The import in a row of `imports`."""
    return ImportRecord(
        import_id=row["import_id"],
        request_id=row["request_id"],
        file_name=row["file_name"],
        format=row["format"],
        content_hash=row["content_hash"],
        size_bytes=row["size_bytes"],
        default_account=row["default_account"],
        time_zone=row["time_zone"],
        state=ImportState(row["state"]),
        is_auto_build=row["is_auto_build"],
        counts=ImportCounts(
            row["row_count"], row["recorded"], row["repeated"], row["conflicting"], row["rejected"], row["warnings"]
        ),
        build_id=row["build_id"],
        error=row["error"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
        rolled_back_at=row["rolled_back_at"],
        withdrawn=row["withdrawn"],
    )


@asynccontextmanager
async def import_connection(database: Database) -> AsyncIterator[Connection]:
    """A connection of its own with the staging tables: they live and die with it, and the pool stays free."""
    with translated():
        connection = await asyncpg.connect(database.url, timeout=CONNECT_TIMEOUT_S, server_settings=_SESSION)
    try:
        with translated():
            await connection.execute(staging.TABLES)
        yield connection
    finally:
        connection.terminate()


class PostgresImports:
    """Fulfils the port `ImportStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def session(self) -> AsyncIterator[ImportSession]:
        """A session of its own with the store."""
        async with import_connection(self._database) as connection, AsyncExitStack() as others:
            yield ImportSession(connection, self._database, others=others)

    async def import_record(self, import_id: UUID) -> ImportRecord | None:
        """An import by its id."""
        async with self._database.read() as connection:
            row = await connection.fetchrow(f"{RECORD} WHERE import_id = $1", import_id)
        return None if row is None else record_of_row(row)

    async def import_results(self, import_id: UUID, *, limit: int) -> Sequence[RowResult]:
        """The row results kept of an import, in file order."""
        async with self._database.read() as connection:
            rows = await connection.fetch(
                "SELECT row_number, category, field, reason, raw FROM import_rows WHERE import_id = $1 "
                "ORDER BY row_number, category LIMIT $2",
                import_id,
                limit,
            )
        return [_result_of_row(row) for row in rows]

    async def results_page(
        self, import_id: UUID, *, categories: Sequence[RowCategory], size: int, after: Cursor | None
    ) -> Page[RowResult]:
        """The row results kept of an import, of these categories (none: of all), in file order."""
        row_number, category = after or (None, None)
        wanted = [each.value for each in categories]
        async with self._database.read() as connection:
            rows = await connection.fetch(_RESULTS_PAGE, import_id, wanted, row_number, category, size + 1)
        found = [_result_of_row(row) for row in rows]
        return page_of(found, size=size, place=lambda said: (said.row_number, said.category.value))

    async def page(self, wanted: ImportFilter, *, size: int, after: Cursor | None) -> Page[ImportRecord]:
        """Imports, the newest first."""
        created_at, import_id = after or (None, None)
        async with self._database.read() as connection:
            rows = await connection.fetch(_PAGE, wanted.import_id, wanted.account, created_at, import_id, size + 1)
        found = [record_of_row(row) for row in rows]
        return page_of(found, size=size, place=lambda record: (record.created_at, record.import_id))


class ImportSession:
    """Fulfils the port `StagedImport`."""

    def __init__(self, connection: Connection, database: Database, *, others: AsyncExitStack) -> None:
        self._connection = connection
        self._database = database
        self._others = others
        self._file = FileSoFar()
        self._lanes = [ImportLane(connection, self._file)]

    async def settle_request(self, request_id: UUID) -> ImportRecord | None:
        """Waits for another import under this request id to end, then gives the one that ended well."""
        with translated():
            await self._connection.execute(f"SET lock_timeout = {REQUEST_WAIT_MS}")
            await self._connection.execute(
                "SELECT pg_advisory_lock($1, hashtext($2::text))", REQUEST_LOCK, str(request_id)
            )
            await self._connection.execute(f"SET lock_timeout = {_SESSION['lock_timeout']}")
            row = await self._connection.fetchrow(
                f"{RECORD} WHERE request_id = $1 AND state IN ('DONE', 'ROLLED_BACK') ORDER BY created_at LIMIT 1",
                request_id,
            )
        return None if row is None else record_of_row(row)

    async def begin(self, record: ImportRecord) -> None:
        """Stores the import as RUNNING; while this session lives it counts as alive."""
        with translated():
            await self._connection.execute(
                "SELECT pg_advisory_lock($1, hashtext($2::text))", ALIVE_LOCK, str(record.import_id)
            )
            await self._connection.execute(
                _BEGIN,
                *(record.import_id, record.request_id, record.file_name, record.format, record.content_hash),
                *(record.size_bytes, record.default_account, record.time_zone, record.is_auto_build, record.created_at),
            )

    async def lane(self, number: int) -> ImportLane:
        """A lane with staging tables of its own; the first one is the session's, others are opened when asked for."""
        while len(self._lanes) <= number:
            connection = await self._others.enter_async_context(import_connection(self._database))
            self._lanes.append(ImportLane(connection, self._file))
        return self._lanes[number]

    async def finish(
        self, record: ImportRecord, *, results: Sequence[RowResult], build: ImportBuild | None
    ) -> ImportRecord:
        """Stores the end of the import, its row results, and the build of the keys it touched, in one transaction."""
        with translated():
            async with self._connection.transaction():
                return await self._finish(record, results=results, build=build)

    async def _finish(
        self, record: ImportRecord, *, results: Sequence[RowResult], build: ImportBuild | None
    ) -> ImportRecord:
        connection, counts = self._connection, record.counts
        rows = [
            (record.import_id, said.row_number, said.category.value, said.field, said.reason, said.raw)
            for said in results
        ]
        await connection.copy_records_to_table("import_rows", records=_once_per_row(rows), columns=_ROW)
        build_id = None
        for lane in self._lanes[1:]:
            await self._lanes[0].take_touched(lane)
        if build is not None and await make_import_build(connection, build, import_id=record.import_id):
            build_id = build.build_id
        done = await connection.execute(
            _FINISH,
            *(record.import_id, counts.row_count, counts.recorded, counts.repeated, counts.conflicting),
            *(counts.rejected, counts.warnings, build_id, record.finished_at, sorted(self._file.accounts)),
        )
        if not affected(done):
            raise VersionMismatch("the import was given up meanwhile")
        row = await connection.fetchrow(f"{RECORD} WHERE import_id = $1", record.import_id)
        return record_of_row(row)

    async def fail(self, import_id: UUID, *, error: str) -> None:
        """Stores that the import ended badly; what it committed stays. On another connection: ours may be gone."""
        async with self._database.write() as connection:
            await connection.execute(
                "UPDATE imports SET state = 'FAILED', error = $2, finished_at = clock_timestamp() "
                "WHERE import_id = $1 AND state = 'RUNNING'",
                import_id,
                error[:2_000],
            )


def _once_per_row(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """A row is told of once per category."""
    return list({row[1:3]: row for row in rows}.values())
