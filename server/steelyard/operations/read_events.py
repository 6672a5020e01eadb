"""How a position came to be: its versions, the newest first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from steelyard.accounting.errors import NotFound
from steelyard.accounting.keys import Account, PositionKey
from steelyard.accounting.marks import MarkState
from steelyard.operations.position_view import PositionRow, PositionView
from steelyard.operations.reading import AS_IT_IS, Answer, Cursor, Freshness, Page, Reading, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionEvent:
    """One version of a position: why it came to be, and what it was."""

    key: PositionKey
    version: int
    seq: int
    cause: str
    """fill, adjustment, build, refold, rollback, ..."""
    cause_id: str | None
    change: str
    """ADDED, UPDATED or CLOSED."""
    fill_ids: Sequence[str]
    fill_count: int
    committed_at: datetime
    row: PositionRow
    """The position as of this version, without a mark."""

    def view(self) -> PositionView:
        """The position as of this version; times count up to its commit."""
        return PositionView(self.row, self.committed_at, MarkState.MISSING)


class EventStore(Protocol):
    """Reads position events in one snapshot with the heads of the accounts named."""

    async def events(
        self,
        key: PositionKey,
        *,
        version_from: int,
        version_before: int | None,
        size: int,
        after: Cursor | None,
        heads: Collection[Account],
    ) -> Snapshot[Page[PositionEvent] | None]:
        """Versions, the newest first; None where there is no such position."""
        ...


class ReadEvents:
    """Answers questions about the versions of a position."""

    def __init__(self, store: EventStore, reading: Reading) -> None:
        self._store = store
        self._reading = reading

    async def page(
        self,
        key: PositionKey,
        *,
        version_from: int = 0,
        version_before: int | None = None,
        size: int,
        after: Cursor | None = None,
        freshness: Freshness = AS_IT_IS,
    ) -> Answer[Page[PositionEvent]]:
        """A page of versions in [version_from, version_before), the newest first. Raises `NotFound`."""
        answer = await self._reading.answer(
            lambda heads: self._store.events(
                key, version_from=version_from, version_before=version_before, size=size, after=after, heads=heads
            ),
            accounts=(key.account,),
            freshness=freshness,
        )
        if answer.value is None:
            raise NotFound("position", "/".join(key))
        return Answer(answer.value, answer.seen)
