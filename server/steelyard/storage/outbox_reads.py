"""The outbox as a relay reads it: partitions held by advisory locks, messages in order, gone once confirmed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

import asyncpg

from steelyard.accounting.errors import SteelyardError
from steelyard.accounting.keys import Account, PositionKey
from steelyard.accounting.units import ZERO
from steelyard.operations.observing import Origin
from steelyard.operations.outbox_ports import POSITION_CLOSED, OutboxMessage, OutboxPlace
from steelyard.operations.position_view import Detail, PositionRow
from steelyard.operations.read_positions import PositionsRead
from steelyard.storage.bulk import Columns, arrays, delete_rows
from steelyard.storage.codec import key_of, trip_of_json
from steelyard.storage.database import Connection, Database
from steelyard.storage.driver_errors import translated
from steelyard.storage.event_reads import event_of
from steelyard.storage.outbox import PARTITIONS
from steelyard.storage.position_reads import PositionReads

LOCK_CLASS = 4_800_002
_SETTINGS = "SET plan_cache_mode = force_custom_plan; SET synchronous_commit = off"
"""Of a claim's connection. The tables are empty when it begins, so a plan that is kept from then would read the whole
history of an account for each of its messages, until the store's own ANALYZE. What a crash brings back of the messages
that were forgotten is published again, with the same event id: no flush has to be waited for, or to hold up commits."""
_LET_GO = "SELECT pg_advisory_unlock_all(); RESET plan_cache_mode; RESET synchronous_commit"
ACCOUNTS_MAX = 50
"""Accounts whose messages are fetched at a time; the next round goes on behind them."""
_PLACE: Columns = (("account", "text"), ("seq", "int8"), ("ordinal", "int4"))
_TAKE = "SELECT p FROM unnest($2::int[]) AS n(p) WHERE pg_try_advisory_lock($1, p)"
_WAITING = f"""
WITH RECURSIVE a(account, place) AS (
    (SELECT account, 1 FROM outbox WHERE account > $1 ORDER BY account LIMIT 1)
    UNION ALL
    SELECT (SELECT o.account FROM outbox o WHERE o.account > a.account ORDER BY o.account LIMIT 1), a.place + 1
    FROM a WHERE a.account IS NOT NULL AND a.place < {ACCOUNTS_MAX}
)
SELECT o.account, o.seq, o.ordinal, o.topic, o.book, o.instrument, o.leg, o.version, o.body::text AS body, o.trace_id,
       o.created_at, e.cause, e.cause_id, e.change, e.fill_ids, e.fill_count, e.state::text AS state, e.committed_at
FROM a CROSS JOIN LATERAL (
    SELECT * FROM outbox w WHERE w.account = a.account AND w.partition = ANY($2::int[])
    ORDER BY w.seq, w.ordinal LIMIT $3
) o
LEFT JOIN position_events e ON e.account = o.account AND e.book = o.book AND e.instrument = o.instrument
    AND e.leg = o.leg AND e.version = o.version
ORDER BY o.account, o.seq, o.ordinal
"""  # noqa: S608
OLDEST_WAITING = """
WITH RECURSIVE a(account) AS (
    (SELECT account FROM outbox ORDER BY account LIMIT 1)
    UNION ALL
    SELECT (SELECT o.account FROM outbox o WHERE o.account > a.account ORDER BY o.account LIMIT 1)
    FROM a WHERE a.account IS NOT NULL
)
SELECT min(o.created_at) FROM a CROSS JOIN LATERAL (
    SELECT w.created_at FROM outbox w WHERE w.account = a.account ORDER BY w.seq, w.ordinal LIMIT 1
) o
"""
"""An account's first message is its oldest one, so no more than one row of each is read."""
_DONE = delete_rows("outbox", _PLACE)
_CHANGED_PORTFOLIOS = """
SELECT h.account, h.seq FROM account_heads h LEFT JOIN published_portfolios p USING (account)
WHERE h.seq > coalesce(p.seq, 0) AND mod(abs(hashtext(h.account)::bigint), $1) = ANY($2::int[])
ORDER BY h.account LIMIT $3
"""
_TOLD = """
INSERT INTO published_portfolios AS p (account, seq, published_at) VALUES ($1, $2, clock_timestamp())
ON CONFLICT (account) DO UPDATE SET seq = excluded.seq, published_at = excluded.published_at WHERE p.seq < excluded.seq
"""


class PostgresClaim:
    """The partitions that one connection holds; fulfils the port `OutboxClaim`."""

    def __init__(self, connection: Connection, database: Database) -> None:
        self._connection = connection
        self._positions = PositionReads(database)
        self._owned: set[int] = set()
        self._behind = ""

    async def take(self) -> int:
        """Takes partitions that nobody owns; how many are owned now."""
        free = sorted(set(range(PARTITIONS)) - self._owned)
        if free:
            with translated():
                taken = await self._connection.fetch(_TAKE, LOCK_CLASS, free)
            self._owned.update(row["p"] for row in taken)
        return len(self._owned)

    async def waiting(self, *, limit: int) -> Sequence[OutboxMessage]:
        """The oldest messages of the owned partitions, at most `limit` of each account, in order."""
        rows = await self._waiting(limit)
        if not rows and self._behind:
            self._behind = ""
            rows = await self._waiting(limit)
        if not rows:
            return ()
        self._behind = rows[-1]["account"]
        keys = list(dict.fromkeys(key_of(row) for row in rows))
        read = (await self._positions.batch(keys, detail=Detail.FULL, heads=())).value
        today = {row.key: row for row in read.rows}
        return [_message(row, today.get(key_of(row)), read=read) for row in rows]

    async def _waiting(self, limit: int) -> Sequence[Mapping[str, Any]]:
        with translated():
            rows: Sequence[Mapping[str, Any]] = await self._connection.fetch(
                _WAITING, self._behind, sorted(self._owned), limit
            )
        return rows

    async def done(self, places: Sequence[OutboxPlace]) -> None:
        """Forgets messages that the broker has confirmed."""
        rows = sorted((place.account, place.seq, place.ordinal) for place in places)
        with translated():
            await self._connection.execute(_DONE, *arrays(rows, _PLACE))

    async def changed_portfolios(self, *, limit: int) -> Mapping[Account, int]:
        """Accounts whose log went on since their portfolio was last told, with the seq to tell it at."""
        with translated():
            rows = await self._connection.fetch(_CHANGED_PORTFOLIOS, PARTITIONS, sorted(self._owned), limit)
        return {Account(row["account"]): row["seq"] for row in rows}

    async def portfolio_told(self, account: Account, *, seq: int) -> None:
        """Notes up to where an account's portfolio has been told."""
        with translated():
            await self._connection.execute(_TOLD, account, seq)


class PostgresOutbox:
    """Hands out claims; fulfils the port `Outbox`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def waiting_since(self) -> datetime | None:
        """When the oldest message that still waits was committed; None where none does."""
        async with self._database.bare() as connection:
            since: datetime | None = await connection.fetchval(OLDEST_WAITING)
        return since

    @asynccontextmanager
    async def claim(self) -> AsyncIterator[PostgresClaim]:
        """A claim with a connection of its own; whatever it owns is let go at the end."""
        async with self._database.bare() as connection:
            try:
                with translated():
                    await connection.execute(_SETTINGS)
                yield PostgresClaim(connection, self._database)
            finally:
                # The connection goes back to the pool, and neither its locks nor its settings must go with it.
                with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, SteelyardError):
                    await connection.execute(_LET_GO)


def _message(row: Mapping[str, Any], today: PositionRow | None, *, read: PositionsRead) -> OutboxMessage:
    key: PositionKey = key_of(row)
    body = json.loads(row["body"]) if row["body"] else {}
    is_closing = row["topic"] == POSITION_CLOSED
    then = today
    if today is not None and row["state"] is not None:
        then = replace(event_of(row, today).row, mark=today.mark)
    exposure = ZERO
    if today is not None:
        exposure = read.exposures.get((key.account, today.instrument.settle_currency), ZERO)
    whose = Origin.of_text(row["trace_id"])
    return OutboxMessage(
        place=OutboxPlace(key.account, row["seq"], row["ordinal"]),
        topic=row["topic"],
        key=key,
        version=row["version"],
        body={} if is_closing else body,
        position=then,
        trip=trip_of_json(body) if is_closing else None,
        gross_exposure=exposure,
        cause=row["cause"],
        trace_id=whose.trace_id or None,
        committed_at=row["created_at"],
        traceparent=whose.traceparent,
    )
