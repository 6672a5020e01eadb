"""Arrays as text: whatever a row holds, PostgreSQL reads the same."""

import random
import uuid
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from steelyard.storage.bulk import Columns, arrays, unnested

COLUMNS: Columns = (
    ("name", "text"),
    ("told", "jsonb"),
    ("digest", "bytea"),
    ("amount", "numeric"),
    ("count", "int8"),
    ("at", "timestamptz"),
    ("is_open", "bool"),
    ("id", "uuid"),
)
NAMES = ("", " ", "NULL", "null", "None", '"', '""', "\\", 'a"b\\c', "{,}", "a,b", "ÄÖ\u2028€", "\n\t", "plain", "'")
TOLD = ("null", '"NULL"', '{"a": "\\\\\\""}', "[1, 2]", '"{}"')
TIMES = (
    datetime(2025, 6, 20, 13, 0, 0, 5, tzinfo=UTC),
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2025, 6, 20, 13, tzinfo=timezone(timedelta(hours=-5, minutes=-30))),
    datetime(2024, 2, 29, tzinfo=timezone.utc),  # noqa: UP017 - the other name of the same zone
)


def rows_of(chance: random.Random, size: int, *, emptiness: float) -> list[tuple[Any, ...]]:
    def or_none(value: Any) -> Any:
        return None if chance.random() < emptiness else value

    return [
        tuple(
            or_none(value)
            for value in (
                chance.choice(NAMES),
                chance.choice(TOLD),
                chance.randbytes(chance.randint(0, 3)),
                Decimal(chance.choice(("0", "-0.50", "1E+3", "99999999999999999999.000000000000000001"))),
                chance.randint(-(2**63), 2**63 - 1),
                chance.choice(TIMES),
                chance.random() < 0.5,
                uuid.UUID(int=chance.getrandbits(128)),
            )
        )
        for _ in range(size)
    ]


@pytest.fixture
async def connection(database_url: str) -> Any:
    opened = await asyncpg.connect(database_url)
    yield opened
    await opened.close()


@pytest.mark.parametrize("emptiness", [0, 0.1, 1])
async def test_rows_come_out_as_they_went_in(connection: asyncpg.Connection, emptiness: float) -> None:
    chance = random.Random(7)
    for size in (1, 2, 3, 40, 400):
        rows = rows_of(chance, size, emptiness=emptiness)
        found = await connection.fetch(f"SELECT n.* FROM {unnested(COLUMNS)}", *arrays(rows, COLUMNS))
        assert [normal(row) for row in found] == [normal(row) for row in rows]
        for row, had in zip(found, rows, strict=True):
            # Equal numbers are not the same text: trailing zeros stay.
            assert format(row["amount"] or 0, "f") == format(had[3] or 0, "f")


def normal(row: Any) -> tuple[Any, ...]:
    name, told, *others = row
    return (name, None if told is None else told.replace(" ", ""), *others)


async def test_no_rows_are_empty_arrays(connection: asyncpg.Connection) -> None:
    assert await connection.fetch(f"SELECT n.* FROM {unnested(COLUMNS)}", *arrays([], COLUMNS)) == []
