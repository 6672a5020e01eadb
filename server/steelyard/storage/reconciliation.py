"""The book as reconciling sees it: whole keys in one snapshot, the writes that fix them, and what lies beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from steelyard.accounting.keys import Account, InstrumentName, PositionKey
from steelyard.accounting.round_trips import RoundTrip
from steelyard.accounting.venue_report import VenueReport
from steelyard.operations.account_look import Settled
from steelyard.operations.building import BuildMode, BuildScope, BuildTrigger, NewBuild
from steelyard.operations.compare_positions import SeenKey
from steelyard.operations.examine_keys import KnownReport
from steelyard.operations.fix_positions import Fixed
from steelyard.operations.outbox_ports import DISCREPANCY_FOUND
from steelyard.operations.ports import Clock
from steelyard.operations.reconciling import Compared, Finding, FindingKind, Scope
from steelyard.operations.venue_positions import OrderDifference
from steelyard.storage import discrepancies, positions
from steelyard.storage.build_making import make_build
from steelyard.storage.codec import key_of, trip_of_row
from steelyard.storage.database import Database
from steelyard.storage.feed_ledger import PostgresFeedTransaction
from steelyard.storage.round_trips import read_lots
from steelyard.storage.told import Told

TRIPS_AT_ONCE = 2_000
KEYS_WITHOUT_ROW_MAX = 10_000
"""Keys of an account with entries but no position that one run looks at."""
_OF_KEY = "account = $1 AND book = $2 AND instrument = $3 AND leg = $4"

# Entries of a million fills are not read to find their few keys: the index is skipped through, key by key.
_ENTRY_KEYS = """
WITH RECURSIVE k AS (
    (SELECT book, instrument, leg FROM {table} WHERE account = $1 AND state = 'LIVE'
     ORDER BY book, instrument, leg LIMIT 1)
    UNION ALL
    SELECT n.book, n.instrument, n.leg FROM k, LATERAL (
        SELECT e.book, e.instrument, e.leg FROM {table} e
        WHERE e.account = $1 AND e.state = 'LIVE' AND (e.book, e.instrument, e.leg) > (k.book, k.instrument, k.leg)
        ORDER BY e.book, e.instrument, e.leg LIMIT 1
    ) n
)
SELECT k.book, k.instrument, k.leg FROM k
"""
_WITHOUT_ROW = f"""
SELECT $1::text AS account, e.book, e.instrument, e.leg
FROM (({_ENTRY_KEYS.format(table="fills")}) UNION ({_ENTRY_KEYS.format(table="adjustments")})) e
LEFT JOIN positions p ON p.account = $1 AND p.book = e.book AND p.instrument = e.instrument AND p.leg = e.leg
WHERE p.account IS NULL AND (cardinality($2::text[]) = 0 OR e.instrument = ANY($2))
ORDER BY e.instrument, e.book, e.leg LIMIT {KEYS_WITHOUT_ROW_MAX}
"""  # noqa: S608
_BOOKS = """
WITH RECURSIVE b AS (
    SELECT (SELECT book FROM {table} WHERE account = $1 AND state = 'LIVE' ORDER BY book LIMIT 1) AS book
    UNION ALL
    SELECT (SELECT e.book FROM {table} e WHERE e.account = $1 AND e.state = 'LIVE' AND e.book > b.book
            ORDER BY e.book LIMIT 1) FROM b WHERE b.book IS NOT NULL
)
SELECT book FROM b WHERE book IS NOT NULL
"""
_HAS_ENTRY = """EXISTS (SELECT FROM {table} e WHERE e.account = $1 AND e.book = n.book AND e.instrument = n.instrument
    AND e.leg = n.leg AND e.state = 'LIVE')"""
_LOST = f"""
SELECT $1::text AS account, n.book, n.instrument, n.leg
FROM (SELECT b.book, i.instrument, l.leg
      FROM (({_BOOKS.format(table="fills")}) UNION ({_BOOKS.format(table="adjustments")})) b,
           unnest($2::text[]) AS i(instrument), unnest('{{NET,LONG,SHORT}}'::text[]) AS l(leg)) n
WHERE ({_HAS_ENTRY.format(table="fills")} OR {_HAS_ENTRY.format(table="adjustments")})
  AND NOT EXISTS (SELECT FROM positions p WHERE p.account = $1 AND p.book = n.book AND p.instrument = n.instrument
                  AND p.leg = n.leg)
"""  # noqa: S608
_ROW_KEYS = """
SELECT p.account, p.book, p.instrument, p.leg, p.opened_at, p.closed_at FROM positions p
WHERE p.account = $1 AND p.instrument = ANY($2::text[]) ORDER BY p.book, p.instrument, p.leg
"""
_INSTRUMENTS = """
SELECT DISTINCT instrument FROM positions
WHERE account = $1 AND instrument > $3 AND (cardinality($2::text[]) = 0 OR instrument = ANY($2))
ORDER BY instrument LIMIT $4
"""
_ACCOUNTS = """
SELECT account FROM (
    SELECT account FROM accounts UNION SELECT account FROM account_heads UNION
    (WITH RECURSIVE a AS (
        (SELECT account FROM fills ORDER BY account LIMIT 1)
        UNION ALL
        SELECT (SELECT f.account FROM fills f WHERE f.account > a.account ORDER BY f.account LIMIT 1) FROM a
        WHERE a.account IS NOT NULL
    ) SELECT account FROM a WHERE account IS NOT NULL)
) n WHERE cardinality($1::text[]) = 0 OR account = ANY($1) ORDER BY account
"""
_COUNT = """
SELECT count(*) FROM positions WHERE (cardinality($1::text[]) = 0 OR account = ANY($1))
  AND (cardinality($2::text[]) = 0 OR instrument = ANY($2))
"""
_REPORTS = """
SELECT account, book, instrument, leg, reported_at, quantity, average_price, unrealized_pnl, realized_pnl, source,
       received_at
FROM venue_reports WHERE account = $1 AND instrument = ANY($2::text[]) AND quantity IS NOT NULL
"""
_LAST_VERSION = f"SELECT max(version) FROM position_events WHERE {_OF_KEY}"  # noqa: S608
_RESTORE = """
INSERT INTO positions (account, book, instrument, leg, version, quantity, cost_average, cost_lots, gross_average,
    gross_lots, fees, reducing_fees, funding, cash_average, cash_lots, unmatched, fill_count, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, $6, $6)
ON CONFLICT DO NOTHING
"""
_AROUND = ("round_trips", "lots", "checkpoints")
_ROLLED_BACK = """
SELECT f.account, f.book, f.instrument, f.leg, count(*) AS fills, min(i.import_id::text) AS import_id
FROM imports i JOIN fills f ON f.account = $1 AND f.import_id = i.import_id
WHERE i.state = 'ROLLED_BACK' AND f.state = 'LIVE' AND (cardinality($2::text[]) = 0 OR f.instrument = ANY($2))
GROUP BY f.account, f.book, f.instrument, f.leg
"""
_STALLED = """
SELECT DISTINCT ON (k.account, k.book, k.instrument, k.leg) k.account, k.book, k.instrument, k.leg,
       k.build_id::text AS build_id, b.updated_at AS since
FROM build_keys k JOIN builds b USING (build_id)
WHERE k.account = $1 AND k.state IN ('PENDING', 'RUNNING') AND b.finished_at IS NULL
  AND greatest(b.updated_at, b.created_at) < $3 AND (cardinality($2::text[]) = 0 OR k.instrument = ANY($2))
"""
_STALE = """
SELECT s.account, s.book, s.instrument, s.leg, s.since FROM stale_keys s
WHERE s.account = $1 AND NOT s.is_held AND s.since < $3 AND (cardinality($2::text[]) = 0 OR s.instrument = ANY($2))
  AND NOT EXISTS (SELECT FROM build_keys k WHERE k.state IN ('PENDING', 'RUNNING')
                  AND (k.account, k.book, k.instrument, k.leg) = (s.account, s.book, s.instrument, s.leg))
"""
# Of an order, the state of the greatest quantity says how far it is; its fills say in which position.
_ORDERS = """
SELECT o.account, f.book, f.instrument, f.leg, sum(f.ours) AS ours, sum(f.sign * o.filled) AS theirs,
       count(*) FILTER (WHERE f.ours <> f.sign * o.filled) AS orders
FROM (SELECT account, order_id, max(filled_quantity) AS filled FROM order_states WHERE account = $1
      GROUP BY account, order_id) o
JOIN LATERAL (
    SELECT f.book, f.instrument, f.leg, sign(min(f.delta)) AS sign,
           coalesce(sum(f.delta) FILTER (WHERE f.state = 'LIVE'), 0) AS ours
    FROM order_states s JOIN fills f ON f.account = s.account AND f.fill_id = s.fill_id
    WHERE s.account = o.account AND s.order_id = o.order_id GROUP BY f.book, f.instrument, f.leg
) f ON true
WHERE cardinality($2::text[]) = 0 OR f.instrument = ANY($2)
GROUP BY o.account, f.book, f.instrument, f.leg
HAVING count(*) FILTER (WHERE f.ours <> f.sign * o.filled) > 0
"""
_SAMPLE = """
SELECT account, instrument FROM positions WHERE (account, instrument, leg) > ($1, $2, '~')
ORDER BY account, instrument, leg LIMIT $3
"""


class ReconcileTransaction(PostgresFeedTransaction):
    """One transaction on the book; fulfils the ports `ReconcileBook`, `FixBook` and `Records`."""

    async def seen(self, account: Account, instruments: Sequence[InstrumentName]) -> Sequence[SeenKey]:
        """Every key of these instruments that has a row or live entries, in key order."""
        rows = await self.connection.fetch(_ROW_KEYS, account, list(instruments))
        times = {key_of(row): (row["opened_at"], row["closed_at"]) for row in rows}
        lost = await self.connection.fetch(_LOST, account, list(instruments))
        keys = [*times, *map(key_of, lost)]
        found = await positions.find_positions(self.connection, keys, is_locking=False)
        lots = await read_lots(self.connection, keys)
        return [
            SeenKey(positions.with_lots(found[key], lots.get(key, ())), *times.get(key, (None, None)))
            for key in sorted(keys)
        ]

    async def stored_trips(self, key: PositionKey) -> AsyncIterator[Sequence[RoundTrip]]:
        """The stored round trips of a key in fold order, in batches."""
        cursor = await self.connection.cursor(
            f"SELECT * FROM round_trips WHERE {_OF_KEY} ORDER BY opened_at, opened_sequence, opened_entry_id",  # noqa: S608
            *key,
        )
        while batch := await cursor.fetch(TRIPS_AT_ONCE):
            yield [trip_of_row(row) for row in batch]

    async def reports(self, account: Account, instruments: Sequence[InstrumentName]) -> Sequence[KnownReport]:
        """The last reports that say a signed quantity."""
        rows = await self.connection.fetch(_REPORTS, account, list(instruments))
        return [KnownReport(_report(row), row["received_at"]) for row in rows]

    async def restore(self, key: PositionKey) -> None:
        """Gives a position that lost its row an empty one under its last version; without any, clears what is left."""
        if await self.connection.fetchval(f"SELECT EXISTS (SELECT FROM positions WHERE {_OF_KEY})", *key):  # noqa: S608
            return
        version = await self.connection.fetchval(_LAST_VERSION, *key)
        if version is not None:
            await self.connection.execute(_RESTORE, *key, version, self._clock())
            return
        for table in _AROUND:
            await self.connection.execute(f"DELETE FROM {table} WHERE {_OF_KEY}", *key)  # noqa: S608

    async def fixed(self, key: PositionKey, done: Fixed) -> int:
        """Resolves the open records of a position that a fix has settled; how many."""
        return await discrepancies.settle_fixed(self.connection, key, done=done)

    async def note(self, findings: Sequence[Finding], *, run_id: UUID, now: datetime) -> int:
        """Puts findings on record and tells others of the new ones; how many are new."""
        new = [
            each for each in await discrepancies.note(self.connection, findings, run_id=run_id, now=now) if each.is_new
        ]
        for each in new:
            if self._told is not None:
                self._told.found(each.finding.kind.value)
            await self.publish(DISCREPANCY_FOUND, each.finding.key, body=each.body)
        return len(new)

    async def settle(self, account: Account, settled: Settled, *, before: datetime, now: datetime) -> int:
        """Resolves open records that were looked for and not seen since `before`; how many."""
        return await discrepancies.settle(self.connection, account, settled=settled, before=before, now=now)


class PostgresReconciliation:
    """Fulfils the ports `account_look.ReconcileStore` and `venue_positions.OrderManager`."""

    def __init__(
        self, database: Database, clock: Clock, *, is_publishing: bool = False, build_timeout_s: int = 3_600
    ) -> None:
        self._database = database
        self._clock = clock
        self._is_publishing = is_publishing
        self._build_timeout_s = build_timeout_s

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[ReconcileTransaction]:
        """One consistent view of the book that holds nobody up."""
        async with self._database.read() as connection:
            yield ReconcileTransaction(connection, self._clock, cause="read")

    @asynccontextmanager
    async def fixing(self, *, cause: str) -> AsyncIterator[ReconcileTransaction]:
        """A transaction that advances the heads of all touched accounts last."""
        with Told(self._database.telemetry, cause=cause, clock=self._clock) as told:
            async with self._database.write() as connection:
                book = ReconcileTransaction(
                    connection, self._clock, cause=cause, is_publishing=self._is_publishing, told=told
                )
                yield book
                await book.finish()

    @asynccontextmanager
    async def recording(self) -> AsyncIterator[ReconcileTransaction]:
        """A transaction on the records; what is new is told to others with it."""
        async with self.fixing(cause="reconcile") as book:
            yield book

    async def rebuild(self, account: Account, instrument: InstrumentName) -> UUID:
        """Starts a full build of an instrument's positions; its id."""
        new = NewBuild(
            build_id=uuid4(),
            scope=BuildScope(pairs=((account, instrument),)),
            mode=BuildMode.FULL,
            trigger=BuildTrigger.MANUAL,
            priority=None,
            timeout_s=self._build_timeout_s,
        )
        async with self._database.write() as connection:
            await make_build(connection, new)
        return new.build_id

    async def accounts(self, scope: Scope) -> Sequence[Account]:
        """The accounts in a scope that have anything."""
        async with self._database.read() as connection:
            return [Account(row["account"]) for row in await connection.fetch(_ACCOUNTS, list(scope.accounts))]

    async def count_keys(self, scope: Scope) -> int:
        """How many positions a scope has."""
        async with self._database.read() as connection:
            return int(await connection.fetchval(_COUNT, list(scope.accounts), list(scope.instruments)))

    async def instruments(
        self, account: Account, scope: Scope, *, size: int
    ) -> AsyncIterator[Sequence[InstrumentName]]:
        """The instruments of an account in a scope with positions or entries, `size` at a time."""
        wanted = list(scope.instruments)
        async with self._database.read() as connection:
            lost = await connection.fetch(_WITHOUT_ROW, account, wanted)
        without_row = sorted({InstrumentName(row["instrument"]) for row in lost})
        after = ""
        while True:
            async with self._database.read() as connection:
                rows = await connection.fetch(_INSTRUMENTS, account, wanted, after, size)
            names = [InstrumentName(row["instrument"]) for row in rows]
            if len(names) < size:
                break
            after = names[-1]
            yield names
            without_row = [name for name in without_row if name not in names]
        rest = [*names, *(name for name in without_row if name not in names)]
        for start in range(0, len(rest), size):
            yield rest[start : start + size]

    async def sample(
        self, after: tuple[Account, InstrumentName] | None, *, size: int
    ) -> Sequence[tuple[Account, InstrumentName]]:
        """The next few instruments with positions, after those looked at last."""
        async with self._database.read() as connection:
            rows = await connection.fetch(_SAMPLE, *(after or ("", "")), size)
        return list(dict.fromkeys((Account(row["account"]), InstrumentName(row["instrument"])) for row in rows))

    async def integrity(
        self, account: Account, scope: Scope, *, now: datetime, stalled_after: timedelta
    ) -> Sequence[Finding]:
        """What is wrong beside positions: fills of imports that were taken back, builds without progress."""
        wanted, before = list(scope.instruments), now - stalled_after
        async with self._database.read() as connection:
            rolled_back = await connection.fetch(_ROLLED_BACK, account, wanted)
            stalled = await connection.fetch(_STALLED, account, wanted, before)
            stale = await connection.fetch(_STALE, account, wanted, before)
        return [
            *(
                _beside(row, FindingKind.ROLLED_BACK_ROWS, Decimal(row["fills"]), f"import {row['import_id']}")
                for row in rolled_back
            ),
            *(
                _beside(row, FindingKind.BUILD_STALLED, None, f"build {row['build_id']} stands still")
                for row in stalled
            ),
            *(
                _beside(row, FindingKind.BUILD_STALLED, None, "entries wait for a build that nobody makes")
                for row in stale
            ),
        ]

    async def differences(
        self, account: Account, *, instruments: Sequence[InstrumentName]
    ) -> Sequence[OrderDifference]:
        """Where the fills of an account's orders do not add up to the order manager's cumulative states."""
        async with self._database.read() as connection:
            rows = await connection.fetch(_ORDERS, account, list(instruments))
        return [OrderDifference(key_of(row), row["ours"], row["theirs"], row["orders"]) for row in rows]


def _report(row: Any) -> VenueReport:
    return VenueReport(
        key=key_of(row),
        size=abs(row["quantity"]),
        quantity=row["quantity"],
        average_price=row["average_price"],
        reported_at=row["reported_at"],
        unrealized_pnl=row["unrealized_pnl"],
        realized_pnl=row["realized_pnl"],
        source=row["source"],
    )


def _beside(row: Any, kind: FindingKind, ours: Decimal | None, detail: str) -> Finding:  # noqa: PLR0917 - in the order of a finding
    return Finding(key_of(row), kind, Compared.BOOK, ours, None, detail)
