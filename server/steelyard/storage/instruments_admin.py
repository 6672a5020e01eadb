"""Records of instruments as they are kept, listed and changed."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from steelyard.accounting.instruments import Instrument
from steelyard.accounting.keys import InstrumentName, root_of
from steelyard.operations.keep_instruments import InstrumentRecord
from steelyard.operations.reading import Cursor, Page, page_of
from steelyard.storage.database import Database
from steelyard.storage.instruments import instrument_of_row
from steelyard.storage.record_writes import RecordTransaction, record_transaction

# Every stored entry has its key in `positions` or, not folded yet, in `stale_keys`.
_RECORDS = """
WITH used AS (SELECT DISTINCT instrument FROM positions UNION SELECT DISTINCT instrument FROM stale_keys)
SELECT i.*, EXISTS (
    SELECT FROM used u
    WHERE u.instrument = i.instrument OR (i.is_root AND split_part(u.instrument, ' ', 1) = i.instrument)
) AS has_fills
FROM instruments i
"""
_BY_NAMES = _RECORDS + "WHERE i.instrument = ANY($1::text[])"
_PAGE = (
    _RECORDS
    + """
WHERE i.instrument > $1 AND starts_with(i.instrument, $2) AND ($3::text IS NULL OR i.settle_currency = $3)
ORDER BY i.instrument LIMIT $4
"""
)
_WRITE = """
INSERT INTO instruments AS i (instrument, kind, multiplier, quote_currency, settle_currency, price_rule, is_root)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (instrument) DO UPDATE
    SET kind = excluded.kind, multiplier = excluded.multiplier, quote_currency = excluded.quote_currency,
        settle_currency = excluded.settle_currency, price_rule = excluded.price_rule, is_root = excluded.is_root,
        version = i.version + 1, updated_at = now()
RETURNING *, false AS has_fills
"""
_HAND_ON = """
UPDATE instruments
    SET kind = $2, multiplier = $3, quote_currency = $4, settle_currency = $5, version = version + 1,
        updated_at = now()
WHERE split_part(instrument, ' ', 1) = $1 AND instrument <> $1
    AND (kind, multiplier, quote_currency, settle_currency) = ($6, $7, $8, $9)
RETURNING instrument
"""


class InstrumentTransaction(RecordTransaction):
    """Fulfils the port `keep_instruments.InstrumentWrites`."""

    async def locked(self, name: InstrumentName) -> InstrumentRecord | None:
        """The record, locked until the commit."""
        await self.lock("instrument", name)
        row = await self.connection.fetchrow(_BY_NAMES, [name])
        return None if row is None else record_of_row(row)

    async def write(self, instrument: Instrument) -> InstrumentRecord:
        """Makes the record, or replaces it under the next version."""
        row = await self.connection.fetchrow(
            _WRITE, instrument.name, *_meaning(instrument), instrument.price_rule.value, instrument.is_root
        )
        return record_of_row(row)

    async def rebuild(self, instrument: Instrument, *, before: Instrument) -> None:
        """Marks all keys of the instrument, and of contracts that took its record over, to be folded again."""
        names = [str(instrument.name)]
        if before.is_root and instrument.is_root:
            rows = await self.connection.fetch(_HAND_ON, instrument.name, *_meaning(instrument), *_meaning(before))
            names += [row["instrument"] for row in rows]
        await self.refold_instruments(names)


class InstrumentRecords:
    """Fulfils the port `keep_instruments.InstrumentStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def transaction(self) -> AbstractAsyncContextManager[InstrumentTransaction]:
        """A transaction, committed when the block ends well."""
        return record_transaction(self._database, InstrumentTransaction, cause="instrument")

    async def find(self, name: InstrumentName) -> InstrumentRecord | None:
        """The record, or what a contract takes from its root."""
        root = InstrumentName(root_of(name))
        async with self._database.bare() as connection:
            rows = await connection.fetch(_BY_NAMES, [name, root])
        found = {record.instrument.name: record for record in map(record_of_row, rows)}
        if name in found:
            return found[name]
        above = found.get(root)
        if above is None or not above.instrument.is_root:
            return None
        return InstrumentRecord(
            instrument=above.instrument.contract(name),
            version=0,
            created_at=above.created_at,
            updated_at=above.updated_at,
        )

    async def page(
        self, *, prefix: str, settle_currency: str | None, size: int, after: Cursor | None
    ) -> Page[InstrumentRecord]:
        """Records by name."""
        start = "" if after is None else after[0]
        async with self._database.bare() as connection:
            rows = await connection.fetch(_PAGE, start, prefix, settle_currency, size + 1)
        records = [record_of_row(row) for row in rows]
        return page_of(records, size=size, place=lambda record: (str(record.instrument.name),))


def _meaning(instrument: Instrument) -> tuple[Any, ...]:
    return (
        instrument.kind.value,
        instrument.multiplier,
        instrument.quote_currency,
        instrument.settle_currency,
    )


def record_of_row(row: Any) -> InstrumentRecord:
    """The record in a row of `instruments` with `has_fills` beside it."""
    return InstrumentRecord(
        instrument=instrument_of_row(row),
        has_fills=row["has_fills"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
