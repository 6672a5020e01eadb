"""A position's row with the records that give its numbers meaning: instrument, account and mark."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Text, cast, func, select

from steelyard.accounting.instruments import Instrument, InstrumentKind, PriceRule
from steelyard.accounting.keys import Leg, PositionKey
from steelyard.accounting.marks import Mark
from steelyard.accounting.position import FiguresState
from steelyard.accounting.round_trips import CostMethod
from steelyard.operations.position_view import PositionRow, VenueFigures
from steelyard.storage.codec import SUMS, sums_of, trip_of_json
from steelyard.storage.compiled import Row
from steelyard.storage.tables import accounts, instruments, marks, positions, venue_reports

P, RECORD, RULES, MARK = positions.c, instruments.c, accounts.c, marks.c
KEY_COLUMNS = (P.account, P.book, P.instrument, P.leg)
HELD = P.quantity + P.pending_quantity
"""What is held, counting what waits for a refold."""

_PLAIN = (
    *(P.version, P.quantity, P.cost_average, P.average_price, P.cost_lots),
    *(P[name] for name in SUMS),
    *(P.figures_state, P.pending_quantity, P.pending_fees, P.pending_fills),
    *(P.opened_at, P.closed_at, P.last_fill_at, P.last_snapshot_at, P.created_at, P.updated_at),
    *(P.notes, P.annotation_version),
)
CONTEXT: tuple[ColumnElement[Any], ...] = (
    *KEY_COLUMNS,
    *_PLAIN,
    P.unvalued_fees,
    P.labels,
    *(RECORD.kind, RECORD.multiplier, RECORD.quote_currency, RECORD.settle_currency, RECORD.price_rule),
    RULES.cost_method,
    *(MARK.price.label("mark_price"), MARK.marked_at, MARK.source.label("mark_source")),
)
"""All that a position row is made of, but its trip."""
TRIP = P.trip
_SAID = venue_reports.c
VENUE = (
    select(
        func.json_build_array(
            *(cast(_SAID[name], Text) for name in ("quantity", "average_price", "unrealized_pnl", "realized_pnl")),
            _SAID.reported_at,
            _SAID.source,
        ).cast(Text)
    )
    .where(*(_SAID[column.name] == column for column in KEY_COLUMNS))
    .scalar_subquery()
    .label("venue")
)
"""What the venue last said, as JSON text."""
FULL = (TRIP, VENUE)
"""What the full view needs besides `CONTEXT`."""


def joined(start: FromClause = positions) -> FromClause:
    """Positions with the records that give their numbers meaning."""
    return (
        start.outerjoin(instruments, RECORD.instrument == P.instrument)
        .outerjoin(accounts, RULES.account == P.account)
        .outerjoin(marks, MARK.instrument == P.instrument)
    )


def row_of(row: Row, *, has_trip: bool) -> PositionRow:
    """The position in a row of `CONTEXT` (and `TRIP`, and `VENUE`)."""
    key = PositionKey(row["account"], row["book"], row["instrument"], Leg(row["leg"]))
    has_mark = row["mark_price"] is not None
    return PositionRow(
        key=key,
        instrument=Instrument(
            key.instrument,
            InstrumentKind(row["kind"]),
            row["multiplier"],
            row["quote_currency"],
            row["settle_currency"],
            PriceRule(row["price_rule"]),
        ),
        cost_method=CostMethod(row["cost_method"] or "AVERAGE"),
        version=row["version"],
        quantity=row["quantity"],
        cost_average=row["cost_average"],
        average_price=row["average_price"],
        cost_lots=row["cost_lots"],
        lifetime=sums_of(row),
        trip=trip_of_json(json.loads(row["trip"])) if has_trip and row["trip"] else None,
        figures_state=FiguresState(row["figures_state"]),
        pending_quantity=row["pending_quantity"],
        pending_fees=row["pending_fees"],
        pending_fills=row["pending_fills"],
        opened_at=row["opened_at"],
        closed_at=row["closed_at"],
        last_fill_at=row["last_fill_at"],
        last_snapshot_at=row["last_snapshot_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        labels=json.loads(row["labels"]) if row["labels"] else {},
        notes=row["notes"],
        annotation_version=row["annotation_version"],
        mark=Mark(row["mark_price"], row["marked_at"], row["mark_source"]) if has_mark else None,
        venue=_venue(row.get("venue")),
    )


def _venue(text: str | None) -> VenueFigures | None:
    if text is None:
        return None
    *numbers, reported_at, source = json.loads(text)
    quantity, average, unrealized, realized = (None if number is None else Decimal(number) for number in numbers)
    return VenueFigures(
        quantity=quantity,
        average_price=average,
        unrealized_pnl=unrealized,
        realized_pnl=realized,
        reported_at=None if reported_at is None else datetime.fromisoformat(reported_at),
        source=source,
    )
