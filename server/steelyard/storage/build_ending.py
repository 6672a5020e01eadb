"""The end of a build: exactly one terminal state, set once all of its chunks are done."""

from __future__ import annotations

from uuid import UUID

from steelyard.storage.database import Connection

_END = """
UPDATE builds b SET
    state = CASE
        WHEN b.state = 'CANCELLING' AND k.cancelled > 0 THEN 'CANCELLED'
        WHEN k.undone = 0 THEN 'SUCCEEDED'
        WHEN k.undone = k.keys THEN CASE WHEN k.cancelled = k.keys THEN 'CANCELLED' ELSE 'FAILED' END
        ELSE 'PARTIALLY_SUCCEEDED' END,
    keys_done = k.keys, keys_failed = k.failed,
    fills_done = CASE WHEN k.undone = 0 THEN b.fills_total ELSE least(b.fills_done, b.fills_total) END,
    current_key = NULL, error = coalesce(b.error, $2), updated_at = clock_timestamp(), finished_at = clock_timestamp()
FROM (
    SELECT count(*) AS keys, count(*) FILTER (WHERE state <> 'SUCCEEDED') AS undone,
           count(*) FILTER (WHERE state = 'FAILED') AS failed, count(*) FILTER (WHERE state = 'CANCELLED') AS cancelled
    FROM build_keys WHERE build_id = $1
) k
WHERE b.build_id = $1 AND b.finished_at IS NULL
  AND NOT EXISTS (SELECT FROM build_chunks c WHERE c.build_id = $1 AND NOT c.is_done)
"""
_GIVE_UP_CHUNKS = """
UPDATE build_chunks SET is_done = true, fence = fence + 1
WHERE build_id = $1 AND NOT is_done AND ($2 OR lease_until IS NULL OR lease_until < clock_timestamp())
RETURNING chunk
"""
_GIVE_UP_KEYS = """
WITH ended AS (
    UPDATE build_keys SET state = $3, errors = $4, finished_at = clock_timestamp()
    WHERE build_id = $1 AND chunk = ANY($2::int[]) AND state IN ('PENDING', 'RUNNING')
    RETURNING account, book, instrument, leg
)
UPDATE stale_keys s SET is_held = true FROM ended e
WHERE (s.account, s.book, s.instrument, s.leg) = (e.account, e.book, e.instrument, e.leg)
"""


async def end_build(connection: Connection, build_id: UUID, *, error: str | None = None) -> None:
    """Gives a build its terminal state if all of its chunks are done; the caller holds the lock of its row."""
    await connection.execute(_END, build_id, error)


async def give_up_chunks(
    connection: Connection, build_id: UUID, *, state: str, errors: str | None = None, even_leased: bool = False
) -> None:
    """Ends the chunks that no worker is at (or all of them): their fences step, their keys get `state`.

    Stale ranges of those keys wait from then on for a build that is asked for.
    """
    rows = await connection.fetch(_GIVE_UP_CHUNKS, build_id, even_leased)
    await connection.execute(_GIVE_UP_KEYS, build_id, [row["chunk"] for row in rows], state, errors)
