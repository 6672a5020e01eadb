"""What the sweep finds: stale keys nobody builds, chunks whose worker is gone, builds out of time, dead imports."""

from __future__ import annotations

from uuid import UUID, uuid4

from steelyard.operations.building import BuildMode, BuildPriority, BuildScope, BuildTrigger, NewBuild
from steelyard.storage.build_ending import end_build, give_up_chunks
from steelyard.storage.build_making import defer_chunks, make_touched_build
from steelyard.storage.codec import dumps
from steelyard.storage.database import Connection, Database
from steelyard.storage.imports import ALIVE_LOCK
from steelyard.storage.inbox import forget_old

SWEEP_LOCK = 4_800_004
"""One process sweeps at a time."""
STALE_KEYS_MAX = 10_000
"""Keys that one sweep takes up; the next one takes the others."""
NEVER_LEASED_S = 30
"""A chunk that no worker has taken for so long gets its job anew, in case it was lost."""
BUILDS_KEPT_DAYS = 30

# Keys of an import at work are left alone: it makes the build itself.
_WAITING = """
FROM stale_keys s
WHERE NOT s.is_held
  AND NOT EXISTS (SELECT FROM build_keys k WHERE k.state IN ('PENDING', 'RUNNING')
                  AND (k.account, k.book, k.instrument, k.leg) = (s.account, s.book, s.instrument, s.leg))
  AND NOT (s.reason = 'IMPORT' AND EXISTS (SELECT FROM imports WHERE state = 'RUNNING'))
"""
_HAS_WAITING = f"SELECT EXISTS (SELECT {_WAITING})"
_TAKE_WAITING = f"""
CREATE TEMP TABLE touched_keys ON COMMIT DROP AS
SELECT s.account, s.book, s.instrument, s.leg, s.entries {_WAITING}
ORDER BY s.since LIMIT {STALE_KEYS_MAX}
"""
_LOST = """
SELECT c.build_id, b.priority, b.state, array_agg(c.chunk) AS chunks
FROM build_chunks c JOIN builds b USING (build_id)
WHERE b.finished_at IS NULL AND NOT c.is_done
  AND coalesce(c.lease_until, greatest(b.updated_at, b.created_at) + make_interval(secs => $1)) < clock_timestamp()
GROUP BY c.build_id, b.priority, b.state
"""
_LEASE_LOST = """
UPDATE build_chunks SET lease_until = clock_timestamp() + make_interval(secs => $3)
WHERE build_id = $1 AND chunk = ANY($2::int[])
"""
_OVERDUE = """
SELECT build_id FROM builds
WHERE finished_at IS NULL AND started_at + make_interval(secs => timeout_s + $1) < clock_timestamp()
"""
_DEAD_IMPORTS = """
UPDATE imports SET state = 'FAILED', error = 'the service stopped while it was importing',
                   finished_at = clock_timestamp()
WHERE state = 'RUNNING' AND pg_try_advisory_xact_lock($1, hashtext(import_id::text))
"""
REQUEUE_S = 10
OVERDUE_GRACE_S = 10


class PostgresSweep:
    """Fulfils the port `BuildSweep`."""

    def __init__(self, database: Database, *, build_timeout_s: int = 3_600, inbox_kept_days: int = 14) -> None:
        self._database = database
        self._build_timeout_s = build_timeout_s
        self._inbox_kept_days = inbox_kept_days

    async def sweep(self) -> int:
        """Does what there is to do, unless another process is doing it; how many builds it made."""
        async with self._database.write() as connection:
            if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", SWEEP_LOCK):
                return 0
            await connection.execute(_DEAD_IMPORTS, ALIVE_LOCK)
            await self._requeue_lost(connection)
            await self._end_overdue(connection)
            return await self._build_waiting(connection)

    async def _build_waiting(self, connection: Connection) -> int:
        if not await connection.fetchval(_HAS_WAITING):
            return 0
        await connection.execute(_TAKE_WAITING)
        new = NewBuild(
            build_id=uuid4(),
            scope=BuildScope(),
            mode=BuildMode.INCREMENTAL,
            trigger=BuildTrigger.STALE,
            priority=BuildPriority.IMMEDIATE,
            timeout_s=self._build_timeout_s,
        )
        return int(await make_touched_build(connection, new))

    async def _requeue_lost(self, connection: Connection) -> None:
        """Chunks whose lease has run out get a new job; those of a cancelled build are given up."""
        for row in await connection.fetch(_LOST, NEVER_LEASED_S):
            if row["state"] == "CANCELLING":
                await self._give_up(connection, row["build_id"], state="CANCELLED")
                continue
            await connection.execute(_LEASE_LOST, row["build_id"], row["chunks"], REQUEUE_S)
            await connection.execute(
                "DELETE FROM procrastinate_jobs WHERE status = 'todo' AND queueing_lock = ANY($1::text[])",
                [f"{row['build_id']}:{chunk}" for chunk in row["chunks"]],
            )
            await defer_chunks(
                connection, row["build_id"], chunks=row["chunks"], priority=BuildPriority(row["priority"])
            )

    async def _end_overdue(self, connection: Connection) -> None:
        for row in await connection.fetch(_OVERDUE, OVERDUE_GRACE_S):
            message = "the build took longer than it may"
            errors = dumps([{"check": "internal", "message": message, "fill_id": None}])
            await self._give_up(connection, row["build_id"], state="FAILED", errors=errors, error=message)

    async def _give_up(
        self, connection: Connection, build_id: UUID, *, state: str, errors: str | None = None, error: str | None = None
    ) -> None:
        await connection.execute("SELECT FROM builds WHERE build_id = $1 FOR UPDATE", build_id)
        await give_up_chunks(connection, build_id, state=state, errors=errors, even_leased=error is not None)
        await end_build(connection, build_id, error=error)

    async def tidy(self) -> bool:
        """Forgets builds whose results are kept no longer, and a batch of old messages; whether more wait."""
        async with self._database.write() as connection:
            await connection.execute(
                "DELETE FROM builds WHERE finished_at < now() - make_interval(days => $1)", BUILDS_KEPT_DAYS
            )
        # A transaction of its own: what the one has forgotten stays so where the other fails.
        async with self._database.write() as connection:
            return await forget_old(connection, kept_days=self._inbox_kept_days)
