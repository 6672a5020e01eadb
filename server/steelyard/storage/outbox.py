"""The outbox: what is to be told to others, written in the transaction that makes it true.

A row of a position's version only points at its event; other rows carry their body. Rows are numbered like the
account log, so a reader that sees one sees all before it, and versions of a position leave in order. Each row lies in
one partition by its position; a partition has one owner at a time, by an advisory lock.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from steelyard.accounting.keys import PositionKey
from steelyard.accounting.position import FoldState
from steelyard.accounting.round_trips import RoundTrip
from steelyard.operations.observing import origin_of
from steelyard.operations.outbox_ports import POSITION_CLOSED, POSITION_UPDATED
from steelyard.operations.ports import KeyChange
from steelyard.storage.bulk import Columns, arrays, unnested
from steelyard.storage.codec import dumps, trip_json
from steelyard.storage.database import Connection

PARTITIONS = 16
_ROW: Columns = (
    ("account", "text"),
    ("ordinal", "int4"),
    ("partition", "int4"),
    ("topic", "text"),
    ("book", "text"),
    ("instrument", "text"),
    ("leg", "text"),
    ("version", "int8"),
    ("body", "jsonb"),
    ("trace_id", "text"),
)
_WRITE = f"""
INSERT INTO outbox (account, seq, ordinal, partition, topic, book, instrument, leg, version, body, trace_id, created_at)
SELECT n.account, h.seq, n.ordinal, n.partition, n.topic, n.book, n.instrument, n.leg, n.version, n.body, n.trace_id,
       h.committed_at
FROM {unnested(_ROW)} JOIN account_heads h USING (account)
"""  # noqa: S608


def partition_of(key: PositionKey) -> int:
    """The partition of a position."""
    return zlib.crc32("\n".join(key).encode()) % PARTITIONS


class OutboxRows:
    """What one transaction tells others."""

    def __init__(self, trace_id: str | None) -> None:
        """`trace_id` is that of the message which caused it all; None: whoever handed each fill in has one."""
        self._trace_id = trace_id
        self._rows: list[tuple[object, ...]] = []

    def add(
        self,
        topic: str,
        key: PositionKey,
        *,
        body: Mapping[str, Any] | None,
        version: int | None = None,
        cause_id: str | None = None,
    ) -> None:
        """One message about a position."""
        place = (len(self._rows), partition_of(key), topic)
        told = None if body is None else dumps(dict(body))
        whose = origin_of(key.account, cause_id)
        trace = whose.text if whose.traceparent else self._trace_id or whose.trace_id or None
        self._rows.append((key.account, *place, *key[1:], version, told, trace))

    def add_change(self, change: KeyChange, *, before: FoldState) -> None:
        """A new version of a position, and the trips that it closes."""
        version = change.expected_version + 1
        self.add(POSITION_UPDATED, change.key, body=None, version=version, cause_id=change.cause_id)
        for trip in _closed(change, before):
            self.add(POSITION_CLOSED, change.key, body=trip_json(trip), version=version, cause_id=change.cause_id)

    async def write(self, connection: Connection) -> None:
        """Writes the rows; the heads of their accounts must have been advanced."""
        if self._rows:
            await connection.execute(_WRITE, *arrays(self._rows, _ROW))


def _closed(change: KeyChange, before: FoldState) -> list[RoundTrip]:
    """Trips that this change closes, or whose closing it may have changed."""
    newest = [] if change.state.trip is None else [change.state.trip]
    closed = [trip for trip in (*change.trips, *newest) if trip.closed_at is not None]
    changed_from = change.replace_checkpoints_from
    if changed_from is not None:
        return [trip for trip in closed if trip.last >= changed_from]
    return [trip for trip in closed if before.last is None or trip.last > before.last]
