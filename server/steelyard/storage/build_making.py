"""Making builds: which keys, in which chunks, and the jobs that wait for the same commit.

Every key with entries has a row in `positions` or in `stale_keys`, so a build is planned from those two, whose rows
say how many entries there are; fills are not read for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from steelyard.accounting.errors import NotFound, QueueFull
from steelyard.operations.building import (
    CHUNK_TASK,
    KEY_WEIGHT,
    PLAN_CHUNK_WEIGHT,
    SMALL_BUILD,
    Asker,
    BuildMode,
    BuildPriority,
    BuildScope,
    BuildState,
    BuildTrigger,
    NewBuild,
)
from steelyard.operations.importing import ImportBuild
from steelyard.operations.observing import origin
from steelyard.storage.codec import dumps
from steelyard.storage.database import Connection

JOB_PRIORITY = {BuildPriority.IMMEDIATE: 10, BuildPriority.BULK: 0}

_INSERT_BUILD = """
INSERT INTO builds (build_id, request_id, mode, scope, trigger, priority, is_validate_only, state, is_planned, retry_of,
                    import_id, timeout_s, requested_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, 'PENDING', true, $8, $9, $10, $11)
"""
_LOCK_ASKER = "SELECT pg_advisory_xact_lock(hashtext('builds of a key'), hashtext($1))"
_UNDER_WAY = """
SELECT count(*) FROM builds WHERE requested_by = $1 AND state IN ('PENDING', 'RUNNING', 'CANCELLING')
"""
_KEYS = "account, book, instrument, leg"
_CHUNK = f"(sum(entries + {KEY_WEIGHT}) OVER (ORDER BY {_KEYS}) - entries - {KEY_WEIGHT}) / {PLAN_CHUNK_WEIGHT}"
"""The number of a key's chunk: so many weights lie before it."""
_STALE = f"SELECT {_KEYS}, entries FROM stale_keys"  # noqa: S608
_ALL = f"""
SELECT {_KEYS}, coalesce(p.fill_count, 0) + coalesce(s.entries, 0) AS entries
FROM positions p FULL JOIN stale_keys s USING ({_KEYS})
"""  # noqa: S608
_WITHIN = {
    "everything": "true OR $2::text[] IS NULL OR $3::text[] IS NULL",
    "accounts": "account = ANY($2::text[]) OR $3::text[] <> '{}'",
    "pairs": "(account, instrument) IN (SELECT a, i FROM unnest($2::text[], $3::text[]) AS n(a, i))",
    "fills": f"""({_KEYS}) IN (SELECT f.account, f.book, f.instrument, f.leg
        FROM fills f JOIN unnest($2::text[], $3::text[]) AS n(a, i) ON f.account = n.a AND f.fill_id = n.i)""",  # noqa: S608
}
_PLAN = {
    (mode, kind): f"""
    INSERT INTO build_keys (build_id, account, book, instrument, leg, chunk, state, fills)
    SELECT $1, {_KEYS}, {_CHUNK},
           'PENDING', entries
    FROM ({source}) k WHERE {within}
    """  # noqa: S608
    for mode, source in ((BuildMode.INCREMENTAL, _STALE), (BuildMode.FULL, _ALL))
    for kind, within in _WITHIN.items()
}
_PLAN_TOUCHED = f"""
INSERT INTO build_keys (build_id, account, book, instrument, leg, chunk, state, fills)
SELECT $1, {_KEYS}, {_CHUNK},
       'PENDING', entries
FROM touched_keys
"""  # noqa: S608
_PLAN_REST = f"""
INSERT INTO build_keys (build_id, account, book, instrument, leg, chunk, state, fills)
SELECT $1, {_KEYS}, {_CHUNK.replace("entries", "fills")},
       'PENDING', fills
FROM build_keys WHERE build_id = $2 AND state IN ('FAILED', 'CANCELLED')
"""  # noqa: S608
_CHUNKS = """
INSERT INTO build_chunks (build_id, chunk)
SELECT DISTINCT build_id, chunk FROM build_keys WHERE build_id = $1 RETURNING chunk
"""
_TOTALS = """
UPDATE builds SET keys_total = k.keys, fills_total = k.fills, priority = coalesce($2, CASE WHEN k.fills <= $3 THEN
    'IMMEDIATE' ELSE 'BULK' END)
FROM (SELECT count(*) AS keys, coalesce(sum(fills), 0) AS fills FROM build_keys WHERE build_id = $1) k
WHERE build_id = $1 RETURNING priority
"""
_RELEASE = """
UPDATE stale_keys s SET is_held = false FROM build_keys k
WHERE k.build_id = $1 AND s.is_held
  AND (s.account, s.book, s.instrument, s.leg) = (k.account, k.book, k.instrument, k.leg)
"""
_FINISH_EMPTY = """
UPDATE builds SET state = 'SUCCEEDED', started_at = clock_timestamp(), finished_at = clock_timestamp()
WHERE build_id = $1
"""
_DEFER = """
SELECT procrastinate_defer_jobs_v1(array_agg(
    ROW($1, $2, $3, NULL, $4 || ':' || chunk,
        jsonb_build_object('build_id', $4, 'chunk', chunk, 'origin', $6::text), NULL)
    ::procrastinate_job_to_defer_v1 ORDER BY chunk))
FROM unnest($5::int[]) AS c(chunk)
"""


def scope_text(scope: BuildScope) -> str:
    """A scope as it is stored."""
    return dumps({"accounts": scope.accounts, "pairs": scope.pairs, "fills": scope.fills})


def scope_of(text: str) -> BuildScope:
    """The scope that `scope_text` wrote."""
    value: dict[str, list[Any]] = json.loads(text)
    return BuildScope(
        tuple(value["accounts"]), tuple((a, i) for a, i in value["pairs"]), tuple((a, f) for a, f in value["fills"])
    )


async def make_build(connection: Connection, new: NewBuild, *, request_id: UUID | None = None) -> None:
    """Stores a build of its scope's keys with its chunks and jobs. Raises `NotFound` for a fill that is unknown."""
    kind, left, right = _within(new.scope)
    if kind == "fills":
        await _check_fills(connection, accounts=left, fill_ids=right)
    await _insert(connection, new, request_id=request_id)
    await connection.execute(_PLAN[new.mode, kind], new.build_id, left, right)
    await _start(connection, new.build_id, priority=new.priority)


async def make_retry(connection: Connection, new: NewBuild, *, request_id: UUID | None = None) -> None:
    """Stores a build of what another one left undone."""
    await _insert(connection, new, request_id=request_id)
    await connection.execute(_PLAN_REST, new.build_id, new.retry_of)
    await _start(connection, new.build_id, priority=new.priority)


async def make_touched_build(connection: Connection, new: NewBuild) -> bool:
    """Stores a build of the session's `touched_keys`; False where there are none."""
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM touched_keys)"):
        return False
    await _insert(connection, new, request_id=None)
    await connection.execute(_PLAN_TOUCHED, new.build_id)
    await _start(connection, new.build_id, priority=new.priority)
    return True


async def make_import_build(connection: Connection, build: ImportBuild, *, import_id: UUID) -> bool:
    """Stores the build of what an import touched; False where it touched nothing."""
    new = NewBuild(
        build_id=build.build_id,
        scope=BuildScope(),
        mode=BuildMode.INCREMENTAL,
        trigger=BuildTrigger.IMPORT if not build.is_rollback else BuildTrigger.ROLLBACK,
        priority=BuildPriority.IMMEDIATE if build.is_immediate else BuildPriority.BULK,
        timeout_s=build.timeout_s,
        import_id=import_id,
    )
    return await make_touched_build(connection, new)


async def defer_chunks(
    connection: Connection, build_id: UUID, *, chunks: Sequence[int], priority: BuildPriority
) -> None:
    """Defers the jobs of chunks in the caller's transaction."""
    job = (priority.queue, CHUNK_TASK, JOB_PRIORITY[priority], str(build_id), sorted(chunks))
    await connection.execute(_DEFER, *job, origin.get().text)


async def _insert(connection: Connection, new: NewBuild, *, request_id: UUID | None) -> None:
    if new.asker is not None:
        await _check_asker(connection, new.asker)
    await connection.execute(
        _INSERT_BUILD,
        *(new.build_id, request_id, new.mode.value, scope_text(new.scope), new.trigger.value),
        *((new.priority or BuildPriority.BULK).value, new.is_validate_only, new.retry_of, new.import_id, new.timeout_s),
        None if new.asker is None else new.asker.key_id,
    )


async def _check_asker(connection: Connection, asker: Asker) -> None:
    await connection.execute(_LOCK_ASKER, asker.key_id)
    count = await connection.fetchval(_UNDER_WAY, asker.key_id)
    if count >= asker.builds_max:
        raise QueueFull(f"{count} builds of this key are under way", limit=str(asker.builds_max))


async def _start(connection: Connection, build_id: UUID, *, priority: BuildPriority | None) -> None:
    wanted = None if priority is None else priority.value
    chosen = BuildPriority(await connection.fetchval(_TOTALS, build_id, wanted, SMALL_BUILD))
    chunks = [row["chunk"] for row in await connection.fetch(_CHUNKS, build_id)]
    if not chunks:
        await connection.execute(_FINISH_EMPTY, build_id)
        return
    await connection.execute(_RELEASE, build_id)
    await defer_chunks(connection, build_id, chunks=chunks, priority=chosen)


def _within(scope: BuildScope) -> tuple[str, list[str], list[str]]:
    if scope.fills:
        return "fills", [account for account, _ in scope.fills], [fill_id for _, fill_id in scope.fills]
    if scope.pairs:
        return "pairs", [account for account, _ in scope.pairs], [name for _, name in scope.pairs]
    return ("accounts", list(scope.accounts), []) if scope.accounts else ("everything", [], [])


async def _check_fills(connection: Connection, *, accounts: Sequence[str], fill_ids: Sequence[str]) -> None:
    missing = await connection.fetchval(
        "SELECT n.i FROM unnest($1::text[], $2::text[]) AS n(a, i) "
        "LEFT JOIN fills f ON f.account = n.a AND f.fill_id = n.i WHERE f.fill_id IS NULL ORDER BY n.i LIMIT 1",
        accounts,
        fill_ids,
    )
    if missing is not None:
        raise NotFound("fill", missing)


TERMINAL = tuple(state.value for state in BuildState if state.is_terminal)
