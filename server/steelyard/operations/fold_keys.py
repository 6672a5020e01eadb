"""Folding one key for a build: checked entries in, a checked change out, or the check that failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Protocol, cast

from steelyard.accounting.entries import Entry
from steelyard.accounting.errors import InvariantBroken
from steelyard.accounting.fold import Checkpoint, FoldRules
from steelyard.accounting.keys import OrderKey, PositionKey
from steelyard.accounting.position import FiguresState, FoldState
from steelyard.accounting.round_trips import NO_SUMS, CostMethod, RoundTrip
from steelyard.operations.building import BuildError, BuildMode, ClaimedChunk, KeyPreview, KeyResult, KeyState
from steelyard.operations.check_builds import (
    FillSum,
    KeyCheckFailed,
    check_entries,
    check_fill_sums,
    check_quantity,
    check_state,
    check_sums,
    check_trips,
    exact_sum,
)
from steelyard.operations.ports import BookTransaction, Clock, KeyChange, OpenTransaction, StoredPosition
from steelyard.operations.refold import Cause, refold_key

EVENT_FILLS = 100
"""Fills that a position event names."""


@dataclass(frozen=True, slots=True)
class FoldedKey:
    """What folding a key came to."""

    seen: StoredPosition
    change: KeyChange | None
    """None: it failed, or comes out as it is stored."""
    result: KeyResult


class BuildBook(OpenTransaction, Protocol):
    """The book as builds read it."""

    async def trip_counts(self, keys: Sequence[PositionKey]) -> Mapping[PositionKey, int]:
        """How many round trips are stored of keys; those without any are left out."""
        ...

    async def signed_sum(self, key: PositionKey) -> tuple[Decimal, bool]:
        """The signed sum of all live fills of a key, and whether adjustments set its quantity as well."""
        ...


class CheckedBook:
    """The book as the fold reads it: every batch of entries is checked and counted, and the loop gets its turn."""

    def __init__(
        self, book: OpenTransaction, rules: FoldRules, *, clock: Clock, on_entries: Callable[[int], None]
    ) -> None:
        self._book = book
        self._rules = rules
        self._now = clock()
        self._on_entries = on_entries
        self._readings: list[AsyncGenerator[Sequence[Entry]]] = []
        self.sum = FillSum()

    async def last_trip_opened_before(self, key: PositionKey, order: OrderKey) -> RoundTrip | None:
        """As the book says."""
        return await self._book.last_trip_opened_before(key, order)

    async def trips_from(self, key: PositionKey, order: OrderKey) -> Sequence[RoundTrip]:
        """As the book says."""
        return await self._book.trips_from(key, order)

    async def checkpoint_before(self, key: PositionKey, order: OrderKey) -> Checkpoint | None:
        """As the book says."""
        return await self._book.checkpoint_before(key, order)

    async def last_fill_at(self, key: PositionKey, *, before: OrderKey) -> datetime | None:
        """As the book says."""
        return await self._book.last_fill_at(key, before=before)

    def entries(
        self, key: PositionKey, *, start: OrderKey | None, inclusive: bool, end: OrderKey | None = None
    ) -> AsyncIterator[Sequence[Entry]]:
        """Batches of checked entries; the next one is fetched while one is being folded."""
        reading = self._checked(self._book.entries(key, start=start, inclusive=inclusive, end=end))
        self._readings.append(reading)
        return reading

    async def close(self) -> None:
        """Ends what a fold that stopped early has left being fetched, so that its connection is free again."""
        for reading in self._readings:
            await reading.aclose()

    async def _checked(self, found: AsyncIterator[Sequence[Entry]]) -> AsyncGenerator[Sequence[Entry]]:
        waiting = asyncio.ensure_future(_next(found))
        try:
            while batch := await waiting:
                waiting = asyncio.ensure_future(_next(found))
                # The request is sent before the fold takes the processor.
                await asyncio.sleep(0)
                are_fills = check_entries(batch, self._rules, now=self._now)
                self.sum.add(batch, ids_max=EVENT_FILLS, are_fills=are_fills)
                yield batch
                self._on_entries(len(batch))
        finally:
            await asyncio.wait([waiting])


async def _next(found: AsyncIterator[Sequence[Entry]]) -> Sequence[Entry]:
    try:
        return await anext(found)
    except StopAsyncIteration:
        return ()


class KeyFolder:
    """Folds the keys of a chunk."""

    def __init__(self, claim: ClaimedChunk, clock: Clock, *, on_entries: Callable[[int], None]) -> None:
        self._is_full = claim.mode is BuildMode.FULL
        self._cause = Cause("build", str(claim.build_id))
        self._clock = clock
        self._on_entries = on_entries

    async def fold(
        self, book: BuildBook, stored: StoredPosition, *, rules: FoldRules | None, trip_count: int
    ) -> FoldedKey:
        """Folds a key that has `trip_count` stored trips; what fails a check comes back as a failed result."""
        key = stored.key
        if rules is None:
            return _failed(stored, BuildError("instrument", f"{key.instrument} or account {key.account} has no record"))
        if not self._is_full and stored.stale is None:
            as_it_is = KeyResult(key, KeyState.SUCCEEDED, 0, stored.version or None, stored.state.quantity, trip_count)
            return FoldedKey(stored, None, as_it_is)
        try:
            return await self._fold(book, stored, rules=rules, trip_count=trip_count)
        except KeyCheckFailed as failed:
            return _failed(stored, failed.error)
        except InvariantBroken as broken:
            check = "identity" if "identity" in broken.message else "quantities"
            return _failed(stored, BuildError(check, broken.message))

    async def _fold(self, book: BuildBook, stored: StoredPosition, *, rules: FoldRules, trip_count: int) -> FoldedKey:
        checked = CheckedBook(book, rules, clock=self._clock, on_entries=self._on_entries)
        changed = None if self._is_full or stored.stale is None else (stored.stale.first, stored.stale.last)
        try:
            # A refold only reads; what it reads with is checked.
            reading = cast(BookTransaction, checked)
            change = await refold_key(reading, stored=stored, rules=rules, changed=changed, cause=self._cause)
        finally:
            await checked.close()
        old, new = await _replaced(book, stored, change=change), _replacing(change)
        check_trips(new)
        check_state(change.state, rules)
        if self._is_full:
            # Whatever is stored counts for nothing: it may be what has to be repaired.
            check_sums(NO_SUMS, change.state.lifetime, replaced=(), replacing=new)
        else:
            check_sums(stored.state.lifetime, change.state.lifetime, replaced=old, replacing=new)
        await self._check_counted(book, stored, change=change, rules=rules, counted=checked.sum)
        trips_after = trip_count - len(old) + len(new)
        is_same = _is_same(stored, change, old=old, new=new)
        version = stored.version if is_same else stored.version + 1
        result = KeyResult(
            stored.key,
            KeyState.SUCCEEDED,
            fills=checked.sum.entries,
            version=version or None,
            quantity=change.state.quantity,
            round_trips=trips_after,
            preview=_preview(stored, change, is_same=is_same, trips=(trip_count, trips_after)),
        )
        if is_same:
            return FoldedKey(stored, None, result)
        applied = replace(change, fill_ids=tuple(checked.sum.first_ids), fill_count=checked.sum.fills)
        return FoldedKey(stored, applied, result)

    async def _check_counted(
        self, book: BuildBook, stored: StoredPosition, *, change: KeyChange, rules: FoldRules, counted: FillSum
    ) -> None:
        """What the fold made of the fills against their plain sums, read apart where only a part was folded."""
        state, before = change.state, stored.state
        is_extended = change.replace_trips_from is None
        if self._is_full or is_extended or not stored.version:
            was = before if is_extended else FoldState()
            check_fill_sums(was.lifetime, state.lifetime, counted=counted)
            delta, has_adjustments = exact_sum(was.quantity, counted.delta), counted.has_adjustments
            unmatched = exact_sum(state.lifetime.unmatched, -was.lifetime.unmatched)
        else:
            delta, has_adjustments = await book.signed_sum(stored.key)
            unmatched = state.lifetime.unmatched
        if not has_adjustments:
            check_quantity(state, rules.leg, delta=delta, unmatched=unmatched)


def _failed(stored: StoredPosition, error: BuildError) -> FoldedKey:
    return FoldedKey(stored, None, KeyResult(stored.key, KeyState.FAILED, errors=(error,)))


async def _replaced(book: BuildBook, stored: StoredPosition, *, change: KeyChange) -> Sequence[RoundTrip]:
    """The stored trips whose place the change's trips take."""
    if not stored.version:
        return ()
    if change.replace_trips_from is None:
        return () if stored.state.trip is None else (stored.state.trip,)
    until = change.replace_trips_until
    found = await book.trips_from(stored.key, change.replace_trips_from)
    return found if until is None else [trip for trip in found if trip.opened < until]


def _replacing(change: KeyChange) -> Sequence[RoundTrip]:
    if change.state.trip is None or change.replace_trips_until is not None:
        return change.trips
    return [*change.trips, change.state.trip]


def _is_same(stored: StoredPosition, change: KeyChange, *, old: Sequence[RoundTrip], new: Sequence[RoundTrip]) -> bool:
    """Whether a key comes out as it is stored: then its version does not step."""
    is_current = stored.figures_state is FiguresState.CURRENT
    return is_current and change.state == stored.state and list(old) == list(new)


def _preview(stored: StoredPosition, change: KeyChange, *, is_same: bool, trips: tuple[int, int]) -> KeyPreview:
    return KeyPreview(
        changes=not is_same,
        quantity_before=stored.state.quantity if stored.version else None,
        quantity_after=change.state.quantity,
        net_before=stored.state.lifetime.net(CostMethod.AVERAGE) if stored.version else None,
        net_after=change.state.lifetime.net(CostMethod.AVERAGE),
        round_trips_before=trips[0],
        round_trips_after=trips[1],
    )
