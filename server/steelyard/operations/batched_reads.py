"""Single positions, read many at a time.

A read in a statement of its own costs the store and this process several times what it tells, so they go in rounds, as
writes do: each is strictly fresh (read after it was asked for), and of one snapshot with the heads beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Protocol

from steelyard.accounting.keys import Account, PositionKey
from steelyard.operations.position_view import Detail, PositionRow
from steelyard.operations.read_positions import Exposures, PositionFilter, PositionsRead, PositionStore
from steelyard.operations.reading import Cursor, Page, Snapshot
from steelyard.operations.rounds import Rounds

Found = Snapshot[PositionsRead]
Asked = tuple[PositionKey, Collection[Account]]
"""A position, and the accounts whose heads are to be told with it."""


class ManyPositions(Protocol):
    """Reads positions for many callers at a time."""

    async def many(
        self, keys: Sequence[PositionKey], *, detail: Detail, heads: Collection[Account]
    ) -> Mapping[PositionKey, Found]:
        """What is found of each key, each in one snapshot with the heads of the accounts named."""
        ...


class BatchedPositions:
    """Fulfils the port `read_positions.PositionStore`: single positions in rounds, the rest as the store does."""

    def __init__(self, store: PositionStore, many: ManyPositions) -> None:
        self._store = store
        self._many = many
        self._rounds: Mapping[Detail, Rounds[Asked, Found]] = {
            detail: Rounds(partial(self._read, detail=detail), name="position-reads") for detail in Detail
        }

    async def position(self, key: PositionKey, *, detail: Detail, heads: Collection[Account]) -> Found:
        """One position, read after this was called."""
        return await self._rounds[detail].ask((key, heads))

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

    async def _read(self, asked: Sequence[Asked], *, detail: Detail) -> Sequence[Found]:
        keys = dict.fromkeys(key for key, _ in asked)
        heads = {account for _, accounts in asked for account in accounts}
        found = await self._many.many(list(keys), detail=detail, heads=heads)
        return [found[key] for key, _ in asked]
