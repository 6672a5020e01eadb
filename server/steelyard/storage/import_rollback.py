"""Taking an import back: its fills are withdrawn, except those that another import or a caller attests.

`fills.import_id` is the first attester (NULL: a caller), `fill_attestations` the others (the nil id: a caller). A fill
whose first attester goes is handed to another one, or withdrawn where there is none.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from steelyard.accounting.errors import NotFound, PeriodSealed
from steelyard.accounting.keys import Account
from steelyard.operations.building import RequestMark
from steelyard.operations.importing import ImportBuild, ImportRecord, ImportState, RolledBack
from steelyard.operations.ports import Commit
from steelyard.storage import requests, staging
from steelyard.storage.account_log import advance_heads
from steelyard.storage.build_making import make_import_build
from steelyard.storage.database import Connection, Database
from steelyard.storage.driver_errors import translated
from steelyard.storage.fills import CALLER_ATTESTS
from steelyard.storage.import_lane import note_part
from steelyard.storage.imports import RECORD, import_connection, record_of_row
from steelyard.storage.seals import EarliestEntries

PART_FILLS = 50_000
"""Fills that one transaction withdraws."""
ROLLBACK_LOCK = 4_800_005

# By account, as the index is. What other imports attest counts as long as they are not taken back themselves.
_FIND = """
CREATE TEMP TABLE rollback_fills AS
SELECT row_number() OVER (ORDER BY f.account, f.fill_id) AS place, f.account, f.fill_id, (
    SELECT a.import_id FROM fill_attestations a LEFT JOIN imports i USING (import_id)
    WHERE a.account = f.account AND a.fill_id = f.fill_id AND a.import_id <> $1
      AND (a.import_id = $2 OR i.state <> 'ROLLED_BACK')
    ORDER BY a.import_id LIMIT 1
) AS successor
FROM fills f WHERE f.account IN (SELECT account FROM accounts) AND f.import_id = $1 AND f.state = 'LIVE'
"""
# The planner may expect one fill of an import where there are a million, and begin with those: each is then one probe.
_INDEX = """
ALTER TABLE rollback_fills ADD PRIMARY KEY (account, fill_id);
CREATE INDEX ON rollback_fills (place);
ANALYZE rollback_fills;
"""
_IS_SEALED = """
SELECT f.fill_id FROM rollback_fills r JOIN fills f USING (account, fill_id) JOIN accounts a USING (account)
WHERE r.successor IS NULL AND f.executed_at < a.sealed_before LIMIT 1
"""
_LOCK = """
SELECT FROM fills f JOIN rollback_fills r USING (account, fill_id)
WHERE r.place > $1 AND r.place <= $2 ORDER BY f.account, f.fill_id FOR NO KEY UPDATE OF f
"""
_HAND_OVER = """
WITH handed AS (
    UPDATE fills f SET import_id = nullif(r.successor, $4) FROM rollback_fills r
    WHERE r.place > $1 AND r.place <= $2 AND r.successor IS NOT NULL
      AND f.account = r.account AND f.fill_id = r.fill_id AND f.import_id = $3
    RETURNING f.account, f.fill_id, r.successor
)
DELETE FROM fill_attestations a USING handed h
WHERE a.account = h.account AND a.fill_id = h.fill_id AND a.import_id = h.successor
"""
_OURS = """
rollback_fills r WHERE r.place > $1 AND r.place <= $2 AND r.successor IS NULL
    AND f.account = r.account AND f.fill_id = r.fill_id AND f.import_id = $3 AND f.state = 'LIVE'
"""
_KEEP_REVISIONS = f"""
INSERT INTO fill_revisions ({staging.REVISION})
SELECT {staging.REVISION_OF_F} FROM fills f, {_OURS}
"""  # noqa: S608
_WITHDRAW = f"""
WITH added AS (
    UPDATE fills f SET state = 'WITHDRAWN', revision = f.revision + 1, commit_id = $4, recorded_at = now() FROM {_OURS}
    RETURNING f.account, f.book, f.instrument, f.leg, f.executed_at, f.source_sequence, f.fill_id
)
{staging.SUM_UP}
"""  # noqa: S608
_FINISH = """
UPDATE imports SET state = 'ROLLED_BACK', rolled_back_at = $2, withdrawn = withdrawn + $3,
                   build_id = coalesce($4, build_id)
WHERE import_id = $1
"""


class PostgresRollback:
    """Fulfils the port `RollbackStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def roll_back(
        self, import_id: UUID, *, mark: RequestMark | None, build: ImportBuild, now: datetime
    ) -> RolledBack:
        """Withdraws what only this import attests, and makes a build of it. Again: says that it was done before.

        Raises `NotFound` (also while it runs), `PeriodSealed`, `RequestIdReused`.
        """
        async with import_connection(self._database) as connection:
            with translated():
                await connection.execute(
                    "SELECT pg_advisory_lock($1, hashtext($2::text))", ROLLBACK_LOCK, str(import_id)
                )
                if mark is not None:
                    await _check_mark(connection, mark)
                record = await _find(connection, import_id)
                if record.state is ImportState.ROLLED_BACK:
                    return RolledBack(record, None, (), is_replayed=True)
                return await _Rollback(connection, record).run(mark, replace(build, is_rollback=True), now=now)


class _Rollback:
    def __init__(self, connection: Connection, record: ImportRecord) -> None:
        self._connection = connection
        self._record = record
        self._commits: dict[str, int] = {}

    async def run(self, mark: RequestMark | None, build: ImportBuild, *, now: datetime) -> RolledBack:
        connection, import_id = self._connection, self._record.import_id
        await connection.execute("ANALYZE fill_attestations")
        await connection.execute(_FIND, import_id, CALLER_ATTESTS)
        await connection.execute(_INDEX)
        sealed = await connection.fetchval(_IS_SEALED)
        if sealed is not None:
            raise PeriodSealed(fill_id=sealed)
        last = await connection.fetchval("SELECT coalesce(max(place), 0) FROM rollback_fills")
        withdrawn = 0
        for first in range(0, last, PART_FILLS):
            async with connection.transaction():
                withdrawn += await self._part(first, first + PART_FILLS)
        async with connection.transaction():
            return await self._finish(mark, build, now=now, withdrawn=withdrawn)

    async def _part(self, first: int, last: int) -> int:
        connection, import_id, commit_id = self._connection, self._record.import_id, secrets.randbits(62)
        await connection.execute(staging.CLEAR_PART)
        await connection.execute(_LOCK, first, last)
        await connection.execute(_HAND_OVER, first, last, import_id, CALLER_ATTESTS)
        await connection.execute(_KEEP_REVISIONS, first, last, import_id)
        await connection.execute(_WITHDRAW, first, last, import_id, commit_id)
        entered = EarliestEntries()
        await note_part(connection, entered, reason="ROLLBACK", is_held=False)
        withdrawn = await connection.fetchval(staging.COUNT_ADDED)
        self._commits.update(await advance_heads(connection, entered.at, commit_id=commit_id, cause="rollback"))
        if await entered.are_sealed(connection):
            raise PeriodSealed("an account was sealed while an import of it was taken back")
        return int(withdrawn)

    async def _finish(
        self, mark: RequestMark | None, build: ImportBuild, *, now: datetime, withdrawn: int
    ) -> RolledBack:
        connection, import_id = self._connection, self._record.import_id
        await connection.execute("DELETE FROM fill_attestations WHERE import_id = $1", import_id)
        is_made = await make_import_build(connection, build, import_id=import_id)
        build_id = build.build_id if is_made else None
        await connection.execute(_FINISH, import_id, now, withdrawn, build_id)
        if mark is not None:
            await requests.store_answer(
                connection,
                scope=mark.scope,
                request_id=mark.request_id,
                method=mark.method,
                body_hash=mark.body_hash,
                response=import_id.bytes,
            )
        commits = tuple(Commit(Account(account), seq) for account, seq in sorted(self._commits.items()))
        return RolledBack(await _find(connection, import_id), build_id, commits)


async def _check_mark(connection: Connection, mark: RequestMark) -> None:
    """Raises `RequestIdReused` where the id came with another body; what it came to is seen on the import itself."""
    await requests.answer_to(
        connection, scope=mark.scope, request_id=mark.request_id, method=mark.method, body_hash=mark.body_hash
    )


async def _find(connection: Connection, import_id: UUID) -> ImportRecord:
    row: Mapping[str, Any] | None = await connection.fetchrow(f"{RECORD} WHERE import_id = $1", import_id)
    if row is None or row["state"] == ImportState.RUNNING:
        raise NotFound("import", str(import_id))
    return record_of_row(row)
