"""Venue reports: per key the newest figures and time, and the place of the newest report that changed nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import cast

from steelyard.accounting.keys import InstrumentName, OrderKey, PositionKey
from steelyard.accounting.marks import Mark
from steelyard.accounting.venue_report import VenueReport
from steelyard.operations.feed_ports import VenueState
from steelyard.storage.bulk import KEY, Columns, arrays, unnested
from steelyard.storage.database import Connection

_KEY = "account = $1 AND book = $2 AND instrument = $3 AND leg = $4"
_KEEP = """
INSERT INTO venue_reports AS v (account, book, instrument, leg, reported_at, ties, quantity, average_price,
                                unrealized_pnl, realized_pnl, source, received_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (account, book, instrument, leg) DO UPDATE SET
    reported_at = coalesce(excluded.reported_at, v.reported_at),
    ties = CASE WHEN excluded.reported_at IS NULL THEN v.ties ELSE excluded.ties END,
    quantity = coalesce(excluded.quantity, v.quantity),
    average_price = CASE WHEN excluded.quantity = 0 THEN NULL
                         ELSE coalesce(excluded.average_price, v.average_price) END,
    unrealized_pnl = coalesce(excluded.unrealized_pnl, v.unrealized_pnl),
    realized_pnl = coalesce(excluded.realized_pnl, v.realized_pnl),
    source = excluded.source,
    received_at = excluded.received_at
"""
_PARKED: Columns = (*KEY, ("parked_entry_id", "text"))
_UNPARKED = f"""
UPDATE adjustments a SET commit_id = ${len(_PARKED) + 1} FROM {unnested(_PARKED)}
WHERE a.account = n.account AND a.adjustment_id = n.parked_entry_id
"""  # noqa: S608
_UNPARK = f"""
UPDATE venue_reports t SET parked_at = NULL, parked_sequence = NULL, parked_entry_id = NULL FROM {unnested(_PARKED)}
WHERE t.account = n.account AND t.book = n.book AND t.instrument = n.instrument AND t.leg = n.leg
    AND t.parked_entry_id = n.parked_entry_id
"""  # noqa: S608
_KEEP_MARK = """
INSERT INTO marks AS m (instrument, price, marked_at, source) VALUES ($1, $2, $3, $4)
ON CONFLICT (instrument) DO UPDATE
    SET price = excluded.price, marked_at = excluded.marked_at, source = excluded.source, recorded_at = now()
    WHERE excluded.marked_at > m.marked_at
"""


async def venue_state(connection: Connection, key: PositionKey) -> VenueState | None:
    """What is known of a key's reports, locked."""
    row = await connection.fetchrow(
        f"SELECT reported_at, ties FROM venue_reports WHERE {_KEY} FOR UPDATE",  # noqa: S608
        *key,
    )
    return None if row is None else VenueState(row["reported_at"], row["ties"])


async def keep_report(connection: Connection, report: VenueReport, *, tie: int, received_at: datetime) -> None:
    """Keeps a report's figures and time; what it does not say stays as it was."""
    await connection.execute(
        _KEEP,
        *report.key,
        report.reported_at,
        tie,
        report.quantity,
        report.average_price,
        report.unrealized_pnl,
        report.realized_pnl,
        report.source,
        received_at,
    )


async def park(connection: Connection, key: PositionKey, *, place: OrderKey, instead_of: OrderKey | None) -> None:
    """Notes the newest entry that changed nothing, and drops the one that it takes over from."""
    if instead_of is not None:
        await connection.execute(
            "DELETE FROM adjustments WHERE account = $1 AND adjustment_id = $2 AND kind = 'VENUE'",
            key.account,
            instead_of.entry_id,
        )
    await connection.execute(
        f"UPDATE venue_reports SET parked_at = $5, parked_sequence = $6, parked_entry_id = $7 WHERE {_KEY}",  # noqa: S608
        *key,
        *place,
    )


async def unpark(connection: Connection, entries: Sequence[tuple[str, ...]], *, commit_id: int) -> None:
    """Lets entries (key and id) stay for good that have come to change something: they count as learned with this
    commit."""
    columns = arrays(sorted(entries), _PARKED)
    await connection.execute(_UNPARKED, *columns, commit_id)
    await connection.execute(_UNPARK, *columns)


async def held_elsewhere(connection: Connection, key: PositionKey) -> Decimal:
    """What the account's other books hold of the same instrument and leg, signed."""
    return cast(
        Decimal,
        await connection.fetchval(
            "SELECT coalesce(sum(quantity + pending_quantity), 0) FROM positions "
            "WHERE account = $1 AND book <> $2 AND instrument = $3 AND leg = $4",
            *key,
        ),
    )


async def keep_mark(connection: Connection, instrument: InstrumentName, *, mark: Mark) -> None:
    """Keeps a price unless one as new is known."""
    await connection.execute(_KEEP_MARK, instrument, mark.price, mark.at, mark.source)
