"""Limits of accounts as they are kept, and the records of their breaches."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from sqlalchemy import ColumnElement, select, tuple_

from steelyard.accounting.keys import DEFAULT_BOOK, Account, InstrumentName, Leg, PositionKey
from steelyard.accounting.limits import LimitSet
from steelyard.accounting.units import decimal_text, money_text
from steelyard.operations.keep_limits import BreachFilter
from steelyard.operations.outbox_ports import LIMIT_BREACHED
from steelyard.operations.ports import Clock
from steelyard.operations.reading import Cursor, Heads, Page, Snapshot, page_of
from steelyard.operations.risk import Breach, LimitRecord
from steelyard.operations.watch_limits import BreachChanges
from steelyard.storage.bulk import Columns, arrays, insert_rows, unnested
from steelyard.storage.codec import time_text
from steelyard.storage.compiled import HEADS
from steelyard.storage.database import Database
from steelyard.storage.record_writes import RecordTransaction, record_transaction
from steelyard.storage.risk_reads import LIMITS_OF_CURRENCY, RiskReads, breach_of_row, limit_record
from steelyard.storage.tables import limit_breaches

_WRITE = """
INSERT INTO account_limits AS l (account, currency, gross_exposure_max, net_exposure_max, instrument_exposure_max,
                                 day_loss_max, counts_unrealized, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, now(), now())
ON CONFLICT (account, currency) DO UPDATE
    SET gross_exposure_max = excluded.gross_exposure_max, net_exposure_max = excluded.net_exposure_max,
        instrument_exposure_max = excluded.instrument_exposure_max, day_loss_max = excluded.day_loss_max,
        counts_unrealized = excluded.counts_unrealized, version = l.version + 1, updated_at = now()
"""
_FORGET_INSTRUMENTS = "DELETE FROM instrument_limits WHERE account = $1 AND currency = $2"
_WRITE_INSTRUMENTS = """
INSERT INTO instrument_limits (account, currency, instrument, exposure_max)
SELECT $1, $2, * FROM unnest($3::text[], $4::numeric[])
"""
_WATCHED_HEADS = """
SELECT w.account, coalesce(h.seq, 0) AS seq
FROM (SELECT account FROM account_limits UNION SELECT account FROM limit_breaches WHERE closed_at IS NULL) AS w
LEFT JOIN account_heads h ON h.account = w.account ORDER BY w.account
"""
_OPENED: Columns = (
    *(("account", "text"), ("breach_id", "uuid"), ("currency", "text"), ("kind", "text"), ("instrument", "text")),
    *(("limit_value", "numeric"), ("opened_value", "numeric"), ("opened_seq", "int8"), ("opened_at", "timestamptz")),
)
_OPEN = insert_rows("limit_breaches", _OPENED, on_conflict="DO NOTHING", returning="breach_id")
_CLOSED: Columns = (
    *(("account", "text"), ("breach_id", "uuid")),
    *(("closed_value", "numeric"), ("closed_seq", "int8"), ("closed_at", "timestamptz")),
)
_CLOSE = f"""
UPDATE limit_breaches t SET closed_value = n.closed_value, closed_seq = n.closed_seq, closed_at = n.closed_at
FROM {unnested(_CLOSED)} WHERE t.account = n.account AND t.breach_id = n.breach_id AND t.closed_at IS NULL
RETURNING t.breach_id
"""  # noqa: S608
BREACH = limit_breaches.c


class LimitTransaction(RecordTransaction):
    """Fulfils the port `keep_limits.LimitWrites`."""

    async def locked(self, account: Account, *, currency: str) -> LimitRecord | None:
        """The record, locked until the commit."""
        await self.lock("limits", f"{account}\n{currency}")
        return await self._find(account, currency=currency)

    async def write(self, account: Account, limits: LimitSet) -> LimitRecord:
        """Makes the record, or replaces it under the next version; steps the account's log."""
        self.touched.add(account)
        await self.connection.execute(
            _WRITE,
            *(account, limits.currency, limits.gross_exposure_max, limits.net_exposure_max),
            *(limits.instrument_exposure_max, limits.day_loss_max, limits.counts_unrealized),
        )
        named = sorted(limits.instrument_exposures_max.items())
        names, amounts = [name for name, _ in named], [amount for _, amount in named]
        await self.connection.execute(_FORGET_INSTRUMENTS, account, limits.currency)
        await self.connection.execute(_WRITE_INSTRUMENTS, account, limits.currency, names, amounts)
        written = await self._find(account, currency=limits.currency)
        assert written is not None
        return written

    async def _find(self, account: Account, *, currency: str) -> LimitRecord | None:
        text = await self.connection.fetchval(LIMITS_OF_CURRENCY, account, currency)
        return None if text is None else limit_record(json.loads(text))


class BreachTransaction(RecordTransaction):
    """Writes what others have not written yet, and tells of what begins."""

    async def open(self, breaches: Sequence[Breach], *, is_publishing: bool) -> list[Breach]:
        """Begins breaches; gives those that nobody else had begun."""
        rows = [
            (
                *(each.account, each.breach_id, each.currency, each.kind.value, each.instrument),
                *(each.limit, each.opened_value, each.opened_seq, each.opened_at),
            )
            for each in sorted(breaches, key=_lock_order)
        ]
        written = {row["breach_id"] for row in await self.connection.fetch(_OPEN, *arrays(rows, _OPENED))}
        begun = [each for each in breaches if each.breach_id in written]
        self.touched.update(each.account for each in begun)
        for each in begun if is_publishing else ():
            self.tell(LIMIT_BREACHED, _key_of(each), body=_body(each))
        return begun

    async def close(self, breaches: Sequence[Breach]) -> list[Breach]:
        """Ends breaches; gives those that nobody else had ended."""
        rows = [
            (each.account, each.breach_id, each.closed_value, each.closed_seq, each.closed_at)
            for each in sorted(breaches, key=_lock_order)
        ]
        written = {row["breach_id"] for row in await self.connection.fetch(_CLOSE, *arrays(rows, _CLOSED))}
        ended = [each for each in breaches if each.breach_id in written]
        self.touched.update(each.account for each in ended)
        return ended


def _lock_order(breach: Breach) -> tuple[str, ...]:
    return (breach.account, breach.currency, breach.kind.value, breach.instrument or "")


def _key_of(breach: Breach) -> PositionKey:
    """Where the message stands in the outbox; a limit of the whole account goes under its currency's name."""
    name = InstrumentName(breach.currency) if breach.instrument is None else breach.instrument
    return PositionKey(breach.account, DEFAULT_BOOK, name, Leg.NET)


def _body(breach: Breach) -> dict[str, Any]:
    return {
        "breach_id": str(breach.breach_id),
        "currency": breach.currency,
        "kind": breach.kind.value,
        "instrument": breach.instrument,
        "limit": decimal_text(breach.limit),
        "value": money_text(breach.opened_value),
        "opened_seq": breach.opened_seq,
        "opened_at": time_text(breach.opened_at),
    }


class LimitRecords(RiskReads):
    """Fulfils the ports `keep_limits.LimitStore` and `watch_limits.BreachStore`."""

    def __init__(self, database: Database, clock: Clock, *, is_publishing: bool = False) -> None:
        """`is_publishing`: breaches that begin are put into the outbox as well."""
        super().__init__(database, clock)
        self._is_publishing = is_publishing

    def transaction(self) -> AbstractAsyncContextManager[LimitTransaction]:
        """A transaction, committed when the block ends well."""
        return record_transaction(self._database, LimitTransaction, cause="limits")

    async def breaches(
        self, wanted: BreachFilter, *, size: int, after: Cursor | None, heads: Collection[Account]
    ) -> Snapshot[Page[Breach]]:
        """Breaches, the newest first."""
        place = (BREACH.opened_at, BREACH.account, BREACH.breach_id)
        statement = select(limit_breaches).where(*_conditions(wanted))
        if after is not None:
            statement = statement.where(tuple_(*place) < tuple_(*after))
        statement = statement.order_by(*(column.desc() for column in place)).limit(size + 1)
        async with self._database.core() as connection:
            rows = (await connection.execute(statement)).mappings().all()
            seen = (await connection.execute(HEADS, {"heads_of": list(heads)})).all()
        found = [breach_of_row(row) for row in rows]
        page = page_of(found, size=size, place=lambda each: (each.opened_at, str(each.account), each.breach_id))
        return Snapshot(page, dict(seen))

    async def watched_heads(self) -> Heads:
        """The heads of the accounts that have limits or open breaches; 0 for one that never wrote."""
        async with self._database.bare() as connection:
            return {Account(row["account"]): row["seq"] for row in await connection.fetch(_WATCHED_HEADS)}

    async def write_breaches(self, changes: BreachChanges) -> BreachChanges:
        """Writes what nobody else has written yet, in one transaction that steps the account's log and tells others of
        what begins; gives what was written."""
        async with record_transaction(self._database, BreachTransaction, cause="breach") as book:
            ended = await book.close(changes.closed) if changes.closed else []
            begun = await book.open(changes.opened, is_publishing=self._is_publishing) if changes.opened else []
        return BreachChanges(begun, ended)


def _conditions(wanted: BreachFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.accounts:
        conditions.append(BREACH.account.in_(wanted.accounts))
    if wanted.currency is not None:
        conditions.append(BREACH.currency == wanted.currency)
    if wanted.kind is not None:
        conditions.append(BREACH.kind == wanted.kind.value)
    if wanted.instrument is not None:
        conditions.append(BREACH.instrument == wanted.instrument)
    if wanted.is_open_only:
        conditions.append(BREACH.closed_at.is_(None))
    if wanted.opened_from is not None:
        conditions.append(BREACH.opened_at >= wanted.opened_from)
    if wanted.opened_before is not None:
        conditions.append(BREACH.opened_at < wanted.opened_before)
    return conditions
