"""Merging a file part by part: parsed ahead, staged on one lane while the part before is merged on the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

from steelyard.accounting import keys
from steelyard.operations.importing import (
    FilePart,
    ImportCounts,
    MergedPart,
    MergePlan,
    RowCategory,
    RowResult,
    StagedImport,
    StoreResult,
    Turn,
)

LANES = 2
"""Parts of a file in the making: one is staged while the one before it goes into the book."""
PARTS_AHEAD_MAX = 4
"""Parts that the parser may be ahead of the merge."""


@dataclass(slots=True)
class Tally:
    """What has been found out about a file so far."""

    results_max: int
    counts: ImportCounts = field(default_factory=ImportCounts)
    results: list[RowResult] = field(default_factory=list)
    unseen: list[StoreResult] = field(default_factory=list)
    """Results of the store, whose raw rows are still to be read from the file."""
    commits: dict[keys.Account, int] = field(default_factory=dict)

    def add_parsed(self, part: FilePart) -> None:
        """Counts what the parser said of a part and keeps what there is room for."""
        warnings = sum(said.category == RowCategory.WARNING for said in part.results)
        rejected = len(part.results) - warnings
        self.counts = self.counts.plus(ImportCounts(part.row_count, rejected=rejected, warnings=warnings))
        self.results.extend(
            RowResult(said.row_number, RowCategory(said.category), said.field, said.reason, said.raw)
            for said in part.results[: max(self.results_max - len(self.results), 0)]
        )

    def add(self, merged: MergedPart) -> None:
        """Counts what the store made of a part and keeps what there is room for."""
        self.counts = self.counts.plus(merged.counts)
        self.unseen.extend(merged.results[: max(self.results_max - len(self.unseen), 0)])
        self.commits.update((commit.account, commit.seq) for commit in merged.commits)


class Merger:
    """Fills a part on one lane while the part before it is merged on the other."""

    def __init__(self, session: StagedImport, plan: MergePlan, *, tally: Tally, rows_max: int) -> None:
        self._session = session
        self._plan = plan
        self._tally = tally
        self._rows_max = rows_max
        # What is only tried is one transaction, so it has one lane.
        self._free = deque(range(1 if plan.is_validate_only else LANES))
        self._merging: deque[tuple[int, asyncio.Task[MergedPart]]] = deque()
        self._staged = 0
        self._turn: Turn | None = None

    async def take(self, part: FilePart) -> None:
        """Stages a parsed part; what was staged before is merged first where both would be too many rows."""
        if self._staged and self._staged + part.row_count > self._rows_max:
            await self._send_off()
        self._tally.add_parsed(part)
        if part.lines:
            lane = await self._session.lane(self._free[0])
            await lane.stage(part.lines)
            self._staged += part.row_count

    async def finish(self) -> None:
        """Merges what is left and waits for all of it."""
        if self._staged:
            await self._send_off()
        while self._merging:
            await self._collect()

    async def abandon(self) -> None:
        """Stops what is still being merged; it is rolled back."""
        tasks = [task for _, task in self._merging]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send_off(self) -> None:
        number = self._free.popleft()
        lane = await self._session.lane(number)
        self._turn = Turn(self._turn)
        self._merging.append((number, asyncio.ensure_future(lane.merge(self._plan, turn=self._turn))))
        self._staged = 0
        if not self._free:
            await self._collect()

    async def _collect(self) -> None:
        """Waits for the part sent off first and counts what it came to."""
        number, task = self._merging[0]
        self._tally.add(await task)
        self._merging.popleft()
        self._free.append(number)


async def read_ahead(
    first: FilePart, parts: AsyncIterator[FilePart], *, limit: int = PARTS_AHEAD_MAX
) -> AsyncGenerator[FilePart]:
    """The first part and the others, read on in the background while one is being worked on."""
    waiting: asyncio.Queue[FilePart | None] = asyncio.Queue(limit)

    async def read() -> None:
        try:
            async for part in parts:
                await waiting.put(part)
        finally:
            await waiting.put(None)

    reading = asyncio.ensure_future(read())
    try:
        yield first
        while (part := await waiting.get()) is not None:
            yield part
        await reading
    finally:
        reading.cancel()
        await asyncio.wait([reading])
