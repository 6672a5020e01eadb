"""Building positions: a chunk of keys is folded batch by batch and written under the chunk's fence.

Each key is locked against other builds, read in one snapshot without holding anyone up, folded in slices, checked, and
written in a short transaction if neither its version nor what is stale about it has moved meanwhile; else it is folded
again, the third time under the lock of its row. Small keys share transactions; where one of them cannot be written,
they are built one by one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

from steelyard.accounting.errors import FenceLost, SteelyardError, StoreUnavailable, VersionMismatch
from steelyard.accounting.fold import FoldRules
from steelyard.accounting.keys import PositionKey
from steelyard.operations.building import (
    BuildError,
    ChunkProgress,
    ClaimedChunk,
    KeyResult,
    KeyState,
    PlannedKey,
)
from steelyard.operations.fold_keys import BuildBook, FoldedKey, KeyFolder
from steelyard.operations.ports import Clock, KeyChange, StoredPosition

LANES = 2
"""Batches worked on side by side."""
BATCH_KEYS = 200
BATCH_ENTRIES = 20_000
"""Keys and entries that share a transaction."""
OPTIMISTIC_TRIES = 2
TRIES_MAX = 10
"""How often a key is folded anew because writers were faster, before it fails."""
REPORT_INTERVAL_S = 0.25
MAX_REPORT_FAILURES = 20


class ChunkTransaction(Protocol):
    """A write under the chunk's fence."""

    @property
    def book(self) -> BuildBook:
        """The transaction on the book."""

    async def clear_stale(self, folded: Mapping[PositionKey, int]) -> None:
        """Forgets stale ranges (by their touch) whose fold changed nothing."""
        ...

    async def settle(self, results: Sequence[KeyResult]) -> None:
        """Notes what became of keys; a failed key's stale range waits from then on for a build that is asked for."""
        ...


class Lane(Protocol):
    """One of the ways in which a chunk's keys are worked on side by side."""

    def holding(self, keys: Sequence[PositionKey]) -> AbstractAsyncContextManager[None]:
        """Waits until no other build is at these keys, and keeps others off them."""
        ...

    def snapshot(self) -> AbstractAsyncContextManager[BuildBook]:
        """One consistent view of the book that holds nobody up."""
        ...


class ChunkSession(Protocol):
    """A worker's hold on a chunk."""

    @property
    def is_wanted(self) -> bool:
        """Whether nobody had cancelled the build when it was looked at last."""

    def lane(self) -> AbstractAsyncContextManager[Lane]:
        """A lane with a connection of its own."""
        ...

    def writing(self) -> AbstractAsyncContextManager[ChunkTransaction]:
        """A transaction under the fence. Raises `FenceLost`."""
        ...

    async def report(self, progress: ChunkProgress) -> None:
        """Renews the lease and adds progress to the build. Raises `FenceLost`."""
        ...

    async def finish(self, *, rest: KeyState, error: BuildError | None) -> None:
        """Ends the chunk: keys not settled become `rest`; the last chunk ends the build."""
        ...


class ChunkWork(Protocol):
    """Where chunks are claimed."""

    async def claim(self, build_id: UUID, chunk: int) -> ClaimedChunk | None:
        """Takes a chunk over from whoever had it; None where it is done."""
        ...

    def session(self, claim: ClaimedChunk) -> AbstractAsyncContextManager[ChunkSession]:
        """A session for the chunk."""
        ...


@dataclass(frozen=True, slots=True)
class _Outcome:
    result: KeyResult
    change: KeyChange | None
    """None: nothing is written."""
    seen: StoredPosition
    rules: FoldRules | None
    """By which it was folded."""


class BuildPositions:
    """Folds chunks of builds."""

    def __init__(self, work: ChunkWork, clock: Clock) -> None:
        self._work = work
        self._clock = clock

    async def run_chunk(self, build_id: UUID, chunk: int) -> None:
        """Builds the keys of a chunk that are not finished. Raises `FenceLost` where another worker took it over."""
        claim = await self._work.claim(build_id, chunk)
        if claim is None:
            return
        async with self._work.session(claim) as session:
            run = _ChunkRun(claim, session, clock=self._clock)
            await run.all_keys()


class _ChunkRun:
    """One pass over a chunk: two lanes take batch after batch; one folds while the other waits for the store."""

    def __init__(self, claim: ClaimedChunk, session: ChunkSession, *, clock: Clock) -> None:
        self._claim = claim
        self._session = session
        self._clock = clock
        self._progress = ChunkProgress()
        self._is_late = False
        self._batches = batches(claim.keys)

    async def all_keys(self) -> None:
        """Builds batch after batch until all are done, the build is cancelled, or its time is over."""
        lanes = {asyncio.ensure_future(self._lane()) for _ in range(min(LANES, len(self._claim.keys)))}
        reporting = asyncio.ensure_future(self._report_regularly())
        try:
            await _until_done_or_failed(lanes, watched=reporting)
        finally:
            for task in (reporting, *lanes):
                task.cancel()
            await asyncio.wait((reporting, *lanes))
        for task in (reporting, *lanes):
            if not task.cancelled():
                task.result()
        await self._report()
        await self._finish()

    async def _finish(self) -> None:
        rest, error = KeyState.CANCELLED, None
        if self._is_late:
            rest, error = KeyState.FAILED, BuildError("internal", "the build took longer than it may")
        await self._session.finish(rest=rest, error=error)

    async def _lane(self) -> None:
        async with self._session.lane() as lane:
            for batch in self._batches:
                self._is_late = self._is_late or self._clock() >= self._claim.deadline
                if self._is_late or not self._session.is_wanted:
                    return
                await _BatchRun(self._claim, self._session, lane=lane, clock=self._clock, progress=self._progress).run(
                    batch
                )

    async def _report_regularly(self) -> None:
        failures = 0
        while True:
            await asyncio.sleep(REPORT_INTERVAL_S)
            try:
                await self._report()
                failures = 0
            except StoreUnavailable:
                failures += 1
                if failures > MAX_REPORT_FAILURES:
                    raise

    async def _report(self) -> None:
        await self._session.report(self._progress.taken())


class _BatchRun:
    """One batch of keys: locked, folded, written."""

    def __init__(
        self, claim: ClaimedChunk, session: ChunkSession, *, lane: Lane, clock: Clock, progress: ChunkProgress
    ) -> None:
        self._session = session
        self._lane = lane
        self._is_trial = claim.is_validate_only
        self._progress = progress
        self._folder = KeyFolder(claim, clock, on_entries=self._count)
        self._planned = 0
        self._counted = 0

    def _count(self, entries: int) -> None:
        """Counts folded entries towards the batch's planned ones, so that a key folded twice does not count twice."""
        more = min(entries, self._planned - self._counted)
        self._counted += more
        self._progress.fills_done += more

    async def run(self, batch: Sequence[PlannedKey]) -> None:
        """Builds the batch."""
        keys = [planned.key for planned in batch]
        self._planned = sum(planned.fills for planned in batch)
        self._progress.current = keys[0]
        async with self._lane.holding(keys):
            try:
                results = await self._build(keys)
            except (FenceLost, StoreUnavailable):
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the build goes on with the other keys
                results = await self._one_by_one(keys, error)
        self._count(self._planned)
        self._progress.keys_done += len(results)
        self._progress.keys_failed += sum(result.state is KeyState.FAILED for result in results)

    async def _one_by_one(self, keys: Sequence[PositionKey], error: Exception) -> list[KeyResult]:
        """What a batch came to that could not be written as a whole."""
        if len(keys) == 1:
            told = error.message if isinstance(error, SteelyardError) else f"unexpected {type(error).__name__}"
            failed = KeyResult(keys[0], KeyState.FAILED, errors=(BuildError("internal", told),))
            async with self._session.writing() as transaction:
                await transaction.settle([failed])
            return [failed]
        results = []
        for key in keys:
            try:
                results += await self._build([key])
            except (FenceLost, StoreUnavailable):
                raise
            except Exception as alone:  # noqa: BLE001
                results += await self._one_by_one([key], alone)
        return results

    async def _build(self, keys: Sequence[PositionKey]) -> list[KeyResult]:
        """Folds keys and writes them; those that moved meanwhile are folded again."""
        results: list[KeyResult] = []
        waiting = list(keys)
        for attempt in range(1, TRIES_MAX + 1):
            if attempt <= OPTIMISTIC_TRIES:
                async with self._lane.snapshot() as book:
                    outcomes = await self._fold(book, waiting)
                settled = await self._write(outcomes)
            else:
                settled = await self._fold_under_lock(waiting[0])
            results += settled
            done = {result.key for result in settled}
            waiting = [key for key in waiting if key not in done]
            if not waiting:
                return results
        raise VersionMismatch("other writers were always faster")

    async def _fold(self, book: BuildBook, keys: Sequence[PositionKey]) -> list[_Outcome]:
        stored = await book.peek_positions(keys)
        trips = await book.trip_counts(keys)
        rules = await _rules(book, keys)
        outcomes = []
        for key in keys:
            self._progress.current = key
            folded = await self._folder.fold(book, stored[key], rules=rules[key], trip_count=trips.get(key, 0))
            outcomes.append(_outcome(folded, rules=rules[key], is_trial=self._is_trial))
        return outcomes

    async def _write(self, outcomes: Sequence[_Outcome]) -> list[KeyResult]:
        """Writes those outcomes whose keys have not moved since they were read."""
        try:
            async with self._session.writing() as transaction:
                keys = [outcome.seen.key for outcome in outcomes]
                now = await transaction.book.lock_positions(keys)
                rules = await _rules(transaction.book, keys)
                unmoved = [
                    outcome
                    for key, outcome in zip(keys, outcomes, strict=True)
                    if not _has_moved(outcome.seen, now[key]) and outcome.rules == rules[key]
                ]
                await self._write_unmoved(transaction, unmoved)
                return [outcome.result for outcome in unmoved]
        except VersionMismatch:
            return []

    async def _write_unmoved(self, transaction: ChunkTransaction, outcomes: Sequence[_Outcome]) -> None:
        await transaction.book.apply([outcome.change for outcome in outcomes if outcome.change is not None])
        same = {
            outcome.seen.key: outcome.seen.stale.touch
            for outcome in outcomes
            if outcome.change is None and outcome.seen.stale is not None and outcome.result.state is KeyState.SUCCEEDED
        }
        if same and not self._is_trial:
            await transaction.clear_stale(same)
        await transaction.settle([outcome.result for outcome in outcomes])

    async def _fold_under_lock(self, key: PositionKey) -> list[KeyResult]:
        try:
            async with self._session.writing() as transaction:
                await transaction.book.lock_positions([key])
                outcomes = await self._fold(transaction.book, [key])
                await self._write_unmoved(transaction, outcomes)
                return [outcome.result for outcome in outcomes]
        except VersionMismatch:
            return []


async def _until_done_or_failed(tasks: set[asyncio.Task[None]], *, watched: asyncio.Task[None]) -> None:
    """Waits until all tasks are done, or one of them or the watched one has ended otherwise."""
    left = tasks
    while left:
        done, _ = await asyncio.wait((*left, watched), return_when=asyncio.FIRST_COMPLETED)
        if watched in done or any(task.cancelled() or task.exception() for task in done):
            return
        left = left - done


def batches(keys: Sequence[PlannedKey]) -> Iterator[Sequence[PlannedKey]]:
    """Keys in groups that share a transaction."""
    group: list[PlannedKey] = []
    entries = 0
    for planned in keys:
        if group and (len(group) >= BATCH_KEYS or entries + planned.fills > BATCH_ENTRIES):
            yield group
            group, entries = [], 0
        group.append(planned)
        entries += planned.fills
    if group:
        yield group


async def _rules(book: BuildBook, keys: Sequence[PositionKey]) -> Mapping[PositionKey, FoldRules | None]:
    """What folding keys depends on; None where the account or the instrument has no record."""
    accounts = await book.accounts(sorted({key.account for key in keys}), make=None)
    instruments = await book.instruments(sorted({key.instrument for key in keys}))
    return {
        key: FoldRules(instruments[key.instrument], key.leg, accounts[key.account].lot_method)
        if key.instrument in instruments and key.account in accounts
        else None
        for key in keys
    }


def _has_moved(seen: StoredPosition, now: StoredPosition) -> bool:
    touches = [None if stored.stale is None else stored.stale.touch for stored in (seen, now)]
    return seen.version != now.version or touches[0] != touches[1]


def _outcome(folded: FoldedKey, *, rules: FoldRules | None, is_trial: bool) -> _Outcome:
    if is_trial:
        return _Outcome(replace(folded.result, version=folded.seen.version or None), None, folded.seen, rules)
    return _Outcome(replace(folded.result, preview=None), folded.change, folded.seen, rules)
