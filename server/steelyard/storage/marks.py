"""Marks: the latest price of each instrument; a newer price time replaces an older one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from steelyard.accounting.instruments import Instrument
from steelyard.accounting.keys import InstrumentName, root_of
from steelyard.accounting.marks import Mark
from steelyard.operations.reading import Cursor, Page, page_of
from steelyard.storage.database import Database
from steelyard.storage.instruments import instrument_of_row

_INSTRUMENTS = """
SELECT instrument, kind, multiplier, quote_currency, settle_currency, price_rule, is_root
FROM instruments WHERE instrument = ANY($1::text[])
"""
_KEEP = """
INSERT INTO marks AS m (instrument, price, marked_at, source)
SELECT * FROM unnest($1::text[], $2::numeric[], $3::timestamptz[], $4::text[])
    AS n(instrument, price, marked_at, source)
ORDER BY instrument
ON CONFLICT (instrument) DO UPDATE
    SET price = excluded.price, marked_at = excluded.marked_at, source = excluded.source, recorded_at = now()
    WHERE excluded.marked_at > m.marked_at
RETURNING instrument
"""
_ALL = """
SELECT instrument, price, marked_at, source FROM marks WHERE instrument > $1 ORDER BY instrument LIMIT $2
"""
_NAMED = """
SELECT n.instrument, m.price, m.marked_at, m.source
FROM unnest($3::text[]) AS n(instrument) LEFT JOIN marks m USING (instrument)
WHERE n.instrument COLLATE "C" > $1 ORDER BY n.instrument COLLATE "C" LIMIT $2
"""
_NEWER = """
SELECT m.instrument, m.price, m.marked_at, m.source
FROM unnest($1::text[], $2::timestamptz[]) AS known(instrument, marked_at) JOIN marks m USING (instrument)
WHERE known.marked_at IS NULL OR m.marked_at > known.marked_at
"""


class MarkTable:
    """Fulfils the ports `apply_marks.MarkStore` and `mark_tail.NewerMarks`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def instruments(self, names: Collection[InstrumentName]) -> Mapping[InstrumentName, Instrument]:
        """Records of instruments; a contract without one has its root's. Unknown ones are left out."""
        wanted = sorted({*names, *(InstrumentName(root_of(name)) for name in names)})
        async with self._database.bare() as connection:
            rows = await connection.fetch(_INSTRUMENTS, wanted)
        records = {record.name: record for record in map(instrument_of_row, rows)}
        found = {}
        for name in names:
            record, root = records.get(name), records.get(InstrumentName(root_of(name)))
            if record is not None and not record.is_root:
                found[name] = record
            elif root is not None and root.is_root and root.name != name:
                found[name] = root.contract(name)
        return found

    async def keep(self, marks: Mapping[InstrumentName, Mark]) -> int:
        """Keeps those that are newer than what is known; says how many."""
        async with self._database.write() as connection:
            kept = await connection.fetch(
                _KEEP,
                list(marks),
                [mark.price for mark in marks.values()],
                [mark.at for mark in marks.values()],
                [mark.source for mark in marks.values()],
            )
        return len(kept)

    async def newer(self, known: Mapping[InstrumentName, datetime | None]) -> Mapping[InstrumentName, Mark]:
        """The marks of instruments whose price time is after the one given; None: any mark is newer."""
        async with self._database.bare() as connection:
            rows = await connection.fetch(_NEWER, list(known), list(known.values()))
        return {InstrumentName(row["instrument"]): Mark(row["price"], row["marked_at"], row["source"]) for row in rows}

    async def page(
        self, names: Sequence[InstrumentName], *, size: int, after: Cursor | None
    ) -> Page[tuple[InstrumentName, Mark | None]]:
        """Prices by instrument: those of `names`, also where there is none; without names all there are."""
        start = "" if after is None else after[0]
        async with self._database.bare() as connection:
            if names:
                rows = await connection.fetch(_NAMED, start, size + 1, sorted(set(names)))
            else:
                rows = await connection.fetch(_ALL, start, size + 1)
        found = [
            (
                InstrumentName(row["instrument"]),
                None if row["price"] is None else Mark(row["price"], row["marked_at"], row["source"]),
            )
            for row in rows
        ]
        return page_of(found, size=size, place=lambda each: (each[0],))
