"""Positions as questions read them: joined with instrument, account and mark, in one statement of one snapshot."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, Text, and_, bindparam, func, select, tuple_, type_coerce
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.selectable import TableValuedAlias

from steelyard.accounting.keys import Account, PositionKey
from steelyard.operations.position_view import Detail, PositionRow
from steelyard.operations.read_positions import Exposures, PositionFilter, PositionSide, PositionsRead
from steelyard.operations.reading import Cursor, Page, Snapshot, page_of
from steelyard.storage.compiled import HEADS, NAMES, Compiled, Row, heads_of, heads_of_text
from steelyard.storage.database import Database
from steelyard.storage.portfolio_reads import (
    EXPOSURES,
    exposure_beside,
    exposure_of_text,
    exposures_of_rows,
    read_exposures,
)
from steelyard.storage.position_rows import CONTEXT, FULL, HELD, KEY_COLUMNS, P, joined, row_of
from steelyard.storage.tables import positions


def _wanted_keys() -> TableValuedAlias:
    names = ("account", "book", "instrument", "leg")
    arrays = (bindparam(f"{name}s", type_=NAMES) for name in names)
    return func.unnest(*arrays).table_valued(*names, with_ordinality="place").render_derived("wanted")


def wanted_positions() -> tuple[FromClause, ColumnElement[Any]]:
    """The positions of keys given as arrays (`key_arguments`), nulls for those that do not exist, and their order."""
    wanted = _wanted_keys()
    matches = and_(*(column == type_coerce(wanted.c[column.name], Text) for column in KEY_COLUMNS))
    return wanted.outerjoin(positions, matches), wanted.c.place


def _by_keys(*extra: ColumnElement[Any]) -> Compiled:
    start, place = wanted_positions()
    heads = heads_of(bindparam("heads_of", type_=NAMES))
    return Compiled(select(*CONTEXT, *extra, heads).select_from(joined(start)).order_by(place))


_BASIC = _by_keys()
_FULL = _by_keys(*FULL)
_ONE_FULL = _by_keys(*FULL, exposure_beside())


class PositionReads:
    """Fulfils the port `read_positions.PositionStore`, positions themselves."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def position(
        self, key: PositionKey, *, detail: Detail, heads: Collection[Account]
    ) -> Snapshot[PositionsRead]:
        """One position, in a single statement."""
        is_full = detail is Detail.FULL
        statement = _ONE_FULL if is_full else _BASIC
        async with self._database.bare() as connection:
            rows = await connection.fetch(statement.text, *key_arguments(statement, [key], heads=heads))
        exposures: Exposures = {}
        if is_full and rows[0]["account"] is not None:
            currency = rows[0]["settle_currency"]
            exposures = {(key.account, currency): exposure_of_text(rows[0]["gross_exposure"], currency)}
        return _batch(rows, exposures, has_trip=is_full)

    async def batch(
        self, keys: Sequence[PositionKey], *, detail: Detail, heads: Collection[Account]
    ) -> Snapshot[PositionsRead]:
        """Positions by their keys in the order of these; those that do not exist are left out."""
        is_full = detail is Detail.FULL
        statement = _FULL if is_full else _BASIC
        async with self._database.read() as connection:
            rows = await connection.fetch(statement.text, *key_arguments(statement, keys, heads=heads))
            exposures = await read_exposures(connection, {key.account for key in keys}) if is_full else {}
        return _batch(rows, exposures, has_trip=is_full)

    async def page(
        self,
        wanted: PositionFilter,
        *,
        size: int,
        after: Cursor | None,
        detail: Detail,
        heads: Collection[Account],
    ) -> Snapshot[tuple[Page[PositionRow], Exposures]]:
        """A page of positions in key order."""
        is_full = detail is Detail.FULL
        statement = listed(*CONTEXT, *(FULL if is_full else ()), wanted=wanted, size=size, after=after)
        async with self._database.core() as connection:
            found = (await connection.execute(statement)).mappings().all()
            rows = [row_of(row, has_trip=is_full) for row in found]
            return await told_page(connection, rows, size=size, detail=detail, heads=heads)


def listed(*columns: Any, wanted: PositionFilter, size: int, after: Cursor | None) -> Select[Any]:
    """Columns of the positions of a page in key order, and of the one behind it."""
    statement = filtered(select(*columns).select_from(joined()), wanted)
    if after is not None:
        statement = statement.where(tuple_(*KEY_COLUMNS) > tuple_(*after))
    return statement.order_by(*KEY_COLUMNS).limit(size + 1)


async def told_page(
    connection: AsyncConnection, rows: Sequence[PositionRow], *, size: int, detail: Detail, heads: Collection[Account]
) -> Snapshot[tuple[Page[PositionRow], Exposures]]:
    """The page that rows of `listed` make, with what this snapshot knows beside them."""
    seen = (await connection.execute(HEADS, {"heads_of": list(heads)})).all()
    names = sorted({row.key.account for row in rows})
    exposures: Exposures = {}
    if detail is Detail.FULL and names:
        gathered = await connection.execute(EXPOSURES, {"accounts": names})
        exposures = exposures_of_rows(gathered.mappings().all())
    page = page_of(rows, size=size, place=lambda row: tuple(map(str, row.key)))
    return Snapshot((page, exposures), dict(seen))


def filtered(statement: Select[Any], wanted: PositionFilter) -> Select[Any]:
    """The statement with the conditions of a filter."""
    conditions: list[ColumnElement[bool]] = []
    if wanted.accounts:
        conditions.append(P.account.in_(wanted.accounts))
    if wanted.book is not None:
        conditions.append(P.book == wanted.book)
    if wanted.instruments:
        conditions.append(P.instrument.in_(wanted.instruments))
    if wanted.legs:
        conditions.append(P.leg.in_([leg.value for leg in wanted.legs]))
    if wanted.side is not None:
        conditions.append(
            {PositionSide.LONG: HELD > 0, PositionSide.SHORT: HELD < 0, PositionSide.FLAT: HELD == 0}[wanted.side]
        )
    if wanted.size_min is not None:
        conditions.append(func.abs(HELD) >= wanted.size_min)
    if wanted.size_max is not None:
        conditions.append(func.abs(HELD) <= wanted.size_max)
    if wanted.is_open_only:
        conditions.append(HELD != 0)
    if wanted.labels:
        conditions.append(P.labels.contains(dict(wanted.labels)))
    return statement.where(*conditions)


def key_arguments(statement: Compiled, keys: Sequence[PositionKey], *, heads: Collection[Account]) -> list[Any]:
    """What a statement on `wanted_positions` takes."""
    columns = zip(*keys, strict=True)
    names, books, traded, legs = (list(column) for column in columns)
    return statement.arguments(
        accounts=names, books=books, instruments=traded, legs=[str(leg) for leg in legs], heads_of=list(heads)
    )


def _batch(rows: Sequence[Row], exposures: Exposures, *, has_trip: bool) -> Snapshot[PositionsRead]:
    found = [row_of(row, has_trip=has_trip) for row in rows if row["account"] is not None]
    return Snapshot(PositionsRead(found, exposures), heads_of_text(rows[0]["heads"]))
