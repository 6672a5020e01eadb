"""What positions add up to: the rows of a portfolio, and gross exposure per account and settle currency."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Text, bindparam, cast, func, select

from steelyard.accounting.instruments import Instrument, InstrumentKind, notional
from steelyard.accounting.keys import Account, InstrumentName
from steelyard.accounting.units import ZERO, exactly
from steelyard.operations.read_positions import Exposures
from steelyard.storage.compiled import NAMES, Compiled
from steelyard.storage.database import Connection
from steelyard.storage.position_rows import HELD, MARK, RECORD, P, joined
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
