"""What is held: positions by key, by filter, many at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from steelyard.accounting.errors import InvalidField, NotFound
from steelyard.accounting.keys import Account, Book, InstrumentName, Leg, PositionKey
from steelyard.accounting.marks import STALE_AFTER, MarkState, mark_state
from steelyard.accounting.units import ZERO
from steelyard.operations.ports import Clock
from steelyard.operations.position_view import Detail, PositionRow, PositionView
from steelyard.operations.reading import AS_IT_IS, Answer, Cursor, Freshness, Page, Reading, Snapshot

BATCH_MAX = 1_000
"""Positions that one question may name."""

Exposures = Mapping[tuple[Account, str], Decimal]
"""Gross exposure by account and settle currency."""


class PositionSide(StrEnum):
    """The sign of a quantity, in words."""

    FLAT = "FLAT"
    LONG = "LONG"
    SHORT = "SHORT"


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionFilter:
    """Which positions are meant; conditions are joined by and, an empty one means any."""

    accounts: Sequence[Account] = ()
    book: Book | None = None
    instruments: Sequence[InstrumentName] = ()
    legs: Sequence[Leg] = ()
    side: PositionSide | None = None
    size_min: Decimal | None = None
    """At or above, of |quantity|."""
    size_max: Decimal | None = None
    """At or below, of |quantity|."""
    is_open_only: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PositionsRead:
    """Positions of one snapshot, and in FULL detail the gross exposure of their accounts."""

    rows: Sequence[PositionRow]
    exposures: Exposures


class PositionStore(Protocol):
    """Reads positions, each answer in one snapshot with the heads of the accounts named."""

    async def position(
        self, key: PositionKey, *, detail: Detail, heads: Collection[Account]
    ) -> Snapshot[PositionsRead]:
        """One position, or none."""
        ...

    async def batch(
        self, keys: Sequence[PositionKey], *, detail: Detail, heads: Collection[Account]
    ) -> Snapshot[PositionsRead]:
        """Positions by their keys, in the order of these; those that do not exist are left out."""
        ...

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
        ...


def _leave_it(stale: Iterable[InstrumentName]) -> None:
    pass


class ReadPositions:
    """Answers questions about what is held."""

    def __init__(
        self,
        store: PositionStore,
        reading: Reading,
        *,
        clock: Clock,
        stale_after: timedelta = STALE_AFTER,
        met_stale: Callable[[Iterable[InstrumentName]], None] = _leave_it,
    ) -> None:
        """`met_stale` is told of instruments that are held at a stale or missing price; it must return at once."""
        self._store = store
        self._reading = reading
        self._clock = clock
        self._stale_after = stale_after
        self._met_stale = met_stale

    async def get(
        self, key: PositionKey, *, detail: Detail = Detail.FULL, freshness: Freshness = AS_IT_IS
    ) -> Answer[PositionView]:
        """One position. Raises `NotFound` where its key never had an entry."""
        answer = await self._reading.answer(
            lambda heads: self._store.position(key, detail=detail, heads=heads),
            accounts=(key.account,),
            freshness=freshness,
        )
        views = self._views(answer.value)
        if not views:
            raise NotFound("position", "/".join(key))
        return Answer(views[0], answer.seen)

    async def batch(
        self, keys: Sequence[PositionKey], *, detail: Detail = Detail.BASIC, freshness: Freshness = AS_IT_IS
    ) -> Answer[Mapping[PositionKey, PositionView]]:
        """Up to 1,000 positions of one snapshot, in the order of the keys; those that do not exist are left out.

        Raises `InvalidField` for no key, too many, or one that stands twice.
        """
        if not 1 <= len(keys) <= BATCH_MAX:
            raise InvalidField("keys", f"must be 1 to {BATCH_MAX:,}")
        if len(set(keys)) != len(keys):
            raise InvalidField("keys", "must not name a position twice")
        answer = await self._reading.answer(
            lambda heads: self._store.batch(keys, detail=detail, heads=heads),
            accounts={key.account for key in keys},
            freshness=freshness,
        )
        return Answer({view.row.key: view for view in self._views(answer.value)}, answer.seen)

    async def page(
        self,
        wanted: PositionFilter,
        *,
        size: int,
        after: Cursor | None = None,
        detail: Detail = Detail.BASIC,
        freshness: Freshness = AS_IT_IS,
    ) -> Answer[Page[PositionView]]:
        """A page of positions by account, book, instrument and leg."""
        answer = await self._reading.answer(
            lambda heads: self._store.page(wanted, size=size, after=after, detail=detail, heads=heads),
            accounts=wanted.accounts,
            freshness=freshness,
        )
        page, exposures = answer.value
        views = self._views(PositionsRead(page.rows, exposures))
        return Answer(Page(views, page.next_after), answer.seen)

    def view(self, row: PositionRow, *, exposures: Exposures) -> PositionView:
        """A row read now."""
        now = self._clock()
        state = mark_state(row.mark, now=now, stale_after=self._stale_after)
        if state is not MarkState.FRESH and (row.quantity or row.pending_quantity):
            self._met_stale((row.key.instrument,))
        exposure = exposures.get((row.key.account, row.instrument.settle_currency), ZERO)
        return PositionView(row, now, state, exposure)

    def _views(self, read: PositionsRead) -> list[PositionView]:
        return [self.view(row, exposures=read.exposures) for row in read.rows]
