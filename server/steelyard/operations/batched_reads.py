"""Single positions, read many at a time: whoever asks while a read is under way is answered by the next one.

Problem: a read in a statement of its own costs the store and this process several times what it tells. Choice: reads go
in rounds, as writes do. A question joins the round that has not begun yet; a round begins when one of the few reads
at a time ends, so every answer was read after it was asked for (strictly fresh) in one snapshot with the heads beside
it, and an idle service answers at once. Rejected: a pause in which more may come, which costs the lonely caller.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from steelyard.accounting.keys import Account, PositionKey
from steelyard.operations.position_view import Detail, PositionRow
from steelyard.operations.read_positions import Exposures, PositionFilter, PositionsRead, PositionStore
from steelyard.operations.reading import Cursor, Page, Snapshot

READS_AT_ONCE = 2
"""Rounds under way at a time: one is put into words while the store looks for the other."""
ROUND_MAX = 500
"""Positions in one round."""

Found = Snapshot[PositionsRead]


class ManyPositions(Protocol):
    """Reads positions for many callers at a time."""

    async def many(
        self, keys: Sequence[PositionKey], *, detail: Detail, heads: Collection[Account]
    ) -> Mapping[PositionKey, Found]:
        """What is found of each key, each in one snapshot with the heads of the accounts named."""
        ...


@dataclass(slots=True)
class _Round:
    """Questions that are asked of the store together; begins empty."""

    detail: Detail
    answer: asyncio.Future[Mapping[PositionKey, Found]]
    keys: dict[PositionKey, None] = field(default_factory=dict)
    heads: set[Account] = field(default_factory=set)


class BatchedPositions:
    """Fulfils the port `read_positions.PositionStore`: single positions in rounds, the rest as the store does."""

    def __init__(self, store: PositionStore, many: ManyPositions) -> None:
        self._store = store
        self._many = many
        self._waiting: deque[_Round] = deque()
        self._reading: set[asyncio.Task[None]] = set()

    async def position(self, key: PositionKey, *, detail: Detail, heads: Collection[Account]) -> Found:
        """One position, read after this was called."""
        joined = self._round(detail)
        joined.keys[key] = None
        joined.heads.update(heads)
        if len(self._reading) < READS_AT_ONCE:
            task = asyncio.create_task(self._read(), name="position-reads")
            self._reading.add(task)
            task.add_done_callback(self._reading.discard)
        # Shielded: a caller who goes away must not take the answer from the others.
        return (await asyncio.shield(joined.answer))[key]

    async def batch(
        self, keys: Sequence[PositionKey], *, detail: Detail, heads: Collection[Account]
    ) -> Snapshot[PositionsRead]:
        """Positions by their keys, all of one snapshot."""
        return await self._store.batch(keys, detail=detail, heads=heads)

    async def page(
        self,
        wanted: PositionFilter,
        *,
        size: int,
        after: Cursor | None,
        detail: Detail,
        heads: Collection[Account],
    ) -> Snapshot[tuple[Page[PositionRow], Exposures]]:
        """A page of positions in key order."""
        return await self._store.page(wanted, size=size, after=after, detail=detail, heads=heads)

    def _round(self, detail: Detail) -> _Round:
        for waiting in self._waiting:
            if waiting.detail is detail and len(waiting.keys) < ROUND_MAX:
                return waiting
        answer: asyncio.Future[Mapping[PositionKey, Found]] = asyncio.get_running_loop().create_future()
        # Its callers may all be gone when it fails: then nobody needs to hear of it.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        begun = _Round(detail, answer)
        self._waiting.append(begun)
        return begun

    async def _read(self) -> None:
        # By now everybody who asked in the same turn of the event loop has joined.
        while self._waiting:
            asked = self._waiting.popleft()
            try:
                found = await self._many.many(list(asked.keys), detail=asked.detail, heads=asked.heads)
            except asyncio.CancelledError:
                asked.answer.cancel()
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, each of the callers is told
                asked.answer.set_exception(error)
            else:
                asked.answer.set_result(found)
