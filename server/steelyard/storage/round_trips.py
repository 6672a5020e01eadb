"""Round trips, open lots and checkpoints: the rows that a fold leaves around a position."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from steelyard.accounting.fold import Checkpoint
from steelyard.accounting.keys import OrderKey, PositionKey
from steelyard.accounting.lots import Lot
from steelyard.accounting.round_trips import RoundTrip
from steelyard.operations.ports import KeyChange
from steelyard.storage.bulk import KEY, KEY_ORDER, Columns, arrays, copy_lines, delete_rows, insert_rows, unnested
from steelyard.storage.codec import SUMS, checkpoint_json, checkpoint_state, key_of, sums_values, trip_of_row
from steelyard.storage.database import Connection

_TRIP: Columns = (
    ("account", "text"),
    ("trip_id", "uuid"),
    ("book", "text"),
    ("instrument", "text"),
    ("leg", "text"),
    ("direction", "text"),
    ("opened_at", "timestamptz"),
    ("opened_sequence", "int4"),
    ("opened_entry_id", "text"),
    ("opening_quantity", "numeric"),
    ("is_flip", "bool"),
    ("last_at", "timestamptz"),
    ("last_sequence", "int4"),
    ("last_entry_id", "text"),
    ("closed_at", "timestamptz"),
    ("entered_quantity", "numeric"),
    ("entered_value", "numeric"),
    ("exited_quantity", "numeric"),
    ("exited_value", "numeric"),
    ("open_quantity", "numeric"),
    ("max_quantity", "numeric"),
    ("is_adjusted", "bool"),
    *((name, "int8" if name == "fill_count" else "numeric") for name in SUMS),
    ("unvalued_fees", "jsonb"),
)
_TRIP_NAMES = [name for name, _ in _TRIP]
_CHANGED = ", ".join(f"{name} = excluded.{name}" for name in _TRIP_NAMES if name not in ("account", "trip_id"))
_OLD = ", ".join(f"t.{name}" for name in _TRIP_NAMES if name not in ("account", "trip_id"))
_NEW = ", ".join(f"excluded.{name}" for name in _TRIP_NAMES if name not in ("account", "trip_id"))
# Trips that come out the same are not written again. They are sorted by opening: a trip must have been closed before
# the next one of its key may be open (the index of at most one open trip is checked row by row).
_UPSERT = insert_rows(
    "round_trips AS t",
    _TRIP,
    on_conflict=f"(account, trip_id) DO UPDATE SET {_CHANGED} WHERE ({_OLD}) IS DISTINCT FROM ({_NEW})",
)
COPY_FROM = 500
"""So many trips of keys that have none stored yet are written by COPY instead."""

_LOT: Columns = (
    *KEY,
    ("opened_at", "timestamptz"),
    ("opened_sequence", "int4"),
    ("opened_entry_id", "text"),
    ("quantity", "numeric"),
    ("original_quantity", "numeric"),
    ("price", "numeric"),
)
_LOT_KEY = _LOT[:7]
_LOT_KEY_NAMES = ", ".join(name for name, _ in _LOT_KEY)
_UPSERT_LOTS = insert_rows(
    "lots",
    _LOT,
    on_conflict=f"({_LOT_KEY_NAMES}) DO UPDATE SET quantity = excluded.quantity, "
    "original_quantity = excluded.original_quantity, price = excluded.price",
)
_DELETE_LOTS = delete_rows("lots", _LOT_KEY)
_CHECKPOINT: Columns = (
    *KEY,
    ("executed_at", "timestamptz"),
    ("source_sequence", "int4"),
    ("entry_id", "text"),
    ("state", "jsonb"),
)
_INSERT_CHECKPOINTS = insert_rows(
    "checkpoints",
    _CHECKPOINT,
    on_conflict=f"({', '.join(name for name, _ in _CHECKPOINT[:7])}) DO UPDATE SET state = excluded.state",
)
_OF_KEY = "account = $1 AND book = $2 AND instrument = $3 AND leg = $4"
_OPENED = "(opened_at, opened_sequence, opened_entry_id)"
_TAKEN = "(executed_at, source_sequence, entry_id)"


async def read_lots(connection: Connection, keys: Iterable[PositionKey]) -> dict[PositionKey, tuple[Lot, ...]]:
    """The open lots of keys, in fold order."""
    rows = await connection.fetch(
        f"SELECT l.* FROM {unnested(KEY)} JOIN lots l USING ({KEY_ORDER}) ORDER BY {_LOT_KEY_NAMES}",  # noqa: S608
        *arrays(sorted(set(keys)), KEY),
    )
    lots: dict[PositionKey, list[Lot]] = {}
    for row in rows:
        order = OrderKey(row["opened_at"], row["opened_sequence"], row["opened_entry_id"])
        lots.setdefault(key_of(row), []).append(Lot(order, row["quantity"], row["original_quantity"], row["price"]))
    return {key: tuple(of_key) for key, of_key in lots.items()}


async def write_lots(connection: Connection, changes: Sequence[KeyChange]) -> None:
    """Writes the lots that changed and deletes those that are used up."""
    written: list[tuple[Any, ...]] = []
    gone: list[tuple[Any, ...]] = []
    for change in changes:
        old = {lot.opened: lot for lot in change.old_lots}
        changed = [lot for lot in change.state.lots if old.pop(lot.opened, None) != lot]
        written.extend((*change.key, *lot.opened, lot.quantity, lot.original_quantity, lot.price) for lot in changed)
        gone.extend((*change.key, *opened) for opened in old)
    if gone:
        await connection.execute(_DELETE_LOTS, *arrays(sorted(gone), _LOT_KEY))
    if written:
        await connection.execute(_UPSERT_LOTS, *arrays(sorted(written), _LOT))


def _trip_values(key: PositionKey, trip: RoundTrip) -> tuple[Any, ...]:
    return (
        key.account,
        trip.id_under(key),
        *(key.book, key.instrument, key.leg.value, trip.direction.value),
        *trip.opened,
        trip.opening_quantity,
        trip.is_flip,
        *trip.last,
        trip.closed_at,
        trip.entered_quantity,
        trip.entered_value,
        trip.exited_quantity,
        trip.exited_value,
        trip.open_quantity,
        trip.max_quantity,
        trip.is_adjusted,
        *sums_values(trip.sums),
    )


async def write_trips(connection: Connection, changes: Sequence[KeyChange]) -> None:
    """Replaces the trips of the stretches that were folded again and writes the new ones."""
    fresh: list[tuple[Any, ...]] = []
    rows: list[tuple[Any, ...]] = []
    for change in changes:
        trips = list(change.trips)
        if change.state.trip is not None and change.replace_trips_until is None:
            trips.append(change.state.trip)
        values = [_trip_values(change.key, trip) for trip in trips]
        if change.expected_version == 0:
            fresh.extend(values)
        else:
            rows.extend(values)
            if change.replace_trips_from is not None:
                await _delete_others(connection, change, kept=[row[1] for row in values])
    if len(fresh) >= COPY_FROM:
        await connection.copy_to_table("round_trips", source=copy_lines(fresh, _TRIP), columns=_TRIP_NAMES)
    else:
        rows.extend(fresh)
    if rows:
        await connection.execute(_UPSERT, *arrays(rows, _TRIP))


async def _delete_others(connection: Connection, change: KeyChange, *, kept: Sequence[Any]) -> None:
    """Deletes stored trips of the replaced stretch that do not come out again, and opens the way for an open one."""
    assert change.replace_trips_from is not None
    bounds: list[Any] = [*change.key, *change.replace_trips_from]
    condition = f"{_OF_KEY} AND {_OPENED} >= ($5, $6, $7)"
    if change.replace_trips_until is not None:
        bounds += change.replace_trips_until
        condition += f" AND {_OPENED} < ($8, $9, $10)"
    place = len(bounds) + 1
    await connection.execute(
        f"DELETE FROM round_trips WHERE {condition} AND (trip_id <> ALL(${place}::uuid[]) OR closed_at IS NULL)",  # noqa: S608
        *bounds,
        list(kept),
    )


async def write_checkpoints(connection: Connection, changes: Sequence[KeyChange]) -> None:
    """Drops the checkpoints of the stretches that were folded again and writes the new ones."""
    rows: list[tuple[Any, ...]] = []
    for change in changes:
        rows.extend((*change.key, *taken.order, checkpoint_json(taken.state)) for taken in change.checkpoints)
        if change.replace_checkpoints_from is not None and change.expected_version:
            bounds: list[Any] = [*change.key, *change.replace_checkpoints_from]
            condition = f"{_OF_KEY} AND {_TAKEN} >= ($5, $6, $7)"
            if change.replace_trips_until is not None:
                bounds += change.replace_trips_until
                condition += f" AND {_TAKEN} < ($8, $9, $10)"
            await connection.execute(f"DELETE FROM checkpoints WHERE {condition}", *bounds)  # noqa: S608
    if rows:
        await connection.execute(_INSERT_CHECKPOINTS, *arrays(rows, _CHECKPOINT))


async def last_trip_opened_before(connection: Connection, key: PositionKey, *, order: OrderKey) -> RoundTrip | None:
    """The newest stored trip opened strictly before a place."""
    row = await connection.fetchrow(
        f"SELECT * FROM round_trips WHERE {_OF_KEY} AND {_OPENED} < ($5, $6, $7) "  # noqa: S608
        "ORDER BY opened_at DESC, opened_sequence DESC, opened_entry_id DESC LIMIT 1",
        *key,
        *order,
    )
    return None if row is None else trip_of_row(row)


async def trips_from(connection: Connection, key: PositionKey, *, order: OrderKey) -> list[RoundTrip]:
    """Stored trips opened at or after a place, in order."""
    rows = await connection.fetch(
        f"SELECT * FROM round_trips WHERE {_OF_KEY} AND {_OPENED} >= ($5, $6, $7) "  # noqa: S608
        "ORDER BY opened_at, opened_sequence, opened_entry_id",
        *key,
        *order,
    )
    return [trip_of_row(row) for row in rows]


async def checkpoint_before(connection: Connection, key: PositionKey, *, order: OrderKey) -> Checkpoint | None:
    """The newest stored checkpoint strictly before a place."""
    state = await connection.fetchval(
        f"SELECT state FROM checkpoints WHERE {_OF_KEY} AND {_TAKEN} < ($5, $6, $7) "  # noqa: S608
        "ORDER BY executed_at DESC, source_sequence DESC, entry_id DESC LIMIT 1",
        *key,
        *order,
    )
    return None if state is None else Checkpoint(checkpoint_state(state))
