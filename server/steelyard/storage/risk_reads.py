"""Snapshots in which accounts are held against their limits."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Text, bindparam, or_, select

from steelyard.accounting.instruments import Instrument
from steelyard.accounting.keys import Account, InstrumentName, Leg, PositionKey, root_of
from steelyard.accounting.limits import LimitKind, LimitSet
from steelyard.accounting.marks import Mark
from steelyard.operations.day_results import KeyMoves
from steelyard.operations.ports import AccountRules, BookTransaction, Clock, StoredPosition
from steelyard.operations.position_view import PositionRow
from steelyard.operations.reading import Heads
from steelyard.operations.risk import AccountFacts, Breach, LimitRecord
from steelyard.storage.account_log import read_heads
from steelyard.storage.codec import key_of
from steelyard.storage.compiled import Compiled, Row
from steelyard.storage.database import Connection, Database
from steelyard.storage.instruments import instrument_of_row, rules_of_row
from steelyard.storage.ledger import PostgresTransaction
from steelyard.storage.position_rows import CONTEXT, HELD, KEY_COLUMNS, P, joined, row_of
from steelyard.storage.positions import find_positions, with_lots
from steelyard.storage.round_trips import read_lots
from steelyard.storage.tables import MOMENT

_FACTS = """
SELECT coalesce(h.seq, 0) AS seq, a.*,
       (SELECT jsonb_agg(jsonb_build_array(s.book, s.instrument, s.leg, i.settle_currency))::text
        FROM stale_keys s JOIN instruments i USING (instrument) WHERE s.account = n.account) AS unfolded
FROM (SELECT $1::text AS account) AS n LEFT JOIN account_heads h ON h.account = n.account
LEFT JOIN accounts a ON a.account = n.account
"""
LIMITS = """
SELECT l.*, (SELECT jsonb_object_agg(i.instrument::text, i.exposure_max::text)::text FROM instrument_limits i
             WHERE i.account = l.account AND i.currency = l.currency) AS instrument_exposures_max
FROM account_limits l WHERE l.account = $1
"""
# A key is doubtful unless each version since applied new fills of the day, named one by one, and nothing else.
_MOVES = """
SELECT e.account, e.book, e.instrument, e.leg, sum(e.fill_count)::bigint AS fills,
       (array_agg((e.state -> 'sums' ->> 8)::bigint ORDER BY e.version DESC))[1] AS fill_count,
       bool_or(e.cause <> 'fill' OR e.fill_count <> cardinality(e.fill_ids) OR EXISTS (
           SELECT 1 FROM unnest(e.fill_ids) AS n(fill_id)
           LEFT JOIN fills f ON f.account = e.account AND f.fill_id = n.fill_id
           WHERE f.fill_id IS NULL OR f.executed_at < $3 OR f.revision > 1 OR f.state <> 'LIVE'
       )) AS is_doubtful
FROM position_events e WHERE e.account = $1 AND e.seq > $2
GROUP BY e.account, e.book, e.instrument, e.leg
"""
_INSTRUMENTS = """
SELECT instrument, kind, multiplier, quote_currency, settle_currency, price_rule, is_root
FROM instruments WHERE instrument = ANY($1::text[])
"""
_MARKS = "SELECT instrument, price, marked_at, source FROM marks WHERE instrument = ANY($1::text[])"
_OPEN_BREACHES = """
SELECT * FROM limit_breaches WHERE account = $1 AND closed_at IS NULL ORDER BY opened_at, breach_id
"""
_LIMITED = """
SELECT DISTINCT account FROM account_limits WHERE cardinality($1::text[]) = 0 OR account = ANY($1::text[])
ORDER BY account
"""
_ROWS = Compiled(
    select(*CONTEXT)
    .select_from(joined())
    .where(
        P.account == bindparam("account", type_=Text()),
        or_(HELD != 0, P.last_fill_at >= bindparam("since", type_=MOMENT)),
    )
    .order_by(*KEY_COLUMNS)
)


class PostgresRiskSnapshot:
    """Fulfils the port `risk.RiskSnapshot` inside one REPEATABLE READ transaction."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._book = PostgresTransaction(connection, clock, cause="read")

    @property
    def book(self) -> BookTransaction:
        """The book, for folding."""
        return self._book

    async def facts(self, account: Account) -> AccountFacts:
        """Rules, limits and log of an account; it need not exist."""
        row = await self._connection.fetchrow(_FACTS, account)
        limits = await read_limits(self._connection, account)
        rules = AccountRules(account) if row["account"] is None else rules_of_row(row)
        unfolded = {
            PositionKey(account, book, instrument, Leg(leg)): currency
            for book, instrument, leg, currency in json.loads(row["unfolded"] or "[]")
        }
        return AccountFacts(account, row["seq"], rules, limits, unfolded)

    async def rows(self, account: Account, *, since: datetime | None) -> Sequence[PositionRow]:
        """The open positions of an account, and those with a fill executed at `since` (None: never) or later."""
        rows = await self._connection.fetch(_ROWS.text, *_ROWS.arguments(account=account, since=since))
        return [row_of(row, has_trip=False) for row in rows]

    async def moves(self, account: Account, *, after_seq: int, day_start: datetime) -> Mapping[PositionKey, KeyMoves]:
        """What the log says about the keys of an account behind a step."""
        rows = await self._connection.fetch(_MOVES, account, after_seq, day_start)
        return {key_of(row): KeyMoves(row["fills"], row["fill_count"], row["is_doubtful"]) for row in rows}

    async def stored(self, key: PositionKey, *, has_lots: bool) -> StoredPosition:
        """One position as it is folded; version 0 where there is none."""
        stored = (await find_positions(self._connection, [key], is_locking=False))[key]
        if has_lots and stored.state.quantity:
            lots = await read_lots(self._connection, [key])
            return with_lots(stored, lots.get(key, ()))
        return stored

    async def traded(
        self, names: Collection[InstrumentName]
    ) -> Mapping[InstrumentName, tuple[Instrument, Mark | None]]:
        """Instruments and their marks; a futures contract has its root's record. Unknown ones are left out."""
        wanted = sorted({*names, *map(root_of, names)})
        rows = await self._connection.fetch(_INSTRUMENTS, wanted)
        records = {record.name: record for record in map(instrument_of_row, rows)}
        marks = {row["instrument"]: row for row in await self._connection.fetch(_MARKS, sorted(names))}
        found = {}
        for name in names:
            record = _record_of(name, records)
            if record is not None:
                mark = marks.get(name)
                found[name] = (record, None if mark is None else Mark(mark["price"], mark["marked_at"], mark["source"]))
        return found

    async def open_breaches(self, account: Account) -> Sequence[Breach]:
        """The breaches that have not ended."""
        return [breach_of_row(row) for row in await self._connection.fetch(_OPEN_BREACHES, account)]

    async def heads(self, accounts: Collection[Account]) -> Heads:
        """The newest steps of accounts."""
        return {Account(account): seq for account, seq in (await read_heads(self._connection, accounts)).items()}


class RiskReads:
    """Fulfils the port `risk.RiskStore`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[PostgresRiskSnapshot]:
        """A REPEATABLE READ snapshot. Raises `StoreUnavailable`."""
        async with self._database.read() as connection:
            yield PostgresRiskSnapshot(connection, self._clock)

    async def limited_accounts(self, accounts: Collection[Account]) -> Sequence[Account]:
        """Those of the accounts (none: of all) that have limits, in order."""
        async with self._database.bare() as connection:
            return [Account(row["account"]) for row in await connection.fetch(_LIMITED, sorted(set(accounts)))]


async def read_limits(connection: Connection, account: Account) -> Mapping[str, LimitRecord]:
    """The limits of an account by settle currency."""
    rows = await connection.fetch(f"{LIMITS} ORDER BY l.currency", account)
    return {row["currency"]: limit_record_of_row(row) for row in rows}


def limit_record_of_row(row: Mapping[str, Any]) -> LimitRecord:
    """The record in a row of `account_limits` with its instruments beside it."""
    named = json.loads(row["instrument_exposures_max"] or "{}").items()
    limits = LimitSet(
        currency=row["currency"],
        gross_exposure_max=row["gross_exposure_max"],
        net_exposure_max=row["net_exposure_max"],
        instrument_exposure_max=row["instrument_exposure_max"],
        instrument_exposures_max={InstrumentName(name): Decimal(amount) for name, amount in named},
        day_loss_max=row["day_loss_max"],
        counts_unrealized=row["counts_unrealized"],
    )
    return LimitRecord(
        account=Account(row["account"]),
        limits=limits,
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def breach_of_row(row: Row) -> Breach:
    """The breach in a row of `limit_breaches`."""
    return Breach(
        breach_id=row["breach_id"],
        account=Account(row["account"]),
        currency=row["currency"],
        kind=LimitKind(row["kind"]),
        instrument=None if row["instrument"] is None else InstrumentName(row["instrument"]),
        limit=row["limit_value"],
        opened_value=row["opened_value"],
        opened_seq=row["opened_seq"],
        opened_at=row["opened_at"],
        closed_value=row["closed_value"],
        closed_seq=row["closed_seq"],
        closed_at=row["closed_at"],
    )


def _record_of(name: InstrumentName, records: Mapping[InstrumentName, Instrument]) -> Instrument | None:
    record, root = records.get(name), records.get(InstrumentName(root_of(name)))
    if record is not None and not record.is_root:
        return record
    return root.contract(name) if root is not None and root.is_root and root.name != name else None
