"""Keys whose newest entries are stored but not folded: the range of each, widened as more arrive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steelyard.accounting.keys import OrderKey, PositionKey
from steelyard.operations.ports import StaleRange
from steelyard.storage.bulk import KEY, KEY_ORDER, Columns, arrays, insert_rows, unnested
from steelyard.storage.database import Connection

_RANGE: Columns = (
    *KEY,
    ("from_executed_at", "timestamptz"),
    ("from_sequence", "int4"),
    ("from_entry_id", "text"),
    ("to_executed_at", "timestamptz"),
    ("to_sequence", "int4"),
    ("to_entry_id", "text"),
    ("entries", "int8"),
    ("touch", "int8"),
    ("reason", "text"),
    ("is_held", "bool"),
)
_FROM = "(s.from_executed_at, s.from_sequence, s.from_entry_id)"
_NEW_FROM = "(excluded.from_executed_at, excluded.from_sequence, excluded.from_entry_id)"
_TO = "(s.to_executed_at, s.to_sequence, s.to_entry_id)"
_NEW_TO = "(excluded.to_executed_at, excluded.to_sequence, excluded.to_entry_id)"


def _wider(side: str, *, stored: str, new: str, comparison: str) -> str:
    return ", ".join(
        f"{side}_{part} = CASE WHEN {new} {comparison} {stored} THEN excluded.{side}_{part} ELSE s.{side}_{part} END"
        for part in ("executed_at", "sequence", "entry_id")
    )


WIDEN = f"""
    {_wider("from", stored=_FROM, new=_NEW_FROM, comparison="<")},
    {_wider("to", stored=_TO, new=_NEW_TO, comparison=">")},
    entries = s.entries + excluded.entries, touch = s.touch + 1, is_held = s.is_held AND excluded.is_held,
    reason = excluded.reason
"""
"""What ON CONFLICT DO UPDATE sets for a key (aliased s) that is noted already."""

_MARK = insert_rows("stale_keys AS s", _RANGE, on_conflict=f"({KEY_ORDER}) DO UPDATE SET {WIDEN}")
_CLEARED: Columns = (*KEY, ("touch", "int8"))
_CLEAR = f"""
DELETE FROM stale_keys t USING {unnested(_CLEARED)}
WHERE t.account = n.account AND t.book = n.book AND t.instrument = n.instrument AND t.leg = n.leg AND t.touch = n.touch
"""  # noqa: S608


async def mark_stale(connection: Connection, ranges: Mapping[PositionKey, StaleRange]) -> None:
    """Notes ranges of entries that are stored but not folded."""
    if not ranges:
        return
    rows = [
        (*key, *stale.first, *stale.last, stale.entries, stale.touch, stale.reason, stale.is_held)
        for key, stale in sorted(ranges.items())
    ]
    await connection.execute(_MARK, *arrays(rows, _RANGE))


async def clear_stale(connection: Connection, cleared: Sequence[tuple[PositionKey, int]]) -> None:
    """Forgets ranges that were folded, unless they have grown since they were seen."""
    if cleared:
        await connection.execute(_CLEAR, *arrays(sorted((*key, touch) for key, touch in cleared), _CLEARED))


def range_of_row(row: Mapping[str, Any], *, prefix: str = "") -> StaleRange:
    """The range in a row of `stale_keys`."""
    return StaleRange(
        first=OrderKey(row[prefix + "from_executed_at"], row[prefix + "from_sequence"], row[prefix + "from_entry_id"]),
        last=OrderKey(row[prefix + "to_executed_at"], row[prefix + "to_sequence"], row[prefix + "to_entry_id"]),
        entries=row[prefix + "entries"],
        touch=row[prefix + "touch"],
        is_held=row[prefix + "is_held"],
        reason=row[prefix + "reason"],
    )
