"""Waiting until others wait: for tests that force an order of commits by holding a lock."""

from __future__ import annotations

import asyncio

from steelyard.storage.database import Database

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
WAIT_S = 20.0


async def until_waiting(database: Database, count: int = 1) -> None:
    """Returns once so many sessions of this database wait for a lock. Raises `TimeoutError`."""
    async with asyncio.timeout(WAIT_S):
        while await _waiting(database) < count:  # noqa: ASYNC110 - the store is looked at
            await asyncio.sleep(0.01)


async def _waiting(database: Database) -> int:
    # A transaction sees who waits as it saw it first, so each look has one of its own.
    async with database.read() as connection:
        return int(await connection.fetchval(WAITING))
