"""Answers kept by request id, written in the transaction whose effect they answer."""

from __future__ import annotations

from uuid import UUID

from steelyard.accounting.errors import RequestIdReused
from steelyard.storage.database import Connection

KEPT_DAYS = 7


async def answer_to(
    connection: Connection, *, scope: str, request_id: UUID, method: str, body_hash: bytes
) -> bytes | None:
    """The kept answer to a request; None for a new one. Raises `RequestIdReused` for another method or body."""
    row = await connection.fetchrow(
        "SELECT method, body_hash, response FROM requests WHERE scope = $1 AND request_id = $2", scope, request_id
    )
    if row is None:
        return None
    if row["method"] != method or row["body_hash"] != body_hash:
        raise RequestIdReused
    return bytes(row["response"])


async def store_answer(
    connection: Connection, *, scope: str, request_id: UUID, method: str, body_hash: bytes, response: bytes
) -> bool:
    """Keeps an answer; False where another call with the same id was faster."""
    added = await connection.fetchval(
        "INSERT INTO requests (scope, request_id, method, body_hash, response) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT DO NOTHING RETURNING true",
        *(scope, request_id, method, body_hash, response),
    )
    return bool(added)


async def forget_old_answers(connection: Connection) -> int:
    """Deletes answers older than their retention; says how many."""
    status = await connection.execute(
        "DELETE FROM requests WHERE created_at < now() - make_interval(days => $1)", KEPT_DAYS
    )
    return int(status.split()[-1])
