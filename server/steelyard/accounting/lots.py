"""Lots: the still open parts of opening fills, and which of them a reduction takes first.

The lot method is one table from enum to (how a lot joins the pile, which end is taken). FIFO takes the oldest in fold
order, LIFO the newest, HIFO the highest price first for longs and the lowest for shorts, ties FIFO.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol, cast

from steelyard.accounting.keys import OrderKey


class LotMethod(StrEnum):
    """Which open lot a reduction takes first."""

    FIFO = "FIFO"
    LIFO = "LIFO"
    HIFO = "HIFO"


@dataclass(frozen=True, slots=True)
class Lot:
    """The still open part of one opening entry."""

    opened: OrderKey
    quantity: Decimal
    """What is still open, greater than zero."""
    original_quantity: Decimal
    """What the entry opened."""
    price: Decimal

    @property
    def opened_at(self) -> datetime:
        """When the lot was opened."""
        return self.opened.executed_at


OpenLot = list[Any]
"""[quantity left, price, original quantity, executed_at, source_sequence, entry_id]: a lot while it is being folded;
its quantities are signed like the holding."""


class LotPile:
    """Open lots of one direction in the order in which they are taken, in the cheapest form that a fold allows."""

    __slots__ = ("add", "first", "items", "take")

    items: deque[OpenLot] | list[OpenLot]
    first: int
    """The index in `items` of the lot that is first in turn."""
    add: Callable[[OpenLot], None]
    """Puts an opened lot where the method wants it."""
    take: Callable[[], OpenLot]
    """Removes the lot that is first in turn."""

    def __init__(self, method: LotMethod, *, is_long: bool, lots: Iterable[Lot] = ()) -> None:
        self.first, self.items, self.add, self.take = _PILES[method](is_long=is_long)
        for lot in sorted(lots, key=_fold_order):
            sizes = lot.quantity, lot.original_quantity
            left, original = sizes if is_long else map(Decimal.copy_negate, sizes)
            self.add([left, lot.price, original, *lot.opened])

    def lots(self) -> tuple[Lot, ...]:
        """The open lots in fold order."""
        found = [Lot(OrderKey(*item[3:]), item[0].copy_abs(), item[2].copy_abs(), item[1]) for item in self.items]
        return tuple(sorted(found, key=_fold_order))


def _fold_order(lot: Lot) -> OrderKey:
    return lot.opened


Pile = tuple[int, "deque[OpenLot] | list[OpenLot]", Callable[[OpenLot], None], Callable[[], OpenLot]]


def _fifo(*, is_long: bool) -> Pile:
    queue: deque[OpenLot] = deque()
    return 0, queue, queue.append, queue.popleft


def _lifo(*, is_long: bool) -> Pile:
    stack: list[OpenLot] = []
    return -1, stack, stack.append, stack.pop


def _hifo(*, is_long: bool) -> Pile:
    ranked: list[OpenLot] = []
    rank = _price if is_long else _minus_price

    def add(lot: OpenLot) -> None:
        # The best is kept last. Among equal prices the oldest is taken first, so a newcomer goes before its equals.
        ranked.insert(bisect_left(ranked, rank(lot), key=rank), lot)

    return -1, ranked, add, ranked.pop


def _price(lot: OpenLot) -> Decimal:
    return cast(Decimal, lot[1])


def _minus_price(lot: OpenLot) -> Decimal:
    return _price(lot).copy_negate()


class _MakePile(Protocol):
    def __call__(self, *, is_long: bool) -> Pile: ...


_PILES: dict[LotMethod, _MakePile] = {
    LotMethod.FIFO: _fifo,
    LotMethod.LIFO: _lifo,
    LotMethod.HIFO: _hifo,
}
