"""Questions answered many at a time: whoever asks joins the round that has not begun, and is answered by its one read.

A round reads after everybody in it has asked, so its answers are as new as those of reads of their own would be. Who
asks alone is answered at once. While rounds are shared, they begin some milliseconds apart: calls come in one by one,
and without a gap each round would be asked by the one or two that came during the last one, at the full price of a
read. Rejected: a gap before every round, which costs the lonely caller; waiting for a number of questions, which costs
whoever comes last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Generic, TypeVar

ROUND_GAP_S = 0.005
"""From the beginning of one shared round to that of the next."""
SHARED_FOR_S = 0.05
"""How long after a shared round the next ones keep the gap: between two that come at once, one may come alone."""
ROUND_MAX = 500
"""Questions in one round."""

Q = TypeVar("Q")
A = TypeVar("A")
_Asked = tuple[Q, "asyncio.Future[A]"]


class Rounds(Generic[Q, A]):
    """Reads for all who wait, one round at a time."""

    def __init__(self, read: Callable[[Sequence[Q]], Awaitable[Sequence[A]]], *, name: str) -> None:
        """`read` answers questions in their order; what it raises, each of them is told. `name` is that of its task."""
        self._read = read
        self._name = name
        self._waiting: list[_Asked[Q, A]] = []
        self._task: asyncio.Task[None] | None = None
        self._begun_s = -inf
        """When the last round began, by the clock of the event loop."""
        self._shared_s = -inf
        """When the last one began that more than one had asked."""

    async def ask(self, question: Q) -> A:
        """The answer, read after this was called. Raises what the read raises."""
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=self._name)
        return await answer

    async def _run(self) -> None:
        # By now everybody who asked in the same turn of the event loop is there.
        try:
            while self._waiting:
                await self._keep_apart()
                asked, self._waiting = self._waiting[:ROUND_MAX], self._waiting[ROUND_MAX:]
                await self._answer(asked)
        except asyncio.CancelledError:
            for _, answer in self._waiting:
                answer.cancel()
            raise
        finally:
            self._task = None

    async def _keep_apart(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        early_s = self._begun_s + ROUND_GAP_S - now_s
        if early_s > 0 and (len(self._waiting) > 1 or now_s - self._shared_s < SHARED_FOR_S):
            await asyncio.sleep(early_s)
        self._begun_s = loop.time()
        if len(self._waiting) > 1:
            self._shared_s = self._begun_s

    async def _answer(self, asked: Sequence[_Asked[Q, A]]) -> None:
        try:
            found = await self._read([question for question, _ in asked])
        except asyncio.CancelledError:
            for _, answer in asked:
                answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, each of those who asked is told
            for _, answer in asked:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), told in zip(asked, found, strict=True):
            if not answer.done():  # else its caller has gone away
                answer.set_result(told)
