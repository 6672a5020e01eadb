"""The tail of the prices: one task per process looks which marks moved, of the instruments that somebody watches.

Problem: a price that any process wrote must reach the watchers of all of them, at thousands of prices a second. Choice:
ask the store several times a second for what is newer than what is known, all watched instruments in one statement; so
the writers tell nobody, and however often a price moves between two looks it is told once. Rejected: a NOTIFY for each
price (a storm), and following the time at which rows were written (that time is given before COMMIT, so a slow writer's
row would be passed by).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from steelyard.accounting.errors import SteelyardError
from steelyard.accounting.keys import InstrumentName
from steelyard.accounting.marks import Mark

POLL_INTERVAL_S = 0.2
RETRY_INTERVAL_S = 1.0
AT_ONCE_MAX = 5_000
"""Instruments that one statement asks for."""


class NewerMarks(Protocol):
    """Reads prices that moved."""

    async def newer(self, known: Mapping[InstrumentName, datetime | None]) -> Mapping[InstrumentName, Mark]:
        """The marks of instruments whose price time is after the one given; None: any mark is newer."""
        ...


class PriceListener(Protocol):
    """Somebody who watches prices."""

    def price_moved(self, instrument: InstrumentName) -> None:
        """Takes note and returns at once."""
        ...


@dataclass(slots=True)
class _Watched:
    mark: Mark | None
    listeners: set[PriceListener] = field(default_factory=set)


class MarkTail:
    """Follows the marks of the instruments that somebody watches."""

    def __init__(self, store: NewerMarks, *, interval_s: float = POLL_INTERVAL_S) -> None:
        self._store = store
        self._interval_s = interval_s
        self._watched: dict[InstrumentName, _Watched] = {}
        self.task: asyncio.Task[None] | None = None
        """Runs until `close`; when it ends by itself, the process has to end with what it raises."""

    def __len__(self) -> int:
        """How many instruments are watched."""
        return len(self._watched)

    def start(self) -> None:
        """Begins to follow."""
        self.task = asyncio.create_task(self._run(), name="mark_tail")

    async def close(self) -> None:
        """Follows no more."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    def watch(self, listener: PriceListener, instrument: InstrumentName, *, known: Mark | None) -> None:
        """Tells a listener from now on when an instrument's price is another than the one he knows."""
        watched = self._watched.get(instrument)
        if watched is None:
            watched = self._watched[instrument] = _Watched(known)
        watched.listeners.add(listener)
        if _is_newer(watched.mark, known):
            listener.price_moved(instrument)

    def leave(self, listener: PriceListener, instrument: InstrumentName) -> None:
        """Tells him of this instrument no more."""
        watched = self._watched.get(instrument)
        if watched is not None:
            watched.listeners.discard(listener)
            if not watched.listeners:
                del self._watched[instrument]

    def newest(self, instrument: InstrumentName, *, known: Mark | None = None) -> Mark | None:
        """The newest mark of a watched instrument, unless the caller knows a newer one."""
        watched = self._watched.get(instrument)
        return watched.mark if watched is not None and _is_newer(watched.mark, known) else known

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except SteelyardError:
                # The store is away: prices stay as they are, and the next look finds what moved meanwhile.
                await asyncio.sleep(RETRY_INTERVAL_S)
            await asyncio.sleep(self._interval_s)

    async def look(self) -> None:
        """Looks once, and tells the listeners of what moved."""
        names = list(self._watched)
        for first in range(0, len(names), AT_ONCE_MAX):
            known = {}
            for name in names[first : first + AT_ONCE_MAX]:
                watched = self._watched.get(name)
                if watched is not None:
                    known[name] = None if watched.mark is None else watched.mark.at
            for name, mark in (await self._store.newer(known)).items():
                self.note(name, mark)

    def note(self, name: InstrumentName, mark: Mark) -> None:
        """Takes note of a mark that somebody has read; the listeners are told where it is newer."""
        watched = self._watched.get(name)
        if watched is not None and _is_newer(mark, watched.mark):
            watched.mark = mark
            for listener in watched.listeners:
                listener.price_moved(name)


def _is_newer(mark: Mark | None, than: Mark | None) -> bool:
    return mark is not None and (than is None or mark.at > than.at)
