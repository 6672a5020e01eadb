"""Snapshots of positions: whole rows read to be told, and what was told kept as JSON."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any

from sqlalchemy import Select, or_, select, tuple_

from steelyard.accounting.keys import Account, PositionKey
from steelyard.operations.outbox_ports import SNAPSHOT_CREATED
from steelyard.operations.read_positions import Exposures, PositionFilter
from steelyard.operations.read_snapshots import SnapshotFilter
from steelyard.operations.reading import Cursor, Page, Snapshot, page_of
from steelyard.operations.take_snapshots import PositionSnapshot, ReadRow, RowsRead, SnapshotCause, reason_of
from steelyard.storage.bulk import KEY, KEY_ORDER, Columns, arrays, insert_rows, unnested
from steelyard.storage.codec import dumps, key_of, time_text
from steelyard.storage.compiled import HEADS
from steelyard.storage.database import Connection, Database
from steelyard.storage.history_tables import position_snapshots
from steelyard.storage.portfolio_reads import EXPOSURES, exposures_of_rows
from steelyard.storage.position_reads import filtered
from steelyard.storage.position_rows import CONTEXT, FULL, HELD, KEY_COLUMNS, P, joined, row_of
from steelyard.storage.record_writes import RecordTransaction, record_transaction

S = position_snapshots.c
FEATURES = "features"
_ROW: Columns = (
    ("account", "text"),
    ("taken_at", "timestamptz"),
    ("snapshot_id", "uuid"),
    *KEY[1:],
    ("cause", "text"),
    ("version", "int8"),
    ("position", "jsonb"),
    ("features", "jsonb"),
    ("failure", "text"),
)
_INSERT = insert_rows("position_snapshots", _ROW)
_LOCK = f"""
SELECT FROM {unnested(KEY)} JOIN positions p USING ({KEY_ORDER})
ORDER BY p.account, p.book, p.instrument, p.leg FOR NO KEY UPDATE OF p
"""
_STAMP = f"""
UPDATE positions p SET last_snapshot_at = greatest(p.last_snapshot_at, ${len(KEY) + 1}) FROM {unnested(KEY)}
WHERE p.account = n.account AND p.book = n.book AND p.instrument = n.instrument AND p.leg = n.leg
"""  # noqa: S608
_TAKEN = """
SELECT * FROM position_snapshots WHERE account = $1 AND taken_at = $2 AND cause = 'REQUEST'
ORDER BY book, instrument, leg LIMIT $3
"""
# What consumers of the source system call it.
_PUBLISHED = {
    "quantity": "size",
    "average_price": "average_entry_price",
    "unrealized_pnl": "unrealized_pnl",
    "realized_pnl": "realized_pnl",
    "net_realized_pnl": "net_realized_pnl",
    "exposure": "exposure",
    "fees": "fees",
    "settle_currency": "currency",
    "figures_state": "figures_state",
}


class SnapshotTransaction(RecordTransaction):
    """Fulfils the port `take_snapshots.SnapshotWrites`."""

    def __init__(self, connection: Connection, *, is_publishing: bool) -> None:
        super().__init__(connection)
        self._is_publishing = is_publishing

    async def store(self, snapshots: Sequence[PositionSnapshot]) -> None:
        """Stores snapshots, notes on their positions when they were taken, and tells others of each."""
        await self.connection.execute(_INSERT, *arrays(map(_values, snapshots), _ROW))
        self.touched.update(snapshot.key.account for snapshot in snapshots)
        taken = [snapshot for snapshot in snapshots if snapshot.shown is not None]
        if not taken:
            return
        keys = arrays(sorted(snapshot.key for snapshot in taken), KEY)
        await self.connection.execute(_LOCK, *keys)
        await self.connection.execute(_STAMP, *keys, max(snapshot.taken_at for snapshot in taken))
        for snapshot in taken if self._is_publishing else ():
            self.tell(SNAPSHOT_CREATED, snapshot.key, body=_body(snapshot))

    async def stored(self, account: Account, *, taken_at: datetime, limit: int) -> Sequence[PositionSnapshot]:
        """What a call stored, by key."""
        return [snapshot_of_row(row) for row in await self.connection.fetch(_TAKEN, account, taken_at, limit)]


class PositionSnapshots:
    """Fulfils the ports `take_snapshots.SnapshotStore` and `read_snapshots.SnapshotList`."""

    def __init__(self, database: Database, *, is_publishing: bool = False) -> None:
        """`is_publishing`: snapshots are put into the outbox as well."""
        self._database = database
        self._is_publishing = is_publishing

    def transaction(self) -> AbstractAsyncContextManager[SnapshotTransaction]:
        """A transaction, committed when the block ends well."""
        return record_transaction(
            self._database,
            lambda connection: SnapshotTransaction(connection, is_publishing=self._is_publishing),
            cause="snapshot",
        )

    async def rows(self, wanted: PositionFilter, *, size: int) -> RowsRead:
        """At most so many positions of a filter in key order, whole rows."""
        return await self._read(filtered(_ROWS, wanted).limit(size))

    async def due_rows(self, *, after: PositionKey | None, size: int) -> RowsRead:
        """Positions in key order that hold something or have changed since their last snapshot."""
        statement = _ROWS.where(or_(HELD != 0, P.last_snapshot_at.is_(None), P.updated_at > P.last_snapshot_at)).limit(
            size
        )
        if after is not None:
            statement = statement.where(tuple_(*KEY_COLUMNS) > tuple_(*map(str, after)))
        return await self._read(statement)

    async def _read(self, statement: Select[Any]) -> RowsRead:
        async with self._database.core() as connection:
            found = (await connection.execute(statement)).mappings().all()
            names = sorted({row["account"] for row in found})
            exposures: Exposures = {}
            if names:
                gathered = await connection.execute(EXPOSURES, {"accounts": names})
                exposures = exposures_of_rows(gathered.mappings().all())
        return RowsRead([_read_row(row) for row in found], exposures)

    async def page(
        self, wanted: SnapshotFilter, *, size: int, after: Cursor | None, heads: Collection[Account]
    ) -> Snapshot[Page[PositionSnapshot]]:
        """A page, the newest first."""
        statement = _listed(wanted)
        if after is not None:
            statement = statement.where(tuple_(S.taken_at, S.snapshot_id) < tuple_(*after))
        statement = statement.order_by(S.taken_at.desc(), S.snapshot_id.desc()).limit(size + 1)
        async with self._database.core() as connection:
            found = (await connection.execute(statement)).mappings().all()
            seen = (await connection.execute(HEADS, {"heads_of": list(heads)})).all()
        rows = [snapshot_of_row(row) for row in found]
        page = page_of(rows, size=size, place=lambda snapshot: (snapshot.taken_at, snapshot.snapshot_id))
        return Snapshot(page, {Account(account): seq for account, seq in seen})


_ROWS = select(*CONTEXT, *FULL).select_from(joined()).order_by(*KEY_COLUMNS)


def _read_row(row: Any) -> ReadRow:
    key, version = key_of(row), row["version"]
    try:
        return ReadRow(key, version, row_of(row, has_trip=True))
    except Exception as error:  # noqa: BLE001 - whatever is wrong with this row, the others go on
        return ReadRow(key, version, None, reason_of(error))


def _listed(wanted: SnapshotFilter) -> Select[Any]:
    statement = select(position_snapshots).where(S.account == wanted.account)
    for column, value in (
        (S.book, wanted.book),
        (S.instrument, wanted.instrument),
        (S.leg, wanted.leg),
        (S.cause, wanted.cause),
    ):
        if value is not None:
            statement = statement.where(column == str(value))
    if wanted.taken_from is not None:
        statement = statement.where(S.taken_at >= wanted.taken_from)
    if wanted.taken_before is not None:
        statement = statement.where(S.taken_at < wanted.taken_before)
    return statement


def _values(snapshot: PositionSnapshot) -> tuple[Any, ...]:
    position, features = None, None
    if snapshot.shown is not None:
        told = dict(snapshot.shown)
        features = dumps(told.pop(FEATURES, {}))
        position = dumps(told)
    key = snapshot.key
    return (
        *(key.account, snapshot.taken_at, snapshot.snapshot_id, key.book, key.instrument, key.leg.value),
        *(snapshot.cause.value, snapshot.version, position, features, snapshot.failure),
    )


def snapshot_of_row(row: Any) -> PositionSnapshot:
    """The snapshot in a row."""
    shown = None
    if row["position"] is not None:
        shown = {**json.loads(row["position"]), FEATURES: json.loads(row["features"])}
    return PositionSnapshot(
        snapshot_id=row["snapshot_id"],
        key=key_of(row),
        taken_at=row["taken_at"],
        cause=SnapshotCause(row["cause"]),
        version=row["version"],
        shown=shown,
        failure=row["failure"],
    )


def _body(snapshot: PositionSnapshot) -> dict[str, Any]:
    """What is published of a snapshot, beside what every message about a position has."""
    shown = snapshot.shown or {}
    return {
        "snapshot_id": str(snapshot.snapshot_id),
        "snapshot_at": time_text(snapshot.taken_at),
        "version": snapshot.version,
        "update_source": snapshot.cause.value.lower(),
        **{name: shown.get(field) for field, name in _PUBLISHED.items()},
        "mark_price": shown.get("mark", {}).get("price"),
        **{name: shown.get(FEATURES, {}).get(name) for name in _FEATURE_NAMES},
    }


_FEATURE_NAMES = ("unrealized_pnl_pct", "time_held_minutes", "position_size_norm")
