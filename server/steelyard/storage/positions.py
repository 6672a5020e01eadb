"""Positions: one row per key, locked in key order, written by compare-and-set on the version; one event per version."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from steelyard.accounting.errors import VersionMismatch
from steelyard.accounting.keys import OrderKey, PositionKey
from steelyard.accounting.lots import Lot
from steelyard.accounting.position import FiguresState, FoldState
from steelyard.accounting.units import decimal_text
from steelyard.operations.ports import KeyChange, Pending, StoredPosition
from steelyard.storage.bulk import KEY, KEY_NAMES, KEY_ORDER, Columns, arrays, insert_rows, unnested, update_rows
from steelyard.storage.codec import SUMS, dumps, key_of, sums_of, sums_values, time_text, trip_json, trip_of_json
from steelyard.storage.database import Connection
from steelyard.storage.stale_keys import range_of_row

_STATE: Columns = (
    *KEY,
    ("version", "int8"),
    ("quantity", "numeric"),
    ("cost_average", "numeric"),
    ("average_price", "numeric"),
    ("cost_lots", "numeric"),
    *((name, "int8" if name == "fill_count" else "numeric") for name in SUMS),
    ("unvalued_fees", "jsonb"),
    ("trip", "jsonb"),
    ("last_executed_at", "timestamptz"),
    ("last_sequence", "int4"),
    ("last_entry_id", "text"),
    ("last_fill_at", "timestamptz"),
    ("opened_at", "timestamptz"),
    ("closed_at", "timestamptz"),
    ("since_checkpoint", "int4"),
    ("figures_state", "text"),
    ("pending_quantity", "numeric"),
    ("pending_fees", "numeric"),
    ("pending_fills", "int8"),
    ("created_at", "timestamptz"),
    ("updated_at", "timestamptz"),
)
_UPDATE_STATE: Columns = tuple(column for column in _STATE if column[0] != "created_at")
_INSERT = insert_rows("positions", _STATE, on_conflict="DO NOTHING", returning=KEY_ORDER)
_UPDATE = update_rows("positions", _UPDATE_STATE, keys=KEY_NAMES, condition="t.version = n.version - 1")

_STALE = ", ".join(
    f"s.{name} AS stale_{name}"
    for name in (
        *("from_executed_at", "from_sequence", "from_entry_id", "to_executed_at", "to_sequence", "to_entry_id"),
        *("entries", "touch", "is_held", "reason"),
    )
)
_PARKED = "v.parked_at, v.parked_sequence, v.parked_entry_id"
_FIND = f"""
SELECT p.*, {_STALE}, {_PARKED} FROM {unnested(KEY)} JOIN positions p USING ({KEY_ORDER})
LEFT JOIN stale_keys s ON s.account = p.account AND s.book = p.book AND s.instrument = p.instrument AND s.leg = p.leg
LEFT JOIN venue_reports v ON v.account = p.account AND v.book = p.book AND v.instrument = p.instrument AND v.leg = p.leg
"""  # noqa: S608
_FIND_AND_LOCK = f"{_FIND} ORDER BY p.account, p.book, p.instrument, p.leg FOR NO KEY UPDATE OF p"
_FIND_BESIDE = f"""
SELECT n.*, {_STALE}, {_PARKED} FROM {unnested(KEY)}
LEFT JOIN stale_keys s USING ({KEY_ORDER}) LEFT JOIN venue_reports v USING ({KEY_ORDER})
WHERE s.account IS NOT NULL OR v.account IS NOT NULL
"""  # noqa: S608

EVENT_FILLS_MAX = 100
"""Fill ids kept in one position event; a build applies many more, which its import or build names."""

EVENT: Columns = (
    *KEY,
    ("version", "int8"),
    ("cause", "text"),
    ("cause_id", "text"),
    ("change", "text"),
    ("fill_ids", "jsonb"),
    ("fill_count", "int8"),
    ("state", "jsonb"),
)


async def find_positions(
    connection: Connection, keys: Iterable[PositionKey], *, is_locking: bool
) -> dict[PositionKey, StoredPosition]:
    """The stored positions of keys (an empty one where there is no row), locked in key order if asked."""
    wanted = sorted(set(keys))
    rows = await connection.fetch(_FIND_AND_LOCK if is_locking else _FIND, *arrays(wanted, KEY))
    found = {key_of(row): row for row in rows}
    missing = [key for key in wanted if key not in found]
    beside = {}
    if missing:
        beside = {key_of(row): row for row in await connection.fetch(_FIND_BESIDE, *arrays(missing, KEY))}
    positions = {key: stored_of_row(row) for key, row in found.items()}
    for key in missing:
        row = beside.get(key)
        positions[key] = StoredPosition(
            key,
            0,
            FoldState(),
            FiguresState.CURRENT,
            0,
            stale=None if row is None or row["stale_touch"] is None else range_of_row(row, prefix="stale_"),
            parked=None if row is None else _parked(row),
        )
    return positions


def _parked(row: Mapping[str, Any]) -> OrderKey | None:
    if row["parked_at"] is None:
        return None
    return OrderKey(row["parked_at"], row["parked_sequence"], row["parked_entry_id"])


def with_lots(stored: StoredPosition, lots: tuple[Lot, ...]) -> StoredPosition:
    """A stored position with its open lots."""
    return replace(stored, state=replace(stored.state, lots=lots))


def stored_of_row(row: Mapping[str, Any]) -> StoredPosition:
    """The stored position in a row of `positions` joined with `stale_keys`, without its lots."""
    return StoredPosition(
        key=key_of(row),
        version=row["version"],
        state=state_of_row(row),
        figures_state=FiguresState(row["figures_state"]),
        since_checkpoint=row["since_checkpoint"],
        pending=Pending(row["pending_quantity"], row["pending_fees"], row["pending_fills"]),
        stale=None if row["stale_touch"] is None else range_of_row(row, prefix="stale_"),
        parked=_parked(row),
    )


def state_of_row(row: Mapping[str, Any]) -> FoldState:
    """The fold state in a row of `positions`, without lots; settled is lifetime minus the current trip."""
    trip = trip_of_json(json.loads(row["trip"])) if row["trip"] else None
    lifetime = sums_of(row)
    last = None
    if row["last_executed_at"] is not None:
        last = OrderKey(row["last_executed_at"], row["last_sequence"], row["last_entry_id"])
    return FoldState(
        quantity=row["quantity"],
        cost_average=row["cost_average"],
        average=row["average_price"],
        cost_lots=row["cost_lots"],
        settled=lifetime if trip is None else lifetime.minus(trip.sums),
        trip=trip,
        last=last,
        last_fill_at=row["last_fill_at"],
    )


def _values(change: KeyChange, now: datetime) -> tuple[Any, ...]:
    state = change.state
    return (
        *change.key,
        change.expected_version + 1,
        state.quantity,
        state.cost_average,
        state.average,
        state.cost_lots,
        *sums_values(state.lifetime),
        None if state.trip is None else dumps(trip_json(state.trip)),
        *(state.last or (None, None, None)),
        state.last_fill_at,
        state.opened_at,
        state.closed_at,
        change.since_checkpoint,
        change.figures_state.value,
        change.pending.quantity,
        change.pending.fees,
        change.pending.fills,
        now,
        now,
    )


async def write_positions(connection: Connection, changes: Sequence[KeyChange], *, now: datetime) -> None:
    """Writes rows where the version is still the expected one. Raises `VersionMismatch` where it is not."""
    new = [_values(change, now) for change in changes if change.expected_version == 0]
    if new:
        inserted = await connection.fetch(_INSERT, *arrays(new, _STATE))
        if len(inserted) != len(new):
            raise VersionMismatch("a position was created meanwhile")
    created_at = [name for name, _ in _STATE].index("created_at")
    old = [_values(change, now) for change in changes if change.expected_version]
    if old:
        rows = [(*row[:created_at], *row[created_at + 1 :]) for row in old]
        updated = await connection.fetch(_UPDATE, *arrays(rows, _UPDATE_STATE))
        if len(updated) != len(rows):
            raise VersionMismatch("a position changed meanwhile")


def event_values(change: KeyChange, *, was_open: bool) -> tuple[Any, ...]:
    """The event of one version: its cause, the fills it applies, and the full state."""
    state = change.state
    if state.quantity:
        kind = "UPDATED" if was_open else "ADDED"
    else:
        kind = "CLOSED" if was_open else "UPDATED" if change.expected_version else "ADDED"
    return (
        *change.key,
        change.expected_version + 1,
        change.cause,
        change.cause_id,
        kind,
        dumps(list(change.fill_ids[:EVENT_FILLS_MAX])),
        change.fill_count,
        dumps(state_json(state, change.figures_state, pending=change.pending)),
    )


def state_json(state: FoldState, figures: FiguresState, *, pending: Pending) -> dict[str, Any]:
    """A state as it is kept in events: everything but the lots, decimals as text, costs before scale."""
    sums = state.lifetime
    return {
        "quantity": decimal_text(state.quantity),
        "average": None if state.average is None else decimal_text(state.average),
        "cost_average": decimal_text(state.cost_average),
        "cost_lots": decimal_text(state.cost_lots),
        "sums": [str(sums.fill_count) if name == "fill_count" else decimal_text(getattr(sums, name)) for name in SUMS],
        "unvalued": [[currency, decimal_text(amount)] for currency, amount in sums.unvalued_fees],
        "trip": None if state.trip is None else trip_json(state.trip),
        "last_fill_at": None if state.last_fill_at is None else time_text(state.last_fill_at),
        "figures_state": figures.value,
        "pending": [decimal_text(pending.quantity), decimal_text(pending.fees), pending.fills],
    }
