"""Statements over many rows at once: every column goes as one array, so a round trip serves a whole batch.

The statements are made once, at import, from lists of (column, type); no value is ever put into SQL text. An array
travels as one text, `{1,2,NULL}`, which PostgreSQL reads: that is as exact, and the driver's own form of an array looks
at each of its values several times, which for a recorded fill took longer than everything else done with it here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

Columns = Sequence[tuple[str, str]]
"""(column, PostgreSQL type) in the order of the values of a row."""


def arrays(rows: Iterable[Sequence[Any]], columns: Columns) -> list[str]:
    """Rows turned into one array per column, in the form that the statements made here take them."""
    turned: Iterable[Sequence[Any]] = zip(*rows, strict=True)
    found = [_array(values, kind=kind) for (_, kind), values in zip(columns, turned, strict=False)]
    return found or ["{}"] * len(columns)


def _array(values: Sequence[Any], *, kind: str) -> str:
    """An array as PostgreSQL writes it."""
    cells = _CELLS.get(kind, _plain)
    first = values[0]
    # Much is the same in every row: names, and what nobody gave. Numerics may be equal and written differently.
    if values[-1] is first and (kind != "numeric" or first is None) and values.count(first) == len(values):
        return "{" + ",".join([cells(values[:1])] * len(values)) + "}"
    return "{" + cells(values) + "}"


def _plain(values: Sequence[Any]) -> str:
    return ",".join(["NULL" if value is None else str(value) for value in values])


def _times(values: Sequence[datetime | None]) -> str:
    return ",".join([_time(value) for value in values])


def _time(at: datetime | None) -> str:
    if at is None:
        return "NULL"
    if at.tzinfo is not UTC or at.year < 1000:
        return str(at)
    # In half the time that `str` takes, most of which is spent on the zone; a year needs its four digits to be told.
    clock = (at.hour, at.minute, at.second, at.microsecond)
    return "%d-%d-%d %d:%d:%d.%06dZ" % (at.year, at.month, at.day, *clock)  # noqa: UP031 - the quickest way


def _quoted(values: Sequence[Any]) -> str:
    try:
        cells = '","'.join(values)
    except TypeError:  # some are None
        return ",".join(["NULL" if value is None else '"' + _escaped(value) + '"' for value in values])
    # Nearly no value holds what has to be escaped: all of them are looked through at once.
    if "\\" in cells or cells.count('"') != 2 * (len(values) - 1):
        cells = '","'.join(map(_escaped, values))
    return '"' + cells + '"'


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _quoted_bytes(values: Sequence[bytes | None]) -> str:
    return ",".join(["NULL" if value is None else '"\\\\x' + value.hex() + '"' for value in values])


_CELLS: Mapping[str, Callable[[Sequence[Any]], str]] = {
    "text": _quoted,
    "jsonb": _quoted,
    "bytea": _quoted_bytes,
    "timestamptz": _times,
}
"""How values are written that may hold anything, and times; all others hold neither commas, quotes nor braces."""


def _parameters(columns: Columns, *, first: int = 1) -> str:
    """`$1::text::type[], ...`, in the form that `arrays` gives the columns."""
    return ", ".join(f"${place}::text::{kind}[]" for place, (_, kind) in enumerate(columns, start=first))


def copy_lines(rows: Iterable[Sequence[Any]], columns: Columns) -> BytesIO:
    """Rows in COPY's text format, for millions of numerics: the driver's binary one takes a microsecond for each."""
    texts = [place for place, (_, kind) in enumerate(columns) if kind in ("text", "jsonb")]
    lines: list[str] = []
    for row in rows:
        cells = ["\\N" if value is None else str(value) for value in row]
        for place in texts:
            # Names and JSON hold no control characters, but ids may hold backslashes.
            if "\\" in cells[place] and row[place] is not None:
                cells[place] = cells[place].replace("\\", "\\\\")
        lines.append("\t".join(cells))
    return BytesIO("".join(line + "\n" for line in lines).encode())


def unnested(columns: Columns, *, first: int = 1) -> str:
    """`unnest($1::text::type[], ...) AS n(column, ...)`."""
    return f"unnest({_parameters(columns, first=first)}) AS n({_names(columns)})"


def numbered(columns: Columns) -> str:
    """The same with a last column `place`, that of the row: 1, 2, ..."""
    return f"unnest({_parameters(columns)}) WITH ORDINALITY AS n({_names(columns)}, place)"


def insert_rows(table: str, columns: Columns, *, on_conflict: str = "", returning: str = "") -> str:
    """An INSERT of unnested rows in the order given: callers sort them, so that locks are taken in one order."""
    statement = (
        f"INSERT INTO {table} ({_names(columns)}) SELECT {_names(columns)} "  # noqa: S608 - names are constants
        f"FROM {numbered(columns)} ORDER BY place"
    )
    if on_conflict:
        statement += f" ON CONFLICT {on_conflict}"
    if returning:
        statement += f" RETURNING {returning}"
    return statement


def update_rows(table: str, columns: Columns, *, keys: Sequence[str], condition: str = "", sets: str = "") -> str:
    """An UPDATE from unnested rows: `keys` find the row, `condition` (over t and n) must hold, the others are set."""
    changed = ", ".join(f"{name} = n.{name}" for name, _ in columns if name not in keys and not name.startswith("old_"))
    matches = " AND ".join(f"t.{key} = n.{key}" for key in keys)
    found = f"{matches} AND {condition}" if condition else matches
    return (
        f"UPDATE {table} AS t SET {changed}{', ' + sets if sets else ''} FROM {unnested(columns)} WHERE {found} "  # noqa: S608
        f"RETURNING {', '.join('t.' + key for key in keys)}"
    )


def delete_rows(table: str, columns: Columns) -> str:
    """A DELETE of the rows that equal the unnested ones."""
    matches = " AND ".join(f"t.{name} = n.{name}" for name, _ in columns)
    return f"DELETE FROM {table} AS t USING {unnested(columns)} WHERE {matches}"  # noqa: S608


def _names(columns: Columns) -> str:
    return ", ".join(name for name, _ in columns)


KEY: Columns = (("account", "text"), ("book", "text"), ("instrument", "text"), ("leg", "text"))
KEY_NAMES = tuple(name for name, _ in KEY)
KEY_ORDER = ", ".join(KEY_NAMES)
