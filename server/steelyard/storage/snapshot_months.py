"""The months of snapshots: made ahead of time, and dropped whole once all of them is too old.

What was stored before its month was made lies in the rest partition, and moves when the month is made; so a month that
is missing never fails an insert.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from steelyard.storage.database import Connection, Database

MONTHS_AHEAD = 3
DELETED_AT_ONCE = 20_000
"""Rows of a month that is not too old as a whole, deleted in one transaction."""
REST = "position_snapshots_rest"
_MONTH = re.compile(r"position_snapshots_(\d{4})_(\d{2})")
_PARTITIONS = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'position_snapshots'::regclass ORDER BY c.relname
"""
_LOCK = 4_800_011
"""One process at a time looks after the months."""
_DELETE = """
DELETE FROM position_snapshots WHERE (account, taken_at, snapshot_id) IN (
    SELECT account, taken_at, snapshot_id FROM position_snapshots WHERE taken_at < $1 LIMIT $2
) AND taken_at < $1
"""


class SnapshotMonths:
    """Fulfils the port `keep_snapshots.SnapshotShelf`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def make(self, *, now: datetime) -> int:
        """Makes the partitions of this month and the next ones; gives how many were missing."""
        months = [_month(now)]
        for _ in range(MONTHS_AHEAD):
            months.append(_next(months[-1]))
        made = 0
        for month in months:
            async with self._database.write() as connection:
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
                if _name(month) not in await _partitions(connection):
                    await _make(connection, month)
                    made += 1
        return made

    async def drop(self, *, before: datetime) -> tuple[int, int]:
        """Drops the months that end at or before a time, and deletes what else is older; how many months and rows."""
        dropped = 0
        async with self._database.write() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            for name in await _partitions(connection):
                found = _MONTH.fullmatch(name)
                if found and _next(datetime(int(found[1]), int(found[2]), 1, tzinfo=UTC)) <= before:
                    await connection.execute(f"DROP TABLE {name}")
                    dropped += 1
        deleted = 0
        while True:
            async with self._database.write() as connection:
                status = await connection.execute(_DELETE, before, DELETED_AT_ONCE)
            gone = int(status.split()[-1])
            deleted += gone
            if gone < DELETED_AT_ONCE:
                return dropped, deleted


async def _partitions(connection: Connection) -> list[str]:
    return [row["relname"] for row in await connection.fetch(_PARTITIONS)]


async def _make(connection: Connection, month: datetime) -> None:
    """Makes a month and moves into it what the rest partition holds of it."""
    name, first, last = _name(month), month.isoformat(), _next(month).isoformat()
    # Whoever stores a snapshot waits for this commit, and then finds the month: a lock on the rest alone would let him
    # choose it before.
    await connection.execute("LOCK TABLE position_snapshots IN ACCESS EXCLUSIVE MODE")
    await connection.execute(f"CREATE TABLE {name} (LIKE position_snapshots INCLUDING ALL)")
    await connection.execute(
        f"WITH moved AS (DELETE FROM {REST} WHERE taken_at >= $1 AND taken_at < $2 RETURNING *) "  # noqa: S608 - our names
        f"INSERT INTO {name} SELECT * FROM moved",
        month,
        _next(month),
    )
    await connection.execute(
        f"ALTER TABLE position_snapshots ATTACH PARTITION {name} FOR VALUES FROM ('{first}') TO ('{last}')"
    )


def _name(month: datetime) -> str:
    return f"position_snapshots_{month:%Y_%m}"


def _month(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _next(month: datetime) -> datetime:
    return _month(month + timedelta(days=32))
