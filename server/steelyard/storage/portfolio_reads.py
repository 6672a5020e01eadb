"""What positions add up to: the rows of a portfolio, and gross exposure per account and settle currency."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Text, bindparam, cast, func, select

from steelyard.accounting.instruments import Instrument, InstrumentKind, notional
from steelyard.accounting.keys import Account, InstrumentName
from steelyard.accounting.units import ZERO, exactly
from steelyard.operations.position_view import Detail
from steelyard.operations.read_portfolio import PortfolioRead
from steelyard.operations.read_positions import Exposures
from steelyard.operations.reading import Snapshot
from steelyard.storage.account_log import read_heads
from steelyard.storage.compiled import NAMES, Compiled
from steelyard.storage.database import Connection, Database
from steelyard.storage.position_rows import CONTEXT, FULL, HELD, KEY_COLUMNS, MARK, RECORD, P, joined, row_of
from steelyard.storage.tables import instruments, marks, positions


def _exposure_of(held: ColumnElement[Any], *, record: Any, price: ColumnElement[Any]) -> ColumnElement[Any]:
    """JSON text: [sum of |notional| of linear positions, [[quantity, multiplier, price] of each inverse one]]."""
    is_linear = record.kind == InstrumentKind.LINEAR.value
    linear = func.sum(func.abs(held * record.multiplier * price)).filter(is_linear)
    inverse = func.jsonb_agg(
        func.jsonb_build_array(cast(held, Text), cast(record.multiplier, Text), cast(price, Text))
    ).filter(~is_linear)
    return cast(func.jsonb_build_array(cast(linear, Text), inverse), Text)


def exposure_beside() -> ColumnElement[Any]:
    """The gross exposure of the account and settle currency of the position beside it."""
    other, record, mark = positions.alias("other"), instruments.alias("other_record"), marks.alias("other_mark")
    held = other.c.quantity + other.c.pending_quantity
    open_and_marked = other.join(record, record.c.instrument == other.c.instrument).join(
        mark, mark.c.instrument == other.c.instrument
    )
    return (
        select(_exposure_of(held, record=record.c, price=mark.c.price))
        .select_from(open_and_marked)
        .where(other.c.account == P.account, held != 0, record.c.settle_currency == RECORD.settle_currency)
        .correlate(positions, instruments)
        .scalar_subquery()
        .label("gross_exposure")
    )


EXPOSURES = (
    select(
        P.account, RECORD.settle_currency, _exposure_of(HELD, record=RECORD, price=MARK.price).label("gross_exposure")
    )
    .select_from(joined())
    .where(P.account == func.any(bindparam("accounts", type_=NAMES)), HELD != 0, MARK.price.is_not(None))
    .group_by(P.account, RECORD.settle_currency)
)
"""The gross exposure of `accounts` per settle currency."""
_EXPOSURES = Compiled(EXPOSURES)


async def read_exposures(connection: Connection, names: Collection[Account]) -> Exposures:
    """The gross exposure of accounts per settle currency."""
    rows = await connection.fetch(_EXPOSURES.text, *_EXPOSURES.arguments(accounts=sorted(names)))
    return exposures_of_rows(rows)


def exposures_of_rows(rows: Iterable[Any]) -> Exposures:
    return {
        (Account(row["account"]), row["settle_currency"]): exposure_of_text(
            row["gross_exposure"], row["settle_currency"]
        )
        for row in rows
    }


@exactly
def exposure_of_text(text: str | None, currency: str) -> Decimal:
    if text is None:
        return ZERO
    linear, inverse = json.loads(text)
    total = Decimal(linear) if linear else ZERO
    for quantity, multiplier, price in inverse or ():
        record = Instrument(InstrumentName("INVERSE"), InstrumentKind.INVERSE, Decimal(multiplier), currency, currency)
        total += abs(notional(record, Decimal(quantity), Decimal(price)))
    return total


def _portfolio(*extra: ColumnElement[Any], is_filtered_by_account: bool, is_filtered_by_instrument: bool) -> Compiled:
    statement = select(*CONTEXT, *extra).select_from(joined())
    if is_filtered_by_account:
        statement = statement.where(P.account == func.any(bindparam("accounts", type_=NAMES)))
    if is_filtered_by_instrument:
        statement = statement.where(P.instrument == func.any(bindparam("instruments", type_=NAMES)))
    return Compiled(statement.order_by(*KEY_COLUMNS))


PORTFOLIOS = {
    (has_trip, by_account, by_instrument): _portfolio(
        *(FULL if has_trip else ()), is_filtered_by_account=by_account, is_filtered_by_instrument=by_instrument
    )
    for has_trip in (False, True)
    for by_account in (False, True)
    for by_instrument in (False, True)
}


class PortfolioReads:
    """Fulfils the port `read_portfolio.PortfolioStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def portfolio(
        self,
        accounts: Sequence[Account],
        instruments: Sequence[InstrumentName],
        *,
        detail: Detail,
        heads: Collection[Account],
    ) -> Snapshot[PortfolioRead]:
        """All positions of accounts (none: of all) in instruments (none: in all), in key order."""
        is_full = detail is Detail.FULL
        statement = PORTFOLIOS[is_full, bool(accounts), bool(instruments)]
        arguments = statement.arguments(accounts=list(accounts), instruments=list(instruments))
        exposures: Exposures = {}
        async with self._database.read() as connection:
            found = await connection.fetch(statement.text, *arguments)
            rows = [row_of(row, has_trip=is_full) for row in found]
            seen = await read_heads(connection, heads)
            if is_full and rows:
                exposures = await read_exposures(connection, {row.key.account for row in rows})
        return Snapshot(PortfolioRead(rows, exposures), {Account(account): seq for account, seq in seen.items()})
