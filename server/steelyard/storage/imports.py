"""Imports as they are stored, and the session in which a file becomes fills."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any
from uuid import UUID

import asyncpg

from steelyard.accounting.errors import VersionMismatch
from steelyard.accounting.keys import Account, InstrumentName
from steelyard.operations.importing import (
    ImportBuild,
    ImportCounts,
    ImportFilter,
    ImportRecord,
    ImportState,
    MergedPart,
    MergePlan,
    RowCategory,
    RowResult,
    StoreResult,
)
from steelyard.operations.ports import Commit
from steelyard.operations.reading import Cursor, Page, page_of
from steelyard.storage import staging
from steelyard.storage.account_log import advance_heads
from steelyard.storage.build_making import make_import_build
from steelyard.storage.database import Connection, Database
from steelyard.storage.driver_errors import translated
from steelyard.storage.instruments import find_accounts, find_instruments

OPTIMISTIC_ROWS = 2_000
"""Parts of at least so many rows are first inserted as if all of them were new."""
CONNECT_TIMEOUT_S = 5
PART_ATTEMPTS = 3
"""How often a part is tried where another writer was in the way."""
REQUEST_WAIT_MS = 600_000
"""How long a repeat waits for the import under the same request id."""
ALIVE_LOCK = 4_800_002
"""Advisory locks (this, hash of the import id) are held by imports at work."""
REQUEST_LOCK = 4_800_003
STAGED = (
    "row_number", "account", "book", "instrument", "leg", "side", "quantity", "price", "fee", "fee_currency",
    "executed_at", "source_sequence", "fill_id", "order_id",
)  # fmt: skip
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
_ROW = ("import_id", "row_number", "category", "field", "reason", "raw")


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
        async with import_connection(self._database) as connection:
            yield ImportSession(connection, self._database)

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
        return [
            RowResult(row["row_number"], RowCategory(row["category"]), row["field"], row["reason"], row["raw"])
            for row in rows
        ]

    async def page(self, wanted: ImportFilter, *, size: int, after: Cursor | None) -> Page[ImportRecord]:
        """Imports, the newest first."""
        created_at, import_id = after or (None, None)
        async with self._database.read() as connection:
            rows = await connection.fetch(_PAGE, wanted.import_id, wanted.account, created_at, import_id, size + 1)
        found = [record_of_row(row) for row in rows]
        return page_of(found, size=size, place=lambda record: (record.created_at, record.import_id))


class ImportSession:
    """Fulfils the port `StagedImport`."""

    def __init__(self, connection: Connection, database: Database) -> None:
        self._connection = connection
        self._database = database
        self._staged = 0
        """Rows of the part that is merged next."""
        self._accounts: set[Account] = set()
        """Those that the merged parts have named."""
        self._named: set[Account] = set()
        self._all_new = True
        """Whether no row of the file was known so far."""

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

    async def stage(self, lines: bytes) -> None:
        """Adds parsed rows, tab separated as COPY reads them, to the part that is merged next."""
        with translated():
            await self._connection.copy_to_table("staged_rows", source=BytesIO(lines), columns=STAGED, format="text")
        self._staged += lines.count(b"\n")

    async def merge(self, plan: MergePlan) -> MergedPart:
        """Records the staged part in a transaction of its own, in key order, and empties the staging place.

        With `is_validate_only` all parts of the session are one transaction that never commits.
        """
        with translated():
            if plan.is_validate_only and not self._connection.is_in_transaction():
                await self._connection.transaction().start()
            merged = await self._merge_with_retries(plan)
            await self._connection.execute(staging.CLEAR_ROWS)
            self._accounts |= self._named
            self._staged = 0
            return merged

    async def _merge_with_retries(self, plan: MergePlan) -> MergedPart:
        for attempt in range(1, PART_ATTEMPTS + 1):
            try:
                async with self._connection.transaction():
                    return await self._merge(plan)
            except (asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError, asyncpg.SerializationError):
                if attempt == PART_ATTEMPTS:
                    raise
        raise AssertionError("a try either returns or raises")

    async def _merge(self, plan: MergePlan) -> MergedPart:
        connection, commit_id = self._connection, secrets.randbits(62)
        await connection.execute(staging.CLEAR_PART)
        refused, results = await self._refuse(plan)
        await self._make_records(plan)
        recorded = await self._insert(plan, commit_id, rows=self._staged - refused)
        accounts = await self._note_part(plan)
        counts = ImportCounts(recorded=recorded, rejected=refused)
        if recorded + refused < self._staged:
            others, changed_accounts = await self._settle_others(plan, commit_id)
            counts = counts.plus(others)
            accounts |= changed_accounts
            results += await self._results(plan)
        seqs = await advance_heads(connection, accounts, commit_id=commit_id, cause="import")
        return MergedPart(counts, results, tuple(Commit(Account(name), seq) for name, seq in sorted(seqs.items())))

    async def _refuse(self, plan: MergePlan) -> tuple[int, list[StoreResult]]:
        """Takes the rows out that cannot be recorded, and gives how many there were and the first of them."""
        await self._connection.execute(staging.INSTRUMENTS)
        refused = _affected(await self._connection.execute(staging.REFUSALS, plan.now))
        if not refused:
            return 0, []
        await self._connection.execute(staging.TAKE_OUT)
        rows = await self._connection.fetch(staging.FIRST_REFUSALS, plan.results_max)
        return refused, [
            StoreResult(row["row_number"], RowCategory.VALIDATION, row["field"], row["reason"]) for row in rows
        ]

    async def _make_records(self, plan: MergePlan) -> None:
        """Makes the accounts and contracts that the file is the first to name."""
        self._named = {Account(row["account"]) for row in await self._connection.fetch(staging.ACCOUNTS)}
        contracts = [InstrumentName(row[0]) for row in await self._connection.fetch(staging.NEW_CONTRACTS)]
        await find_accounts(self._connection, self._named - self._accounts, make=plan.new_accounts)
        await find_instruments(self._connection, contracts)

    async def _insert(self, plan: MergePlan, commit_id: int, *, rows: int) -> int:
        """Inserts the rows that are not known, sums up their keys, and gives how many they were."""
        connection = self._connection
        if self._all_new and rows >= OPTIMISTIC_ROWS:
            try:
                async with connection.transaction():
                    await connection.execute(staging.INSERT_NEW, plan.import_id, commit_id)
                await connection.execute(staging.SUM_UP_ALL)
                return rows
            except asyncpg.UniqueViolationError:
                self._all_new = False
        await connection.execute(staging.INSERT_UNKNOWN, plan.import_id, commit_id)
        return int(await connection.fetchval(staging.COUNT_ADDED))

    async def _settle_others(self, plan: MergePlan, commit_id: int) -> tuple[ImportCounts, set[str]]:
        """Tells the rows that were not inserted apart: what they came to, and the accounts that they changed."""
        connection = self._connection
        await connection.execute("SET LOCAL enable_seqscan = off")
        await connection.execute(staging.LOOK_AT_OTHERS, commit_id, plan.import_id)
        await connection.execute("SET LOCAL enable_seqscan = on")
        counted = await connection.fetchrow(staging.COUNT_OTHERS)
        reinstated, accounts = await self._change_known(plan, commit_id)
        counts = ImportCounts(
            recorded=reinstated,
            repeated=counted["same"] - reinstated,
            conflicting=counted["conflicting"],
            rejected=counted["twice"],
        )
        return counts, accounts

    async def _note_part(self, plan: MergePlan) -> set[str]:
        """Leaves the keys in `part_keys` stale, notes them for the build, and gives their accounts."""
        connection = self._connection
        await connection.execute(staging.NOTE_STALE, secrets.randbits(61), "IMPORT", plan.is_held)
        await connection.execute(staging.NOTE_TOUCHED)
        return {row["account"] for row in await connection.fetch(staging.PART_ACCOUNTS)}

    async def _change_known(self, plan: MergePlan, commit_id: int) -> tuple[int, set[str]]:
        """Attests known fills, reinstates withdrawn ones and keeps smaller sequences: how many were reinstated, and
        the accounts that changed."""
        connection = self._connection
        await connection.execute(staging.ATTEST, plan.import_id)
        if not await connection.fetchval(staging.HAS_CHANGED):
            return 0, set()
        await connection.execute(staging.LOCK_CHANGING)
        moved = await connection.fetch(staging.KEEP_SMALLER)
        await connection.execute(staging.KEEP_REVISIONS)
        reinstated = await connection.fetch(staging.REINSTATE, plan.import_id, commit_id)
        ranges = _range_per_key([*moved, *reinstated])
        await connection.execute("TRUNCATE part_keys")
        await connection.copy_records_to_table("part_keys", records=ranges, columns=staging.PART_KEY)
        return len(reinstated), await self._note_part(plan)

    async def _results(self, plan: MergePlan) -> list[StoreResult]:
        rows = await self._connection.fetch(staging.CONFLICTS, plan.results_max)
        rows += await self._connection.fetch(staging.DUPLICATES, plan.results_max)
        return [
            StoreResult(row["row_number"], RowCategory(row["category"]), row["field"] or None, row["reason"])
            for row in rows
        ]

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
        if build is not None and await make_import_build(connection, build, import_id=record.import_id):
            build_id = build.build_id
        done = await connection.execute(
            _FINISH,
            *(record.import_id, counts.row_count, counts.recorded, counts.repeated, counts.conflicting),
            *(counts.rejected, counts.warnings, build_id, record.finished_at, sorted(self._accounts)),
        )
        if not _affected(done):
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


def _affected(status: str) -> int:
    """How many rows a command says it has affected."""
    return int(status.rsplit(" ", 1)[1])


def _range_per_key(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """What changed fills leave stale, one range per key: from the first place to the last, old places included."""
    places: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
    for row in rows:
        at, fill_id = row["executed_at"], row["fill_id"]
        of_key = places.setdefault((row["account"], row["book"], row["instrument"], row["leg"]), [])
        of_key += [(at, row["source_sequence"], fill_id), (at, row["old_sequence"], fill_id)]
    return [(*key, len(of_key) // 2, *min(of_key), *max(of_key)) for key, of_key in places.items()]


def _once_per_row(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """A row is told of once per category."""
    return list({row[1:3]: row for row in rows}.values())
