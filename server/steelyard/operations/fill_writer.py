"""The fill writer: one task per process that commits whatever fills wait, many in one transaction.

Problem: a commit costs a disk flush whatever it holds. Choice: callers hand their fill in and wait; the writer takes
what is there, at most `ROUND_MAX` and at most a quarter from one caller while others wait, and commits it as one
transaction. An idle writer commits one fill at once; a loaded one finds a larger round after every commit, so the size
adapts by itself. A caller's cancel abandons only his wait. If the data of a round is refused, the round is cut in
halves until the poisoned fill stands alone; if another writer was faster, it is tried again three times.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from steelyard.accounting.entries import Fill
from steelyard.accounting.errors import QueueFull, SteelyardError, StoreUnavailable, VersionMismatch
from steelyard.operations.apply_fills import Applied, FillReceipt
from steelyard.operations.observing import Origin, origin, tries, work_for

ROUND_MAX = 2_000
"""Fills in one transaction."""
SHARE_OF_ONE_CALLER = 4
"""While others wait, one caller gets at most this part (one quarter) of a round."""
WAITING_MAX = 20_000
"""Fills that may wait; more are refused with QUEUE_FULL."""
RETRY_DELAYS_S = (0.1, 0.2, 0.4)

Result = FillReceipt | SteelyardError
T = TypeVar("T")


@dataclass(slots=True)
class _Waiting:
    fill: Fill
    caller: str
    answer: asyncio.Future[Result]
    origin: Origin


class FillWriter:
    """Collects fills that share the default options and commits them in rounds."""

    def __init__(self, commit: Callable[[Sequence[Fill]], Awaitable[Applied]]) -> None:
        """`commit` writes a round in one transaction, with its own retries."""
        self._commit = commit
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._round: Sequence[_Waiting] = ()
        self._is_closing = False
        self.task: asyncio.Task[None] | None = None
        """Runs until `close`; when it ends by itself, the process has to end with what it raises."""

    def start(self) -> None:
        """Begins to commit what is submitted."""
        self.task = asyncio.create_task(self._run(), name="fill_writer")

    async def close(self) -> None:
        """Commits what still waits, then ends."""
        self._is_closing = True
        self._arrived.set()
        if self.task is not None:
            # One that died has told its supervisor of it.
            await asyncio.gather(self.task, return_exceptions=True)

    async def submit(self, fills: Sequence[Fill], *, caller: str) -> list[Result]:
        """Records fills and waits until they are committed. Raises `QueueFull` when too many wait already."""
        if self._is_closing:
            raise StoreUnavailable("the service is shutting down")
        if len(self._queue) + len(fills) > WAITING_MAX:
            raise QueueFull(f"{len(self._queue)} fills wait already")
        loop = asyncio.get_running_loop()
        whose = origin.get()
        waiting = [_Waiting(fill, caller, loop.create_future(), whose) for fill in fills]
        self._queue.extend(waiting)
        self._arrived.set()
        return [await item.answer for item in waiting]

    async def _run(self) -> None:
        try:
            await self._commit_rounds()
        finally:
            # Whoever still waits now would wait for ever: what became of his fill is not known.
            self._is_closing = True
            left = [*self._round, *self._queue]
            self._queue.clear()
            _answer(left, [StoreUnavailable("the fill writer has ended")] * len(left))

    async def _commit_rounds(self) -> None:
        while True:
            await self._arrived.wait()
            if not self._queue:
                if self._is_closing:
                    return
                self._arrived.clear()
                continue
            self._round = self._next_round()
            work_for({(item.fill.account, item.fill.fill_id): item.origin for item in self._round})
            await self._settle(self._round)

    def _next_round(self) -> list[_Waiting]:
        """What is committed next: in order of arrival, no caller more than his share while others wait."""
        if len(self._queue) <= ROUND_MAX // SHARE_OF_ONE_CALLER:
            taken = list(self._queue)
            self._queue.clear()
            return taken
        taken, left = [], deque[_Waiting]()
        counts: dict[str, int] = {}
        share = ROUND_MAX if len({item.caller for item in self._queue}) == 1 else ROUND_MAX // SHARE_OF_ONE_CALLER
        for item in self._queue:
            if len(taken) < ROUND_MAX and counts.get(item.caller, 0) < share:
                counts[item.caller] = counts.get(item.caller, 0) + 1
                taken.append(item)
            else:
                left.append(item)
        self._queue = left
        return taken

    async def _settle(self, items: Sequence[_Waiting]) -> None:
        """Commits items and answers them; one that cannot be stored fails alone."""
        try:
            applied = await self._commit([item.fill for item in items])
        except SteelyardError as error:
            if len(items) == 1 or error.retryable:
                _answer(items, [error] * len(items))
                return
            middle = len(items) // 2
            await self._settle(items[:middle])
            await self._settle(items[middle:])
            return
        except Exception as error:  # noqa: BLE001 - a bug of ours: its callers learn of it, the writer goes on
            for item in items:
                if not item.answer.done():
                    item.answer.set_exception(error)
            return
        _answer(items, applied.results)


def _answer(items: Sequence[_Waiting], results: Sequence[Result]) -> None:
    for item, result in zip(items, results, strict=True):
        if not item.answer.done():
            item.answer.set_result(result)


async def with_retries(write: Callable[[], Awaitable[T]], *, jitter: Callable[[], float]) -> T:
    """Tries a write again when another writer was faster: after 100, 200 and 400 ms, each times `jitter()` (0 to 1)
    halved and added to a half, so that writers who met once do not meet again."""
    for tried, delay_s in enumerate(RETRY_DELAYS_S):
        tries.set(tried)
        try:
            return await write()
        except VersionMismatch as error:
            if "current_version" in error.details:
                raise
            await asyncio.sleep(delay_s * (0.5 + jitter() / 2))
    tries.set(len(RETRY_DELAYS_S))
    return await write()
