"""What was traded: round trips by account, one of them in detail, and the open lots of a position."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from steelyard.accounting.entries import Entry
from steelyard.accounting.errors import NotFound
from steelyard.accounting.execution_pairs import TripExplanation, explain_trip
from steelyard.accounting.fold import FoldRules
from steelyard.accounting.keys import Account, Book, InstrumentName, Leg, PositionKey
from steelyard.accounting.lots import Lot
from steelyard.accounting.round_trips import Direction
from steelyard.operations.reading import AS_IT_IS, Answer, Cursor, Freshness, Page, Reading, Snapshot
from steelyard.operations.trip_view import TripView

EXPLAINED_AT_ONCE = 1_000
"""Entries that are explained on the event loop; more go to a thread."""
EXPLAINED_ENTRIES_MAX = 50_000
"""Entries of a trip that are folded again to explain it; a longer one is told by its figures only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TripFilter:
    """Which round trips of an account are meant; conditions are joined by and, None means any."""

    account: Account
    book: Book | None = None
    instrument: InstrumentName | None = None
    leg: Leg | None = None
    direction: Direction | None = None
    is_open: bool | None = None
    closed_from: datetime | None = None
    """At or after; leaves out open ones."""
    closed_before: datetime | None = None
    """Before; leaves out open ones."""

    @property
    def wants_open(self) -> bool:
        """Whether an open trip may be meant."""
        return self.is_open is not False and self.closed_from is None and self.closed_before is None

    @property
    def wants_closed(self) -> bool:
        """Whether a closed trip may be meant."""
        return self.is_open is not True


@dataclass(frozen=True, slots=True)
class TripEntries:
    """A trip and its live entries in fold order, from its opening up to that of the next one.

    None where they are too many, or where entries of the key are stored that no fold has seen yet: they would give
    another trip than the one that is stored.
    """

    view: TripView
    entries: Sequence[Entry] | None


@dataclass(frozen=True, slots=True)
class TripDetail:
    """A trip, what each of its fills did, and which exit closed which entry; None where it cannot be explained now."""

    view: TripView
    explanation: TripExplanation | None
    unvalued: frozenset[str] = frozenset()
    """Fills whose fee is in another currency and has no known value."""


class TripStore(Protocol):
    """Reads round trips and lots, each answer in one snapshot with the heads of the accounts named."""

    async def trips(
        self, wanted: TripFilter, *, size: int, after: Cursor | None, heads: Collection[Account]
    ) -> Snapshot[Page[TripView]]:
        """Open trips, the latest opened first; then closed ones, the latest closed first."""
        ...

    async def trip(
        self, account: Account, trip_id: UUID, *, entries_max: int, heads: Collection[Account]
    ) -> Snapshot[TripEntries | None]:
        """One trip with its entries, unless these are more than `entries_max`."""
        ...

    async def lots(
        self, key: PositionKey, *, size: int, after: Cursor | None, heads: Collection[Account]
    ) -> Snapshot[Page[Lot] | None]:
        """Open lots in fold order; None where there is no such position."""
        ...


class ReadTrips:
    """Answers questions about round trips and lots."""

    def __init__(self, store: TripStore, reading: Reading) -> None:
        self._store = store
        self._reading = reading

    async def page(
        self, wanted: TripFilter, *, size: int, after: Cursor | None = None, freshness: Freshness = AS_IT_IS
    ) -> Answer[Page[TripView]]:
        """A page of round trips: open ones, the latest opened first; then closed ones, the latest closed first."""
        return await self._reading.answer(
            lambda heads: self._store.trips(wanted, size=size, after=after, heads=heads),
            accounts=(wanted.account,),
            freshness=freshness,
        )

    async def get(self, account: Account, trip_id: UUID, *, freshness: Freshness = AS_IT_IS) -> Answer[TripDetail]:
        """One round trip with its fills and execution pairs. Raises `NotFound`."""
        answer = await self._reading.answer(
            lambda heads: self._store.trip(account, trip_id, entries_max=EXPLAINED_ENTRIES_MAX, heads=heads),
            accounts=(account,),
            freshness=freshness,
        )
        if answer.value is None:
            raise NotFound("round trip", f"{account}/{trip_id}")
        entries = answer.value.entries or ()
        if len(entries) > EXPLAINED_AT_ONCE:
            return Answer(await asyncio.to_thread(_explained, answer.value), answer.seen)
        return Answer(_explained(answer.value), answer.seen)

    async def lots(
        self, key: PositionKey, *, size: int, after: Cursor | None = None, freshness: Freshness = AS_IT_IS
    ) -> Answer[Page[Lot]]:
        """A page of the open lots of a position in fold order. Raises `NotFound` where its key never had an entry."""
        answer = await self._reading.answer(
            lambda heads: self._store.lots(key, size=size, after=after, heads=heads),
            accounts=(key.account,),
            freshness=freshness,
        )
        if answer.value is None:
            raise NotFound("position", "/".join(key))
        return Answer(answer.value, answer.seen)


def _explained(read: TripEntries) -> TripDetail:
    view, entries = read.view, read.entries
    if entries is None:
        return TripDetail(view, None)
    rules = FoldRules(view.instrument, view.key.leg, view.lot_method)
    # The rows of a store are bare; what explains them reads columns by name.
    named = [Entry(*entry) for entry in entries]
    unvalued = frozenset(entry.entry_id for entry in named if entry.unvalued_currency is not None)
    return TripDetail(view, explain_trip(view.trip, named, rules), unvalued)
