"""Snapshots in which accounts are held against their limits."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Text, bindparam, or_, select

from steelyard.accounting.instruments import Instrument, InstrumentKind, PriceRule
from steelyard.accounting.keys import Account, InstrumentName, Leg, PositionKey, root_of
from steelyard.accounting.limits import LimitKind, LimitSet, RiskRow
from steelyard.accounting.marks import Mark
from steelyard.accounting.round_trips import CostMethod
from steelyard.operations.day_results import KeyMoves
from steelyard.operations.ports import AccountRules, BookTransaction, Clock, StoredPosition
from steelyard.operations.reading import Heads
from steelyard.operations.risk import AccountFacts, Breach, LimitRecord
from steelyard.storage.account_log import read_heads
from steelyard.storage.codec import key_of, unvalued_of
from steelyard.storage.compiled import Compiled, Row
from steelyard.storage.database import Connection, Database
from steelyard.storage.instruments import instrument_of_row, rules_of_row
from steelyard.storage.ledger import PostgresTransaction
from steelyard.storage.position_rows import HELD, KEY_COLUMNS, MARK, RECORD, P
from steelyard.storage.positions import find_positions, with_lots
from steelyard.storage.round_trips import read_lots
from steelyard.storage.tables import MOMENT, instruments, marks, positions

_LIMITS = """
SELECT l.account, l.currency, l.gross_exposure_max::text, l.net_exposure_max::text, l.instrument_exposure_max::text,
       l.day_loss_max::text, l.counts_unrealized, l.version, l.created_at, l.updated_at,
       (SELECT jsonb_object_agg(i.instrument::text, i.exposure_max::text) FROM instrument_limits i
        WHERE i.account = l.account AND i.currency = l.currency) AS instrument_exposures_max
FROM account_limits l WHERE l.account = $1
"""
LIMITS_OF_CURRENCY = f"SELECT to_jsonb(found)::text FROM ({_LIMITS} AND l.currency = $2) AS found"  # noqa: S608
_FACTS = f"""
SELECT coalesce(h.seq, 0) AS seq, a.*,
       (SELECT jsonb_agg(to_jsonb(found) ORDER BY found.currency)::text FROM ({_LIMITS}) AS found) AS limits,
       (SELECT jsonb_agg(jsonb_build_array(s.book, s.instrument, s.leg, i.settle_currency))::text
        FROM stale_keys s JOIN instruments i USING (instrument) WHERE s.account = n.account) AS unfolded
FROM (SELECT $1::text AS account) AS n LEFT JOIN account_heads h ON h.account = n.account
LEFT JOIN accounts a ON a.account = n.account
"""  # noqa: S608
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


def _rows(method: CostMethod) -> Compiled:
    cost, gross = {
        CostMethod.AVERAGE: (P.cost_average, P.gross_average),
        CostMethod.LOTS: (P.cost_lots, P.gross_lots),
    }[method]
    is_held = HELD != 0
    moved = P.last_fill_at >= bindparam("since", type_=MOMENT)
    return Compiled(
        select(
            *(P.book, P.instrument, P.leg, P.quantity, P.pending_quantity, cost.label("cost"), gross.label("gross")),
            *(P.fees, P.unvalued_fees, P.fill_count, P.last_fill_at),
            *(RECORD.kind, RECORD.multiplier, RECORD.quote_currency, RECORD.settle_currency, RECORD.price_rule),
            *(MARK.price, MARK.marked_at),
        )
        .select_from(
            positions.join(instruments, RECORD.instrument == P.instrument).outerjoin(
                marks, MARK.instrument == P.instrument
            )
        )
        .where(P.account == bindparam("account", type_=Text()), or_(is_held, moved))
        .order_by(*KEY_COLUMNS)
    )


_ROWS = {method: _rows(method) for method in CostMethod}


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
        limits = {each["currency"]: limit_record(each) for each in json.loads(row["limits"] or "[]")}
        rules = AccountRules(account) if row["account"] is None else rules_of_row(row)
        unfolded = {
            PositionKey(account, book, instrument, Leg(leg)): currency
            for book, instrument, leg, currency in json.loads(row["unfolded"] or "[]")
        }
        return AccountFacts(account, row["seq"], rules, limits, unfolded)

    async def rows(self, account: Account, *, method: CostMethod, since: datetime | None) -> Sequence[RiskRow]:
        """The open positions of an account, and those with a fill executed at `since` (None: never) or later, in key
        order, costs and gross by a method."""
        statement = _ROWS[method]
        rows = await self._connection.fetch(statement.text, *statement.arguments(account=account, since=since))
        return [_risk_row(account, row) for row in rows]

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


def _risk_row(account: Account, row: Row) -> RiskRow:
    """The position in a row of `_ROWS`, unpacked in the order of its columns."""
    (book, name, leg, quantity, pending, cost, gross, fees, unvalued, fill_count, last_fill_at, *record, price, at) = (
        row
    )
    kind, multiplier, quote_currency, settle_currency, price_rule = record
    return RiskRow(
        PositionKey(account, book, name, Leg(leg)),
        Instrument(name, InstrumentKind(kind), multiplier, quote_currency, settle_currency, PriceRule(price_rule)),
        quantity,
        pending,
        cost,
        gross,
        fees,
        unvalued_of(unvalued),
        fill_count,
        last_fill_at,
        price,
        at,
    )


def limit_record(stored: Mapping[str, Any]) -> LimitRecord:
    """The record in the JSON of a row of `account_limits` with its instruments beside it; amounts are texts."""
    named = (stored["instrument_exposures_max"] or {}).items()
    limits = LimitSet(
        currency=stored["currency"],
        gross_exposure_max=_amount(stored["gross_exposure_max"]),
        net_exposure_max=_amount(stored["net_exposure_max"]),
        instrument_exposure_max=_amount(stored["instrument_exposure_max"]),
        instrument_exposures_max={InstrumentName(name): Decimal(amount) for name, amount in named},
        day_loss_max=_amount(stored["day_loss_max"]),
        counts_unrealized=stored["counts_unrealized"],
    )
    return LimitRecord(
        account=Account(stored["account"]),
        limits=limits,
        version=stored["version"],
        created_at=datetime.fromisoformat(stored["created_at"]),
        updated_at=datetime.fromisoformat(stored["updated_at"]),
    )


def _amount(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


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
