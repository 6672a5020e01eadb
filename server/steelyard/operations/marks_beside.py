"""The prices beside the positions that one watcher was told: which of them have moved since."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from steelyard.accounting.keys import InstrumentName, PositionKey
from steelyard.operations.mark_tail import MarkTail
from steelyard.operations.position_view import PositionRow


class MarksBeside:
    """The open positions of one watcher and their prices; fulfils `mark_tail.PriceListener`."""

    def __init__(self, tail: MarkTail, *, wake: Callable[[], None]) -> None:
        self._tail = tail
        self._wake = wake
        self._open: dict[InstrumentName, dict[PositionKey, PositionRow]] = {}
        self._moved: set[InstrumentName] = set()

    def price_moved(self, instrument: InstrumentName) -> None:
        """Wakes the watcher; however often a price moves until he looks, he is told the newest."""
        self._moved.add(instrument)
        self._wake()

    def told(self, row: PositionRow) -> PositionRow:
        """Takes note of a position that is being told; gives it with the newest mark known."""
        instrument = row.key.instrument
        if not (row.quantity or row.pending_quantity):
            self._forget(row.key)
            return replace(row, mark=self._tail.newest(instrument, known=row.mark))
        if instrument not in self._open:
            self._tail.watch(self, instrument, known=row.mark)
        marked = replace(row, mark=self._tail.newest(instrument, known=row.mark))
        self._open.setdefault(instrument, {})[row.key] = marked
        return marked

    def resumed(self, rows: Iterable[PositionRow]) -> None:
        """Takes note of positions that an earlier stream told; all their prices count as moved since."""
        for row in rows:
            known = self._open.get(row.key.instrument, {}).get(row.key)
            if known is None or known.version < row.version:
                self.told(row)
            if row.key.instrument in self._open and row.mark is not None:
                self._tail.note(row.key.instrument, row.mark)
                self.price_moved(row.key.instrument)

    def take(self) -> list[PositionRow]:
        """The positions whose price has moved, with the newest; they are forgotten as moved here."""
        moved, self._moved = self._moved, set()
        taken = []
        for instrument in sorted(moved):
            held = self._open.get(instrument, {})
            for key, row in held.items():
                held[key] = replace(row, mark=self._tail.newest(instrument, known=row.mark))
                taken.append(held[key])
        return taken

    def close(self) -> None:
        """Watches no more."""
        for instrument in self._open:
            self._tail.leave(self, instrument)
        self._open.clear()

    def _forget(self, key: PositionKey) -> None:
        held = self._open.get(key.instrument, {})
        held.pop(key, None)
        if not held and self._open.pop(key.instrument, None) is not None:
            self._tail.leave(self, key.instrument)
