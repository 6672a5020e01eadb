"""Runs of reconciling as they are stored: asked for, taken by one worker, told of, and summed up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from steelyard.accounting.errors import RequestIdReused
from steelyard.accounting.keys import Account, InstrumentName, PositionKey
from steelyard.operations.building import BuildPriority
from steelyard.operations.reconciling import (
    RECONCILE_TASK,
    DiscrepancyState,
    ReconciliationStats,
    Run,
    RunCause,
    RunState,
    Scope,
    Tally,
)
from steelyard.storage.codec import dumps
from steelyard.storage.database import Connection, Database

RUNS_KEPT_DAYS = 90
LEASE_S = 60
"""A run that says nothing for so long is taken up by another worker, from the start."""

_COLUMNS = """run_id, cause, state, accounts, instruments, is_fixing, body_hash, keys_total, keys_checked, keys_waiting,
    keys_fixed, found, found_new, resolved, found_by_kind, venue_error, error, created_at, started_at, updated_at,
    finished_at"""
_INSERT = """
INSERT INTO reconciliation_runs (run_id, cause, state, accounts, instruments, is_fixing, body_hash, created_at,
                                 started_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, CASE $3 WHEN 'RUNNING' THEN $8::timestamptz END, $8)
ON CONFLICT DO NOTHING RETURNING run_id
"""
# Asked for once, however many reports say the same before it is taken.
_ASK = """
INSERT INTO reconciliation_runs (run_id, cause, state, accounts, instruments, is_fixing, created_at, updated_at)
SELECT $1, 'REPORT', 'PENDING', ARRAY[$2], ARRAY[$3], true, $4, $4
WHERE NOT EXISTS (SELECT FROM reconciliation_runs WHERE finished_at IS NULL AND state = 'PENDING' AND cause = 'REPORT'
                  AND accounts = ARRAY[$2] AND instruments = ARRAY[$3])
"""
_SAVE = """
UPDATE reconciliation_runs SET state = $2, keys_total = $3, keys_checked = $4, keys_waiting = $5, keys_fixed = $6,
    found = $7, found_new = $8, resolved = $9, found_by_kind = $10, venue_error = $11, error = $12, finished_at = $13,
    updated_at = $14
WHERE run_id = $1 AND finished_at IS NULL
"""
_TAKE = f"""
UPDATE reconciliation_runs SET state = 'RUNNING', started_at = coalesce(started_at, $1), updated_at = $1
WHERE run_id = (SELECT run_id FROM reconciliation_runs
                WHERE finished_at IS NULL AND (state = 'PENDING' OR updated_at < $2)
                ORDER BY created_at, run_id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING {_COLUMNS}
"""  # noqa: S608
# One job takes up every run that waits, so one is enough.
_WAKE = """
SELECT procrastinate_defer_jobs_v1(ARRAY[
    ROW($1::text, $2::text, 0, $2::text, $2::text, jsonb_build_object('timestamp', $3::bigint), NULL)
    ::procrastinate_job_to_defer_v1])
WHERE NOT EXISTS (SELECT FROM procrastinate_jobs WHERE queueing_lock = $2::text AND status = 'todo')
"""
_TOTALS = """
SELECT count(*) AS runs, count(*) FILTER (WHERE state = 'FAILED') AS runs_failed,
       coalesce(sum(keys_checked), 0) AS keys_checked, coalesce(sum(keys_fixed), 0) AS keys_fixed,
       coalesce(sum(found), 0) AS found, coalesce(sum(found_new), 0) AS found_new,
       coalesce(sum(resolved), 0) AS resolved
FROM reconciliation_runs WHERE finished_at IS NOT NULL
"""
_BY_KIND = """
SELECT kind, sum(count::bigint) AS count FROM reconciliation_runs, jsonb_each_text(found_by_kind) AS k(kind, count)
WHERE finished_at IS NOT NULL GROUP BY kind ORDER BY kind
"""
_OPEN = """
SELECT regexp_replace(kind, '^(FOLD|VENUE|ORDERS|BOOK)_', '') AS kind, count(*) AS count FROM discrepancies
WHERE state = $1 AND (cardinality($2::text[]) = 0 OR account = ANY($2)) GROUP BY 1 ORDER BY 1
"""


async def ask_for(connection: Connection, key: PositionKey, *, now: datetime) -> None:
    """Asks for a run over the positions of an instrument, unless one is waiting; a worker takes it up within a
    minute."""
    await connection.execute(_ASK, uuid4(), key.account, key.instrument, now)


async def _wake(connection: Connection, *, now: datetime) -> None:
    """Defers the job that takes up what waits; where another was faster, that one does."""
    with suppress(asyncpg.UniqueViolationError):
        async with connection.transaction():
            await connection.execute(_WAKE, BuildPriority.BULK.queue, RECONCILE_TASK, int(now.timestamp()))


class ReconciliationRuns:
    """Fulfils the port `reconcile.RunStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, run: Run) -> Run | None:
        """Stores a new run; the stored one where its id is known. Raises `RequestIdReused`."""
        async with self._database.write() as connection:
            made = await connection.fetchval(
                _INSERT,
                *(run.run_id, run.cause.value, run.state.value, list(run.scope.accounts), list(run.scope.instruments)),
                *(run.is_fixing, run.body_hash, run.created_at),
            )
            if made is not None:
                if run.state is RunState.PENDING:
                    await _wake(connection, now=run.created_at)
                return None
            row = await connection.fetchrow(_ONE, run.run_id)
        if row["body_hash"] != run.body_hash:
            raise RequestIdReused
        return run_of_row(row)

    async def save(self, run: Run) -> None:
        """Writes how far a run is, or how it ended."""
        tally = run.tally
        async with self._database.write() as connection:
            await connection.execute(
                _SAVE,
                *(run.run_id, run.state.value, tally.keys_total, tally.keys_checked, tally.keys_waiting),
                *(tally.keys_fixed, tally.found, tally.found_new, tally.resolved, dumps(dict(tally.by_kind))),
                *(tally.venue_error, run.error, run.finished_at, run.updated_at),
            )

    async def find(self, run_id: UUID) -> Run | None:
        """A run by its id."""
        async with self._database.read() as connection:
            row = await connection.fetchrow(_ONE, run_id)
        return None if row is None else run_of_row(row)

    async def take(self, *, now: datetime) -> Run | None:
        """The oldest run that waits, or that its worker has left; it is the caller's from now on."""
        async with self._database.write() as connection:
            row = await connection.fetchrow(_TAKE, now, now - timedelta(seconds=LEASE_S))
        return None if row is None else run_of_row(row)

    async def tidy(self, *, now: datetime) -> None:
        """Forgets runs that are kept no longer."""
        async with self._database.write() as connection:
            await connection.execute(
                "DELETE FROM reconciliation_runs WHERE finished_at < $1", now - timedelta(days=RUNS_KEPT_DAYS)
            )

    async def stats(self, accounts: tuple[Account, ...]) -> ReconciliationStats:
        """What all runs that are kept came to, and what is open of these accounts (none: of all)."""
        async with self._database.read() as connection:
            totals = await connection.fetchrow(_TOTALS)
            found = await connection.fetch(_BY_KIND)
            still = await connection.fetch(_OPEN, DiscrepancyState.OPEN.value, list(accounts))
            last = await connection.fetchrow(_LAST)
        open_by_kind = {row["kind"]: row["count"] for row in still}
        return ReconciliationStats(
            **{name: int(value) for name, value in dict(totals).items()},
            found_by_kind={row["kind"]: int(row["count"]) for row in found},
            open_by_kind=open_by_kind,
            open_count=sum(open_by_kind.values()),
            last_run=None if last is None else run_of_row(last),
        )


_ONE = f"SELECT {_COLUMNS} FROM reconciliation_runs WHERE run_id = $1"  # noqa: S608
_LAST = f"""
SELECT {_COLUMNS} FROM reconciliation_runs WHERE finished_at IS NOT NULL AND cause <> 'SAMPLE'
ORDER BY created_at DESC, run_id DESC LIMIT 1
"""  # noqa: S608


def run_of_row(row: Mapping[str, Any]) -> Run:
    """The run in a row."""
    return Run(
        run_id=row["run_id"],
        cause=RunCause(row["cause"]),
        state=RunState(row["state"]),
        scope=Scope(tuple(map(Account, row["accounts"])), tuple(map(InstrumentName, row["instruments"]))),
        is_fixing=row["is_fixing"],
        tally=Tally(
            keys_total=row["keys_total"],
            keys_checked=row["keys_checked"],
            keys_waiting=row["keys_waiting"],
            keys_fixed=row["keys_fixed"],
            found=row["found"],
            found_new=row["found_new"],
            resolved=row["resolved"],
            by_kind=json.loads(row["found_by_kind"]),
            venue_error=row["venue_error"],
        ),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        body_hash=None if row["body_hash"] is None else bytes(row["body_hash"]),
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        error=row["error"],
    )
