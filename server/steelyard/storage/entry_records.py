"""Entries as the driver's own rows: unpacked by the fold like an `Entry`, with its names for those who ask by name.

A rebuild reads millions of entries. Making an object of each costs as much as folding it, so the driver makes its row
an entry at once. Quantities, prices and fees repeat, so a number that was read before is not parsed again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import cast

import asyncpg

from steelyard.accounting.entries import Entry
from steelyard.accounting.keys import OrderKey, PositionKey
from steelyard.storage.database import Connection
from steelyard.storage.fills import ENTRY_BATCH, entries_statement

NUMBERS_MAX = 50_000
"""Distinct texts of numbers that are remembered; then it starts anew."""


class KnownNumbers(dict[str, Decimal]):
    """Numbers by their texts."""

    def __missing__(self, text: str) -> Decimal:
        if len(self) >= NUMBERS_MAX:
            self.clear()
        number = self[text] = Decimal(text)
        return number


async def remember_numbers(connection: Connection) -> None:
    """Lets a connection read numbers through a memory of its own."""
    await connection.set_type_codec(
        "numeric", schema="pg_catalog", encoder=str, decoder=KnownNumbers().__getitem__, format="text"
    )


async def forget_numbers(connection: Connection) -> None:
    """Gives a connection back as it was."""
    await connection.reset_type_codec("numeric", schema="pg_catalog")


class EntryRecord(asyncpg.Record):  # type: ignore[misc]  # the driver is untyped
    """A row of entries, which reads like an `Entry`."""

    @property
    def executed_at(self) -> datetime:
        return cast(datetime, self[0])

    @property
    def source_sequence(self) -> int:
        return cast(int, self[1])

    @property
    def entry_id(self) -> str:
        return cast(str, self[2])

    @property
    def kind(self) -> str:
        return cast(str, self[3])

    @property
    def quantity(self) -> Decimal | None:
        return cast("Decimal | None", self[4])

    @property
    def price(self) -> Decimal | None:
        return cast("Decimal | None", self[5])

    @property
    def fee(self) -> Decimal:
        return cast(Decimal, self[6])

    @property
    def unvalued_currency(self) -> str | None:
        return cast("str | None", self[7])

    @property
    def unvalued_fee(self) -> Decimal | None:
        return cast("Decimal | None", self[8])

    @property
    def order(self) -> OrderKey:
        """The entry's place in the fold."""
        return OrderKey(self[0], self[1], self[2])


async def read_entry_records(
    connection: Connection, key: PositionKey, *, start: OrderKey | None, inclusive: bool, end: OrderKey | None = None
) -> AsyncIterator[Sequence[Entry]]:
    """Live entries of a key in fold order, in batches."""
    statement = entries_statement(start=None if start is None else ">=" if inclusive else ">", has_end=end is not None)
    cursor = await connection.cursor(statement, *key, *(start or ()), *(end or ()), record_class=EntryRecord)
    while batch := await cursor.fetch(ENTRY_BATCH):
        yield cast("Sequence[Entry]", batch)
