"""Position events as questions read them: the state of each version, with the records of today."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from sqlalchemy import select

from steelyard.accounting.keys import Account, PositionKey
from steelyard.accounting.position import FiguresState
from steelyard.accounting.round_trips import Sums
from steelyard.operations.position_view import PositionRow
from steelyard.operations.read_events import PositionEvent
from steelyard.operations.reading import Cursor, Page, Snapshot, page_of
from steelyard.storage.codec import SUMS, trip_of_json
from steelyard.storage.compiled import Row
from steelyard.storage.database import Database
from steelyard.storage.position_rows import CONTEXT, KEY_COLUMNS, joined, row_of
from steelyard.storage.tables import position_events
from steelyard.storage.trip_reads import heads_in

EVENT = position_events.c


class EventReads:
    """Fulfils the port `read_events.EventStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def events(
        self,
        key: PositionKey,
        *,
        version_from: int,
        version_before: int | None,
        size: int,
        after: Cursor | None,
        heads: Collection[Account],
    ) -> Snapshot[Page[PositionEvent] | None]:
        """Versions, the newest first; None where there is no such position."""
        current = select(*CONTEXT).select_from(joined())
        current = current.where(*(column == value for column, value in zip(KEY_COLUMNS, key, strict=True)))
        statement = select(position_events).where(
            *(EVENT[column.name] == value for column, value in zip(KEY_COLUMNS, key, strict=True)),
            EVENT.version >= version_from,
        )
        bounds = [bound for bound in (version_before, None if after is None else after[0]) if bound is not None]
        if bounds:
            statement = statement.where(EVENT.version < min(bounds))
        statement = statement.order_by(EVENT.version.desc()).limit(size + 1)
        async with self._database.core() as connection:
            today = (await connection.execute(current)).mappings().first()
            rows = (await connection.execute(statement)).mappings().all()
            seen = await heads_in(connection, heads)
        if today is None:
            return Snapshot(None, seen)
        now = row_of(today, has_trip=False)
        found = [event_of(row, now) for row in rows]
        return Snapshot(page_of(found, size=size, place=lambda event: (event.version,)), seen)


def event_of(row: Row, today: PositionRow) -> PositionEvent:
    """The event in a row of `position_events`, with the records that today give its numbers meaning."""
    return PositionEvent(
        key=today.key,
        version=row["version"],
        seq=row["seq"],
        cause=row["cause"],
        cause_id=row["cause_id"],
        change=row["change"],
        fill_ids=tuple(row["fill_ids"]),
        fill_count=row["fill_count"],
        committed_at=row["committed_at"],
        row=_row_then(row, today),
    )


def _row_then(row: Row, today: PositionRow) -> PositionRow:
    state = json.loads(row["state"])
    *amounts, fill_count = state["sums"]
    pending_quantity, pending_fees, pending_fills = state["pending"]
    unvalued = tuple((currency, Decimal(amount)) for currency, amount in state["unvalued"])
    sums = {name: Decimal(text) for name, text in zip(SUMS, amounts, strict=False)}
    pending_quantity, pending_fees, pending_fills = state["pending"]
    trip = None if state["trip"] is None else trip_of_json(state["trip"])
    return replace(
        today,
        version=row["version"],
        quantity=Decimal(state["quantity"]),
        cost_average=Decimal(state["cost_average"]),
        average_price=None if state["average"] is None else Decimal(state["average"]),
        cost_lots=Decimal(state["cost_lots"]),
        lifetime=Sums(**sums, fill_count=int(fill_count), unvalued_fees=unvalued),
        trip=trip,
        figures_state=FiguresState(state["figures_state"]),
        pending_quantity=Decimal(pending_quantity),
        pending_fees=Decimal(pending_fees),
        pending_fills=pending_fills,
        opened_at=None if trip is None else trip.opened_at,
        closed_at=None if trip is None else trip.closed_at,
        last_fill_at=None if state["last_fill_at"] is None else datetime.fromisoformat(state["last_fill_at"]),
        updated_at=row["committed_at"],
        mark=None,
    )
