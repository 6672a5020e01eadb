"""The fill writer: one per process; it commits whatever fills wait, many in one transaction.

Problem: a commit costs a disk flush whatever it holds. Choice: callers hand their fills in and wait; the writer takes
what is there, at most `ROUND_MAX` and at most a quarter from one caller while others wait, and commits it as one
transaction. An idle writer commits one fill at once; a loaded one finds a larger round after every commit, so the size
adapts by itself. A caller's cancel abandons only his wait. If the data of a round is refused, the round is cut in
halves until the poisoned fill stands alone; if another writer was faster, it is tried again three times.

Where much waits, the next round begins while the one before is folded and committed: it records its fills, and waits
for its turn before it touches positions (`Turn`). So the store and this process work at the same time, and versions
are still written in the order of arrival. It may not begin before the other has recorded its own fills: both might want
the same new account, and each would wait for the other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from steelyard.accounting.entries import Fill
from steelyard.accounting.errors import QueueFull, SteelyardError, StoreUnavailable, VersionMismatch
from steelyard.accounting.keys import Account, FillId
from steelyard.operations.apply_fills import Applied, FillReceipt
from steelyard.operations.observing import Origin, origin, tries, work_for

ROUND_MAX = 2_000
"""Fills in one transaction."""
SHARE_OF_ONE_CALLER = 4
"""While others wait, one caller gets at most this part (one quarter) of a round."""
EARLY_MIN = 500
"""So many fills must wait for a round to begin before the one before it has ended: small rounds cost more than they
gain."""
WAITING_MAX = 20_000
"""Fills that may wait; more are refused with QUEUE_FULL."""
RETRY_DELAYS_S = (0.1, 0.2, 0.4)

Result = FillReceipt | SteelyardError
T = TypeVar("T")


class Turn:
    """A round's place behind the one before it; told of by whoever writes it."""

    __slots__ = ("_before", "_ended", "_tell", "has_positions")

    def __init__(self, before: Turn | None = None, *, tell: Callable[[], None] = lambda: None) -> None:
        """`tell` is called when the turn gets further."""
        self._before = before
        self._tell = tell
        self._ended = asyncio.Event()
        self.has_positions = False
        """Whether its fills are recorded and its positions locked, so that the next round may begin."""

    async def come(self) -> None:
        """Waits until the round before has committed, or given up its first try."""
        if self._before is not None:
            await self._before._ended.wait()
            self._before = None

    def hold_positions(self) -> None:
        """Its positions are locked."""
        self.has_positions = True
        self._tell()

    def end(self) -> None:
        """Its transaction has ended, whichever way."""
        self._before = None
        self._ended.set()
        self._tell()


Commit = Callable[[Sequence[Fill], Turn], Awaitable[Applied]]
"""Writes a round in one transaction, with its own retries, and tells the turn how far it is."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """What one caller has handed in at once."""

    fills: Sequence[Fill]
    caller: str
    origin: Origin
    answer: asyncio.Future[list[Result]]
    taken: int = 0
    """So many of the first fills are in rounds."""
    results: dict[int, Sequence[Result]] = field(default_factory=dict)
    """What came of stretches of it, by the place of their first fill."""
    answered: int = 0

    def take_in(self, first: int, results: Sequence[Result]) -> None:
        """Notes what came of a stretch; the last one answers the caller."""
        self.results[first] = results
        self.answered += len(results)
        if self.answered == len(self.fills) and not self.answer.done():
            self.answer.set_result([result for place in sorted(self.results) for result in self.results[place]])

    def give_up(self) -> None:
        """What became of it is not known, and nobody will know."""
        if not self.answer.done():
            self.answer.set_result([StoreUnavailable("the fill writer has ended")] * len(self.fills))


@dataclass(frozen=True, slots=True)
class _Part:
    """A stretch of what one caller handed in."""

    waiting: _Waiting
    first: int
    fills: Sequence[Fill]

    def cut(self, place: int) -> tuple[_Part, _Part]:
        first, fills = self.first, self.fills
        return _Part(self.waiting, first, fills[:place]), _Part(self.waiting, first + place, fills[place:])


class FillWriter:
    """Collects fills that share the default options and commits them in rounds."""

    def __init__(self, commit: Commit) -> None:
        self._commit = commit
        self._queue: deque[_Waiting] = deque()
        self._count = 0
        self._changed = asyncio.Event()
        self._unanswered: set[_Waiting] = set()
        self._is_closing = False
        self.task: asyncio.Task[None] | None = None
        """Runs until `close`; when it ends by itself, the process has to end with what it raises."""

    def start(self) -> None:
        """Begins to commit what is submitted."""
        self.task = asyncio.create_task(self._run(), name="fill_writer")

    async def close(self) -> None:
        """Commits what still waits, then ends."""
        self._is_closing = True
        self._changed.set()
        if self.task is not None:
            # One that died has told its supervisor of it.
            await asyncio.gather(self.task, return_exceptions=True)

    async def submit(self, fills: Sequence[Fill], *, caller: str) -> list[Result]:
        """Records fills and waits until they are committed. Raises `QueueFull` when too many wait already."""
        if self._is_closing:
            raise StoreUnavailable("the service is shutting down")
        if self._count + len(fills) > WAITING_MAX:
            raise QueueFull(f"{self._count} fills wait already")
        waiting = _Waiting(fills, caller, origin.get(), asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._unanswered.add(waiting)
        waiting.answer.add_done_callback(lambda _: self._unanswered.discard(waiting))
        self._count += len(fills)
        self._changed.set()
        return await waiting.answer

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as rounds:
                await self._commit_rounds(rounds)
        finally:
            # Whoever still waits now would wait for ever: what became of his fill is not known.
            self._is_closing = True
            for waiting in list(self._unanswered):
                waiting.give_up()

    async def _commit_rounds(self, rounds: asyncio.TaskGroup) -> None:
        newest: asyncio.Task[None] | None = None
        turn: Turn | None = None
        while True:
            is_free = newest is None or newest.done()
            is_early = turn is not None and turn.has_positions and self._count >= EARLY_MIN
            if self._count and (is_free or is_early):
                turn = Turn(turn, tell=self._changed.set)
                newest = rounds.create_task(self._round(self._next_round(), turn), name="fill_round")
                newest.add_done_callback(lambda _: self._changed.set())
            elif is_free and self._is_closing:
                return
            else:
                self._changed.clear()
                await self._changed.wait()

    def _next_round(self) -> list[_Part]:
        """What is committed next: in order of arrival, no caller more than his share while others wait."""
        has_others = len({waiting.caller for waiting in self._queue}) > 1
        share = ROUND_MAX // SHARE_OF_ONE_CALLER if has_others and self._count > ROUND_MAX // 4 else ROUND_MAX
        parts: list[_Part] = []
        room, counts = ROUND_MAX, dict[str, int]()
        left = deque[_Waiting]()
        for waiting in self._queue:
            had = counts.get(waiting.caller, 0)
            size = min(room, share - had, len(waiting.fills) - waiting.taken)
            if size > 0:
                parts.append(_Part(waiting, waiting.taken, waiting.fills[waiting.taken : waiting.taken + size]))
                waiting.taken += size
                counts[waiting.caller] = had + size
                room -= size
            if waiting.taken < len(waiting.fills):
                left.append(waiting)
        self._queue = left
        self._count -= ROUND_MAX - room
        return parts

    async def _round(self, parts: Sequence[_Part], turn: Turn) -> None:
        work_for(_origins(parts))
        try:
            await self._settle(parts, turn)
        finally:
            turn.end()

    async def _settle(self, parts: Sequence[_Part], turn: Turn) -> None:
        """Commits fills and answers them; one that cannot be stored fails alone."""
        fills = parts[0].fills if len(parts) == 1 else [fill for part in parts for fill in part.fills]
        try:
            applied = await self._commit(fills, turn)
        except SteelyardError as error:
            if len(fills) == 1 or error.retryable:
                _answer(parts, [error] * len(fills))
                return
            first, second = _halves(parts, middle=len(fills) // 2)
            await self._settle(first, turn)
            await self._settle(second, turn)
            return
        except Exception as error:  # noqa: BLE001 - a bug of ours: its callers learn of it, the writer goes on
            for part in parts:
                if not part.waiting.answer.done():
                    part.waiting.answer.set_exception(error)
            return
        _answer(parts, applied.results)


def _halves(parts: Sequence[_Part], *, middle: int) -> tuple[list[_Part], list[_Part]]:
    first: list[_Part] = []
    for place, part in enumerate(parts):
        if len(part.fills) > middle:
            begin, end = part.cut(middle)
            return [*first, begin] if middle else first, [end, *parts[place + 1 :]]
        first.append(part)
        middle -= len(part.fills)
    return first, []


def _origins(parts: Sequence[_Part]) -> dict[tuple[Account, FillId], Origin]:
    return {(fill.key.account, fill.fill_id): part.waiting.origin for part in parts for fill in part.fills}


def _answer(parts: Sequence[_Part], results: Sequence[Result]) -> None:
    place = 0
    for part in parts:
        size = len(part.fills)
        part.waiting.take_in(part.first, results[place : place + size])
        place += size


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
