"""Positions for many callers at a time, of which only those are fetched that have changed since they were last read.

Every question goes to the store: one statement tells the heads and, of each key, a stamp. The stamp names the stored
versions of all rows that a position is told from (position, instrument, account, mark, what the venue said), so equal
stamps mean equal rows, and rows of a stamp seen before need not be fetched, decoded and made objects of again. What
changed is fetched by a second statement, which is a snapshot of its own for the keys it answers. A page asks for the
stamps of its positions in the same way; there both statements stand in one transaction with one snapshot.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Text, bindparam, cast, func, literal_column, select

from steelyard.accounting.keys import Account, Book, InstrumentName, Leg, PositionKey
from steelyard.operations.position_view import Detail, PositionRow
from steelyard.operations.read_positions import Exposures, PositionFilter, PositionsRead
from steelyard.operations.reading import Cursor, Page, Snapshot
from steelyard.storage.compiled import NAMES, Compiled, Row, heads_of, heads_of_text
from steelyard.storage.database import Database
from steelyard.storage.portfolio_reads import EXPOSURES, exposure_of_text
from steelyard.storage.position_reads import PositionReads, key_arguments, listed, told_page, wanted_positions
from steelyard.storage.position_rows import CONTEXT, FULL, KEY_COLUMNS, joined, row_of
from steelyard.storage.tables import venue_reports

ROWS_MAX = 10_000
"""Rows kept, the least recently used forgotten first."""

_VERSION = "{0}.xmin::text || {0}.ctid::text"
"""The stored version of a row: who wrote it, and where it lies. Every update changes it."""
_SAID = (
    select(literal_column(_VERSION.format("venue_reports")))
    .select_from(venue_reports)
    .where(*(venue_reports.c[column.name] == column for column in KEY_COLUMNS))
    .scalar_subquery()
)
_JOINED: list[ColumnElement[str]] = [
    literal_column(_VERSION.format(name)) for name in ("positions", "instruments", "accounts", "marks")
]
_STAMP = func.concat_ws(",", *(func.coalesce(version, "-") for version in (*_JOINED, _SAID)), type_=Text).label("stamp")


def _exposures() -> Any:
    by_account = EXPOSURES.subquery()
    told = func.json_agg(func.json_build_array(*by_account.c))
    return select(cast(told, Text)).select_from(by_account).scalar_subquery().label("exposures")


def _statement(*columns: Any, is_full: bool) -> Compiled:
    heads = heads_of(bindparam("heads_of", type_=NAMES))
    start, place = wanted_positions()
    beside = (_exposures(),) if is_full else ()
    return Compiled(select(*columns, _STAMP, heads, *beside).select_from(joined(start)).order_by(place))


_STAMPS = {detail: _statement(is_full=detail is Detail.FULL) for detail in Detail}
_ROWS = {
    Detail.BASIC: _statement(*CONTEXT, is_full=False),
    Detail.FULL: _statement(*CONTEXT, *FULL, is_full=True),
}


class KnownPositions(PositionReads):
    """Fulfils the ports `batched_reads.ManyPositions` and `read_positions.PositionStore`."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._known: OrderedDict[tuple[PositionKey, Detail], tuple[str, PositionRow | None]] = OrderedDict()

    async def many(
        self, keys: Sequence[PositionKey], *, detail: Detail, heads: Collection[Account]
    ) -> Mapping[PositionKey, Snapshot[PositionsRead]]:
        """What is found of each key; equal rows are the same object as the last time."""
        found: dict[PositionKey, Snapshot[PositionsRead]] = {}
        known = sum((key, detail) in self._known for key in keys)
        changed = keys
        if 2 * known >= len(keys):
            rows = await self._fetch(_STAMPS[detail], keys, heads=heads)
            found = self._told(keys, rows, detail=detail)
            changed = [key for key in keys if key not in found]
        if changed:
            rows = await self._fetch(_ROWS[detail], changed, heads=heads)
            for key, row in zip(changed, rows, strict=True):
                there = None if row["account"] is None else row_of(row, has_trip=detail is Detail.FULL)
                self._keep((key, detail), stamp=row["stamp"], row=there)
            found.update(self._told(changed, rows, detail=detail))
        return found

    async def page(
        self,
        wanted: PositionFilter,
        *,
        size: int,
        after: Cursor | None,
        detail: Detail,
        heads: Collection[Account],
    ) -> Snapshot[tuple[Page[PositionRow], Exposures]]:
        """A page of positions in key order, all of one snapshot."""
        statement = listed(*KEY_COLUMNS, _STAMP, wanted=wanted, size=size, after=after)
        async with self._database.core() as connection:
            found = [(_key(names), stamp) for *names, stamp in (await connection.execute(statement)).all()]
            rows = {key: self._row_of(key, detail, stamp=stamp) for key, stamp in found}
            if changed := [key for key, row in rows.items() if row is None]:
                # The bare connection stands in the transaction that the first statement began.
                raw: Any = (await connection.get_raw_connection()).driver_connection
                arguments = key_arguments(_ROWS[detail], changed, heads=())
                for key, row in zip(changed, await raw.fetch(_ROWS[detail].text, *arguments), strict=True):
                    there = rows[key] = row_of(row, has_trip=detail is Detail.FULL)
                    self._keep((key, detail), stamp=row["stamp"], row=there)
            told = [row for row in rows.values() if row is not None]
            return await told_page(connection, told, size=size, detail=detail, heads=heads)

    def _row_of(self, key: PositionKey, detail: Detail, *, stamp: str) -> PositionRow | None:
        """The row of a stamp, where it is known."""
        known = self._known.get((key, detail))
        if known is None or known[0] != stamp:
            return None
        self._known.move_to_end((key, detail))
        return known[1]

    async def _fetch(
        self, statement: Compiled, keys: Sequence[PositionKey], *, heads: Collection[Account]
    ) -> Sequence[Row]:
        async with self._database.keyed() as connection:
            rows: Sequence[Row] = await connection.fetch(statement.text, *key_arguments(statement, keys, heads=heads))
        return rows

    def _told(
        self, keys: Iterable[PositionKey], rows: Sequence[Row], *, detail: Detail
    ) -> dict[PositionKey, Snapshot[PositionsRead]]:
        """Those whose stamp is known, in the snapshot of these rows."""
        heads = heads_of_text(rows[0]["heads"])
        exposures = _exposures_of(rows[0]["exposures"]) if detail is Detail.FULL else {}
        found = {}
        for key, row in zip(keys, rows, strict=True):
            known = self._known.get((key, detail))
            if known is not None and known[0] == row["stamp"]:
                self._known.move_to_end((key, detail))
                there = [] if known[1] is None else [known[1]]
                found[key] = Snapshot(PositionsRead(there, exposures), heads)
        return found

    def _keep(self, place: tuple[PositionKey, Detail], *, stamp: str, row: PositionRow | None) -> None:
        self._known[place] = (stamp, row)
        self._known.move_to_end(place)
        if len(self._known) > ROWS_MAX:
            self._known.popitem(last=False)


def _key(names: Sequence[str]) -> PositionKey:
    account, book, instrument, leg = names
    return PositionKey(Account(account), Book(book), InstrumentName(instrument), Leg(leg))


def _exposures_of(text: str | None) -> Exposures:
    rows = json.loads(text) if text else ()
    return {(account, currency): exposure_of_text(gross, currency) for account, currency, gross in rows}
