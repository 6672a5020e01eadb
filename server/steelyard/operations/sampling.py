"""Looking at a few positions all the time, one after the other, so that each has its turn between two runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from steelyard.accounting.keys import Account, InstrumentName
from steelyard.operations.reconcile import Reconcile

Place = tuple[Account, InstrumentName]


class SampleStore(Protocol):
    """Where positions are found to look at."""

    async def sample(self, after: Place | None, *, size: int) -> Sequence[Place]:
        """The next few instruments with positions, after those looked at last."""
        ...


class Sampling:
    """Goes round all positions, a few at a time."""

    def __init__(self, reconcile: Reconcile, store: SampleStore, *, size: int, is_fixing: bool) -> None:
        """`size` 0: looks at none."""
        self._reconcile = reconcile
        self._store = store
        self._size = size
        self._is_fixing = is_fixing
        self._after: Place | None = None

    async def next(self) -> int:
        """Looks at the next few; how many instruments that were."""
        if not self._size:
            return 0
        pairs = await self._store.sample(self._after, size=self._size)
        self._after = pairs[-1] if pairs else None
        await self._reconcile.sample(pairs, is_fixing=self._is_fixing)
        return len(pairs)
