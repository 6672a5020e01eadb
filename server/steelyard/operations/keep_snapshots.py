"""Keeps snapshots for as long as they are wanted: months are made ahead, and what is too old goes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ShelfRun:
    """What one look at the shelf came to."""

    made: int
    """Months made."""
    dropped: int
    """Months dropped."""
    deleted: int
    """Snapshots deleted of months that are not too old as a whole."""


class SnapshotShelf(Protocol):
    """Where snapshots lie, by month."""

    async def make(self, *, now: datetime) -> int:
        """Makes this month and the next ones; gives how many were missing."""
        ...

    async def drop(self, *, before: datetime) -> tuple[int, int]:
        """Drops the months that end at or before a time, and deletes what else is older; how many of each."""
        ...


class KeepSnapshots:
    """Looks after the shelf, whenever the schedule says so."""

    def __init__(self, shelf: SnapshotShelf, *, kept: timedelta) -> None:
        self._shelf = shelf
        self._kept = kept

    async def run(self, now: datetime) -> ShelfRun:
        """Makes months ahead, then forgets what was taken longer ago than it is kept."""
        made = await self._shelf.make(now=now)
        dropped, deleted = await self._shelf.drop(before=now - self._kept)
        return ShelfRun(made, dropped, deleted)
