"""The tables that questions are built on are the tables that the migrations make."""

from typing import Any

import asyncpg
from sqlalchemy import Column
from sqlalchemy.dialects import postgresql

from steelyard.storage import history_tables
from steelyard.storage.tables import Amount, KeyText, Total, metadata

COLUMNS = """
SELECT c.relname AS "table", a.attname AS "column", format_type(a.atttypid, a.atttypmod) AS type,
       a.attnotnull AS required,
       coalesce(array_position((SELECT indkey::int[] FROM pg_index WHERE indrelid = c.oid AND indisprimary),
                               a.attnum::int) IS NOT NULL, false) AS in_key
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
ORDER BY c.relname, a.attnum
"""
assert history_tables.position_snapshots.metadata is metadata
KEYS = """
SELECT c.relname AS "table", array_agg(a.attname::text ORDER BY k.place) AS columns
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, place)
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
WHERE i.indisprimary AND c.relnamespace = 'public'::regnamespace
GROUP BY c.relname
"""


def type_name(column: Column[Any]) -> str:
    domains = {Amount: "amount", Total: "total", KeyText: "key_text"}
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call] # SQLAlchemy leaves it untyped
    return domains.get(type(column.type)) or str(column.type.compile(dialect=dialect)).lower()


async def test_every_mirrored_table_has_the_columns_types_and_keys_of_the_migrated_one(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    columns = await connection.fetch(COLUMNS)
    keys = {row["table"]: row["columns"] for row in await connection.fetch(KEYS)}
    await connection.close()
    for name, table in metadata.tables.items():
        stored = [(row["column"], row["type"], row["required"]) for row in columns if row["table"] == name]
        mirrored = [(column.name, type_name(column), not column.nullable) for column in table.columns]
        assert mirrored == stored, name
        assert [column.name for column in table.primary_key.columns] == keys[name], name


async def test_only_the_tables_of_imports_builds_and_the_task_engine_are_not_mirrored(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') "
        "AND NOT relispartition"
    )
    await connection.close()
    others = {row["relname"] for row in rows} - set(metadata.tables)
    strangers = {name for name in others if not name.startswith(("procrastinate", "import", "build", "alembic"))}
    assert strangers == set()
