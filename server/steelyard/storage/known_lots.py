"""The open lots of keys written lately, by (key, version): a hot key's pile is not read again on every commit.

What a version of a position holds never changes, so what is known here is either exactly right or not asked for. Only
committed versions are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from decimal import Decimal

from steelyard.accounting.keys import OrderKey, PositionKey
from steelyard.accounting.lots import Lot
from steelyard.accounting.position import FoldState

LOTS_MAX = 200_000
"""Lots kept in all (about 100 bytes each beside the values they share with the fold)."""


Identity = tuple[int, OrderKey | None, Decimal]
"""A version with the newest entry it folds and its quantity: another database may have the same version of a key."""


def identity_of(state: FoldState, *, version: int) -> Identity:
    """What tells a stored version of a position from any other."""
    return (version, state.last, state.quantity)


class KnownLots:
    """A bounded memory of piles, the least recently used forgotten first."""

    def __init__(self, *, lots_max: int = LOTS_MAX) -> None:
        self._piles: OrderedDict[PositionKey, tuple[Identity, tuple[Lot, ...]]] = OrderedDict()
        self._lots_max = lots_max
        self._count = 0

    def of(self, key: PositionKey, identity: Identity) -> tuple[Lot, ...] | None:
        """The lots of a version of a position; None when they are not known."""
        known = self._piles.get(key)
        if known is None or known[0] != identity:
            return None
        self._piles.move_to_end(key)
        return known[1]

    def keep(self, piles: Iterable[tuple[PositionKey, Identity, tuple[Lot, ...]]]) -> None:
        """Keeps what committed versions hold."""
        for key, identity, lots in piles:
            known = self._piles.pop(key, None)
            self._count += len(lots) - (0 if known is None else len(known[1]))
            self._piles[key] = (identity, lots)
        while self._count > self._lots_max:
            _, (_, forgotten) = self._piles.popitem(last=False)
            self._count -= len(forgotten)
