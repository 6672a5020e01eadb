"""A key's entries and starts as they were known at a commit.

A fill is known in the newest of its revisions whose commit counts, under the sequence that it had then; an adjustment
by its own commit. A report of a venue that never changed anything has no commit, and none is missed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import cast

from steelyard.accounting.entries import EARLIEST, Entry
from steelyard.accounting.fold import Checkpoint, FoldRules
from steelyard.accounting.keys import Account, OrderKey, PositionKey
from steelyard.accounting.round_trips import RoundTrip, Sums
from steelyard.operations.read_as_of import KeyNow, StartPlace
from steelyard.operations.reading import Heads
from steelyard.storage import fills, instruments, positions, round_trips
from steelyard.storage.account_log import read_heads
from steelyard.storage.codec import SUMS, sums_of
from steelyard.storage.database import Connection, Database

_KEY = "account = $1 AND book = $2 AND instrument = $3 AND leg = $4"
_LONGEST_WRITE = "interval '1 hour'"
"""No writing transaction lasts longer: statements and idle transactions end by timeouts long before."""

# Seqs step with time, without gaps: halved until the newest one at or before the moment is found.
_KNOWN_SEQ = """
WITH RECURSIVE halved (low, high) AS (
    SELECT 0::bigint, coalesce((SELECT seq FROM account_heads WHERE account = $1), 0)
    UNION ALL
    SELECT CASE WHEN c.committed_at <= $2 THEN m.middle ELSE m.low END,
           CASE WHEN c.committed_at <= $2 THEN m.high ELSE m.middle - 1 END
    FROM (SELECT low, high, (low + high + 1) / 2 AS middle FROM halved WHERE low < high) m
    JOIN account_commits c ON c.account = $1 AND c.seq = m.middle
)
SELECT low FROM halved WHERE low = high
"""
_HAS_ENTRIES = f"""
SELECT EXISTS (SELECT FROM fills WHERE {_KEY} AND state = 'LIVE') OR EXISTS (SELECT FROM adjustments WHERE {_KEY})
    OR EXISTS (SELECT FROM fill_revisions WHERE {_KEY})
"""  # noqa: S608
_CHANGED_FROM = f"""
SELECT least(
    (SELECT min(p.from_executed_at) FROM past_changes p
     LEFT JOIN account_commits c ON c.account = p.account AND c.commit_id = p.commit_id
     WHERE p.account = $1 AND p.book = $2 AND p.instrument = $3 AND p.leg = $4
       AND p.recorded_at > $5::timestamptz - {_LONGEST_WRITE} AND coalesce(c.committed_at, p.recorded_at) > $5),
    (SELECT $6::timestamptz FROM history_begins WHERE began_at > $5)
)
"""  # noqa: S608
_START = f"""
SELECT s.*, EXISTS (
    SELECT FROM fills f JOIN account_commits c USING (account, commit_id)
    WHERE f.account = $1 AND f.fill_id = s.entry_id AND c.seq <= $8
) OR EXISTS (
    SELECT FROM adjustments a JOIN account_commits c USING (account, commit_id)
    WHERE a.account = $1 AND a.adjustment_id = s.entry_id AND a.effective_at = s.executed_at AND c.seq <= $8
) AS is_known
FROM (
    (SELECT opened_at AS executed_at, opened_sequence AS source_sequence, opened_entry_id AS entry_id FROM round_trips
     WHERE {_KEY} AND (opened_at, opened_sequence, opened_entry_id) < ($5, $6, $7)
     ORDER BY 1 DESC, 2 DESC, 3 DESC LIMIT 1)
    UNION ALL
    (SELECT executed_at, source_sequence, entry_id FROM checkpoints
     WHERE {_KEY} AND (executed_at, source_sequence, entry_id) < ($5, $6, $7) ORDER BY 1 DESC, 2 DESC, 3 DESC LIMIT 1)
    ORDER BY 1 DESC, 2 DESC, 3 DESC LIMIT 1
) s
"""  # noqa: S608
_ADDED = ", ".join(f"coalesce(sum({name}), 0){'::bigint' if name == 'fill_count' else ''} AS {name}" for name in SUMS)
# Hardly any trip has fees without a value: they are gathered beside the sums, so that the trips are gone through once.
_SUMS = {
    sign: f"""
SELECT {", ".join(SUMS)},
       (SELECT jsonb_object_agg(currency, amount::text) FROM (
            SELECT u.key AS currency, sum(u.value::numeric) AS amount
            FROM unnest(added.without_value) AS t(fees), jsonb_each_text(t.fees) u
            GROUP BY u.key) a WHERE amount <> 0) AS unvalued_fees
FROM (
    SELECT {_ADDED}, array_agg(unvalued_fees) FILTER (WHERE unvalued_fees IS NOT NULL) AS without_value
    FROM round_trips WHERE {_KEY} AND (opened_at, opened_sequence, opened_entry_id) {sign} ($5, $6, $7)
) added
"""  # noqa: S608
    for sign in (">=", "<")
}
_FIRST_OPENING = f"""
SELECT opened_at, opened_sequence, opened_entry_id FROM round_trips WHERE {_KEY} ORDER BY 1, 2, 3 LIMIT 1
"""  # noqa: S608

_SEQUENCE = """coalesce((
    SELECT m.source_sequence FROM fill_moves m JOIN account_commits c USING (account, commit_id)
    WHERE m.account = f.account AND m.fill_id = f.fill_id AND m.revision = f.revision AND c.seq > $5
    ORDER BY c.seq LIMIT 1), f.source_sequence)"""
_FILL = f"""
SELECT f.executed_at, {_SEQUENCE} AS source_sequence, f.fill_id AS entry_id, 'FILL' AS kind, f.delta, f.price,
       CASE WHEN f.fee_currency IS NULL THEN f.fee ELSE coalesce(f.fee_value, 0) END AS fee,
       CASE WHEN f.fee_currency IS NOT NULL AND f.fee_value IS NULL AND f.fee <> 0 THEN f.fee_currency END AS currency,
       CASE WHEN f.fee_currency IS NOT NULL AND f.fee_value IS NULL AND f.fee <> 0 THEN f.fee END AS unvalued
"""
_OF_KEY = """f.account = $1 AND f.book = $2 AND f.instrument = $3 AND f.leg = $4 AND f.state = 'LIVE'
    AND f.executed_at >= $6 AND f.executed_at <= $7 AND k.seq <= $5"""
_KNOWN_ENTRIES = f"""
SELECT * FROM (
    {_FILL} FROM fills f JOIN account_commits k USING (account, commit_id) WHERE {_OF_KEY}
    UNION ALL
    {_FILL} FROM fill_revisions f JOIN account_commits k USING (account, commit_id) WHERE {_OF_KEY}
        AND NOT EXISTS (SELECT FROM fill_revisions n JOIN account_commits c USING (account, commit_id)
                        WHERE n.account = f.account AND n.fill_id = f.fill_id AND n.revision > f.revision
                          AND c.seq <= $5)
        AND NOT EXISTS (SELECT FROM fills n JOIN account_commits c USING (account, commit_id)
                        WHERE n.account = f.account AND n.fill_id = f.fill_id AND c.seq <= $5)
    UNION ALL
    SELECT a.effective_at, a.source_sequence, a.adjustment_id,
           CASE a.kind WHEN 'FUNDING' THEN 'FUNDING' WHEN 'VENUE' THEN 'VENUE' ELSE 'ADJUSTMENT' END,
           a.quantity, a.average_price, coalesce(a.amount, 0), NULL, NULL
    FROM adjustments a JOIN account_commits k USING (account, commit_id)
    WHERE a.account = $1 AND a.book = $2 AND a.instrument = $3 AND a.leg = $4 AND a.state = 'LIVE'
      AND a.effective_at >= $6 AND a.effective_at <= $7 AND k.seq <= $5
) e
"""  # noqa: S608
_PLACE = "(executed_at, source_sequence, entry_id)"
_BEHIND = {
    is_inclusive: f"{_KNOWN_ENTRIES} WHERE {_PLACE} {sign} ($6, $8, $9) ORDER BY 1, 2, 3"
    for is_inclusive, sign in ((True, ">="), (False, ">"))
}
BEGINNING = OrderKey(EARLIEST, -(2**31), "")


class HistoryReads:
    """Fulfils the port `read_as_of.HistoryStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def snapshot(
        self, key: PositionKey, *, heads: Collection[Account]
    ) -> AsyncIterator[tuple[PostgresKeyHistory, Heads]]:
        """One consistent read of a key."""
        async with self._database.read() as connection:
            seen = await read_heads(connection, heads)
            yield PostgresKeyHistory(connection, key), {Account(account): seq for account, seq in seen.items()}


class PostgresKeyHistory:
    """Fulfils the port `read_as_of.KeyHistory`."""

    def __init__(self, connection: Connection, key: PositionKey) -> None:
        self._connection = connection
        self._key = key

    async def now(self, *, known_at: datetime | None) -> KeyNow | None:
        connection, key = self._connection, self._key
        stored = (await positions.find_positions(connection, [key], is_locking=False))[key]
        if not stored.version and not await connection.fetchval(_HAS_ENTRIES, *key):
            return None
        account = (await instruments.find_accounts(connection, [key.account], make=None))[key.account]
        record = (await instruments.find_instruments(connection, [key.instrument], is_making=False))[key.instrument]
        newest = (await read_heads(connection, [key.account])).get(key.account, 0)
        known_seq = newest if known_at is None else await connection.fetchval(_KNOWN_SEQ, key.account, known_at)
        changed = None if stored.stale is None else stored.stale.first.executed_at
        if known_seq < newest:
            since = await connection.fetchval(_CHANGED_FROM, *key, known_at, EARLIEST)
            changed = min((at for at in (changed, since) if at is not None), default=None)
        rules = FoldRules(record, key.leg, account.lot_method)
        return KeyNow(stored, rules, account.cost_method, known_seq, known_seq == newest, changed)

    async def start_before(self, place: OrderKey, *, known_seq: int) -> StartPlace | None:
        row = await self._connection.fetchrow(_START, *self._key, *place, known_seq)
        if row is None:
            return None
        return StartPlace(OrderKey(row["executed_at"], row["source_sequence"], row["entry_id"]), row["is_known"])

    async def last_trip_opened_before(self, place: OrderKey) -> RoundTrip | None:
        return await round_trips.last_trip_opened_before(self._connection, self._key, order=place)

    async def checkpoint_before(self, place: OrderKey) -> Checkpoint | None:
        return await round_trips.checkpoint_before(self._connection, self._key, order=place)

    async def last_fill_at(self, place: OrderKey) -> datetime | None:
        return await fills.last_fill_at(self._connection, self._key, before=place)

    async def sums_from(self, place: OrderKey) -> Sums:
        return sums_of(await self._connection.fetchrow(_SUMS[">="], *self._key, *place))

    async def sums_before(self, place: OrderKey) -> Sums:
        return sums_of(await self._connection.fetchrow(_SUMS["<"], *self._key, *place))

    async def first_opening(self) -> OrderKey | None:
        row = await self._connection.fetchrow(_FIRST_OPENING, *self._key)
        return None if row is None else OrderKey(*row)

    async def entries(
        self, *, start: OrderKey | None, is_inclusive: bool, end: OrderKey | None, known_seq: int | None
    ) -> AsyncIterator[Sequence[Entry]]:
        if known_seq is None:
            async for batch in fills.read_entries(
                self._connection, self._key, start=start, inclusive=is_inclusive, end=end
            ):
                yield batch
            return
        first = start or BEGINNING
        assert end is not None, "what was known once has an end"
        cursor = await self._connection.cursor(
            _BEHIND[is_inclusive],
            *self._key,
            known_seq,
            first.executed_at,
            end.executed_at,
            first.source_sequence,
            first.entry_id,
        )
        while rows := cast("Sequence[Sequence[object]]", await cursor.fetch(fills.ENTRY_BATCH)):
            yield [Entry._make(row) for row in rows]
