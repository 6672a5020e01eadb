"""Completed round trips as performance counts them: sums made by the database, by the index on closing time."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, case, func, lateral, select, true

from steelyard.accounting.keys import Account
from steelyard.accounting.performance import Performance, performance_of_sums
from steelyard.accounting.round_trips import CostMethod
from steelyard.operations.read_performance import PerformanceFilter
from steelyard.operations.reading import Snapshot
from steelyard.storage.database import Database
from steelyard.storage.tables import accounts, instruments, round_trips
from steelyard.storage.trip_reads import heads_in

T, RECORD, RULES = round_trips.c, instruments.c, accounts.c

_by_lots = RULES.cost_method == CostMethod.LOTS.value
_RESULT = lateral(
    select(
        case((_by_lots, T.gross_lots), else_=T.gross_average).label("gross"),
        (case((_by_lots, T.gross_lots), else_=T.gross_average) - T.fees + T.funding).label("net"),
    ).correlate(round_trips, accounts),
    name="result",
).c


class PerformanceReads:
    """Fulfils the port `read_performance.PerformanceStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def day_rule_of(self, account: Account) -> Mapping[str, str] | None:
        """The day rule in an account's record; None for an unknown account."""
        async with self._database.bare() as connection:
            text = await connection.fetchval("SELECT day_rule FROM accounts WHERE account = $1", account)
        return None if text is None else json.loads(text)

    async def completed(
        self, wanted: PerformanceFilter, *, closed_from: datetime, closed_before: datetime, heads: Collection[Account]
    ) -> Snapshot[Mapping[str, Performance]]:
        """The figures of the trips that closed in [closed_from, closed_before), by settle currency, sorted."""
        statement = _SUMS.where(T.closed_at >= closed_from, T.closed_at < closed_before, *_conditions(wanted))
        async with self._database.core() as connection:
            rows = (await connection.execute(statement)).mappings().all()
            seen = await heads_in(connection, heads)
        return Snapshot({row["settle_currency"]: performance_of_sums(**_figures(row)) for row in rows}, seen)


_SUMS = (
    select(
        RECORD.settle_currency,
        func.count().label("total"),
        func.count().filter(_RESULT.net > 0).label("winning"),
        func.count().filter(_RESULT.net < 0).label("losing"),
        func.sum(_RESULT.net).label("net"),
        func.sum(_RESULT.gross).label("gross"),
        func.sum(T.fees).label("fees"),
        func.bool_and(T.unvalued_fees.is_(None)).label("fees_complete"),
    )
    .select_from(
        # Joined from the accounts on: their index by closing time serves a question about all of them, too.
        accounts.join(round_trips, T.account == RULES.account)
        .join(instruments, RECORD.instrument == T.instrument)
        .join(_RESULT.net.table, true())
    )
    .group_by(RECORD.settle_currency)
    .order_by(RECORD.settle_currency)
)


def _conditions(wanted: PerformanceFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.accounts:
        conditions.append(RULES.account.in_(wanted.accounts))
    if wanted.book is not None:
        conditions.append(T.book == wanted.book)
    if wanted.instrument is not None:
        conditions.append(T.instrument == wanted.instrument)
    return conditions


def _figures(row: Any) -> dict[str, Any]:
    figures = {name: row[name] for name in ("total", "winning", "losing", "net", "gross", "fees", "fees_complete")}
    return {"currency": row["settle_currency"], **figures}
