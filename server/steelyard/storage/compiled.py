"""Statements built once with SQLAlchemy and run on the bare driver: no compiling and no wrapping on each call."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, bindparam, cast, func, select
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import ARRAY

from steelyard.operations.reading import Heads
from steelyard.storage import tables

NAMES = ARRAY(Text())
"""An array parameter of names."""
Row = Any
"""A row of the driver or of SQLAlchemy: values by column name."""


class Compiled:
    """A statement's text, and the order in which the driver wants its parameters."""

    def __init__(self, statement: Select[Any]) -> None:
        compiled = statement.compile(dialect=PGDialect_asyncpg())  # type: ignore[no-untyped-call] # untyped there
        assert isinstance(compiled, SQLCompiler)
        self.text = str(compiled)
        self._names = tuple(compiled.positiontup or ())
        self._constants = dict(compiled.params)

    def arguments(self, **values: Any) -> list[Any]:
        """The values of named parameters in the driver's order; constants of the statement stand in for themselves."""
        return [values[name] if name in values else self._constants[name] for name in self._names]


def heads_of(accounts: ColumnElement[Any]) -> ColumnElement[Any]:
    """The heads of accounts (an array parameter) as JSON text, read in the same snapshot as the row beside it."""
    head = tables.account_heads
    gathered = func.jsonb_object_agg(cast(head.c.account, Text), head.c.seq)
    found = select(cast(gathered, Text)).where(head.c.account == func.any(accounts)).scalar_subquery()
    return found.label("heads")


HEADS = select(tables.account_heads.c.account, tables.account_heads.c.seq).where(
    tables.account_heads.c.account == func.any(bindparam("heads_of", type_=NAMES))
)
"""The heads of the accounts `heads_of`."""


def heads_of_text(text: str | None) -> Heads:
    """The heads that `compiled.heads_of` read."""
    return json.loads(text) if text else {}
