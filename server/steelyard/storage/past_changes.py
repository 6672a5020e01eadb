"""From where on keys were folded anew, commit by commit, and which sequence a fill had before it got a smaller one.

What lies before the earliest change since a moment is today as it was known at that moment: the trips and checkpoints
there are starts of a fold of what was known then, too. Entries that only come after everything folded leave no note.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from steelyard.accounting.entries import EARLIEST
from steelyard.accounting.keys import PositionKey
from steelyard.operations.ports import KeyChange, StoredPosition
from steelyard.storage.bulk import KEY, KEY_ORDER, Columns, arrays, insert_rows, unnested
from steelyard.storage.database import Connection

_CHANGE: Columns = (*KEY, ("commit_id", "int8"), ("from_executed_at", "timestamptz"))
_NOTE = insert_rows("past_changes", _CHANGE)
_CLEARED: Columns = (*KEY, ("touch", "int8"))
_NOTE_STALE = f"""
INSERT INTO past_changes ({KEY_ORDER}, commit_id, from_executed_at)
SELECT {KEY_ORDER}, ${len(_CLEARED) + 1}, s.from_executed_at FROM {unnested(_CLEARED)} JOIN stale_keys s
USING ({KEY_ORDER}, touch)
"""  # noqa: S608

Noted = tuple[PositionKey, datetime]


def changes_of_past(changes: Iterable[KeyChange], *, before: Mapping[PositionKey, StoredPosition]) -> list[Noted]:
    """The keys whose past these changes change, and from when on."""
    found: list[Noted] = []
    for change in changes:
        if change.replace_checkpoints_from is not None:
            found.append((change.key, max(EARLIEST, change.replace_checkpoints_from.executed_at)))
        elif change.clears_stale is not None:
            # What waited may have been corrected meanwhile: only what was folded is sure.
            last = before[change.key].state.last if change.key in before else None
            found.append((change.key, EARLIEST if last is None else last.executed_at))
    return found


async def note(connection: Connection, changed: Sequence[Noted], *, commit_id: int) -> None:
    """Notes from when on keys are folded anew by this commit."""
    if changed:
        rows = [(*key, commit_id, at) for key, at in sorted(changed)]
        await connection.execute(_NOTE, *arrays(rows, _CHANGE))


async def note_stale(connection: Connection, cleared: Sequence[tuple[PositionKey, int]], *, commit_id: int) -> None:
    """Notes stale ranges (by their touch) that were folded and changed nothing in the end."""
    if cleared:
        rows = [(*key, touch) for key, touch in sorted(cleared)]
        await connection.execute(_NOTE_STALE, *arrays(rows, _CLEARED), commit_id)
