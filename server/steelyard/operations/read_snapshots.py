"""Stored snapshots, the newest first."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from steelyard.accounting.keys import Account, Book, InstrumentName, Leg
from steelyard.operations.reading import AS_IT_IS, Answer, Cursor, Freshness, Page, Reading, Snapshot
from steelyard.operations.take_snapshots import PositionSnapshot, SnapshotCause


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFilter:
    """Which snapshots are meant; conditions are joined by and."""

    account: Account
    book: Book | None = None
    instrument: InstrumentName | None = None
    leg: Leg | None = None
    cause: SnapshotCause | None = None
    taken_from: datetime | None = None
    taken_before: datetime | None = None


class SnapshotList(Protocol):
    """Reads stored snapshots."""

    async def page(
        self, wanted: SnapshotFilter, *, size: int, after: Cursor | None, heads: Collection[Account]
    ) -> Snapshot[Page[PositionSnapshot]]:
        """A page, the newest first."""
        ...


class ReadSnapshots:
    """Answers which snapshots there are."""

    def __init__(self, store: SnapshotList, reading: Reading) -> None:
        self._store = store
        self._reading = reading

    async def page(
        self, wanted: SnapshotFilter, *, size: int, after: Cursor | None = None, freshness: Freshness = AS_IT_IS
    ) -> Answer[Page[PositionSnapshot]]:
        """A page of an account's snapshots, the newest first."""
        return await self._reading.answer(
            lambda heads: self._store.page(wanted, size=size, after=after, heads=heads),
            accounts=(wanted.account,),
            freshness=freshness,
        )
