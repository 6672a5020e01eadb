"""How far builds are, for those who watch: one poller per build and process, however many watch it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from uuid import UUID

from steelyard.accounting.errors import NotFound
from steelyard.operations.building import RESULTS_TOLD, Build, BuildStore

POLL_INTERVAL_S = 0.2
FIRST_POLL_S = 0.02
"""A build of few entries has ended before the first full interval: the polls begin close together."""
TELL_INTERVAL_S = 0.25
"""A watcher is told at most four times a second, but of the end at once."""


class _Poll:
    """One build being polled for its watchers."""

    def __init__(self) -> None:
        self.watchers = 0
        self.latest: Build | None = None
        self.error: BaseException | None = None
        self.changed = asyncio.Condition()
        self.turn = 0
        self.task: asyncio.Task[None] | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing new can come."""
        return self.error is not None or (self.latest is not None and self.latest.state.is_terminal)


class ProgressFeed:
    """Fulfils the port `BuildFeed`."""

    def __init__(self, store: BuildStore) -> None:
        self._store = store
        self._polls: dict[UUID, _Poll] = {}

    async def watch(self, build_id: UUID) -> AsyncGenerator[Build]:
        """The build at once, then whenever it got on, the latest state only; its terminal state last, with results.

        Raises `NotFound`.
        """
        poll = self._join(build_id)
        try:
            told: Build | None = None
            turn = 0
            while told is None or not told.state.is_terminal:
                turn = await _next_turn(poll, turn)
                if poll.error is not None:
                    raise poll.error
                assert poll.latest is not None
                if poll.latest != told:
                    is_first, told = told is None, poll.latest
                    yield told
                    if not is_first and not told.state.is_terminal:
                        await _pause(poll)
        finally:
            self._leave(build_id, poll)

    def _join(self, build_id: UUID) -> _Poll:
        poll = self._polls.get(build_id)
        if poll is None:
            poll = self._polls[build_id] = _Poll()
            poll.task = asyncio.ensure_future(self._run(build_id, poll))
        poll.watchers += 1
        return poll

    def _leave(self, build_id: UUID, poll: _Poll) -> None:
        poll.watchers -= 1
        if not poll.watchers:
            assert poll.task is not None
            poll.task.cancel()
            if self._polls.get(build_id) is poll:
                del self._polls[build_id]

    async def _run(self, build_id: UUID, poll: _Poll) -> None:
        pause_s = FIRST_POLL_S
        try:
            while poll.latest is None or not poll.latest.state.is_terminal:
                if poll.latest is not None:
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 1.5, POLL_INTERVAL_S)
                build = await self._store.find(build_id)
                if build is None:
                    raise NotFound("build", str(build_id))
                if build.state.is_terminal:
                    build = await self._store.find(build_id, results_max=RESULTS_TOLD) or build
                await _tell(poll, build)
        except Exception as error:  # noqa: BLE001 - every watcher raises it
            poll.error = error
            await _tell(poll, poll.latest)
        finally:
            # Who comes later polls anew: an ended build is told at once anyway.
            if self._polls.get(build_id) is poll:
                del self._polls[build_id]


async def _tell(poll: _Poll, build: Build | None) -> None:
    async with poll.changed:
        poll.latest = build
        poll.turn += 1
        poll.changed.notify_all()


async def _pause(poll: _Poll) -> None:
    """Lets the interval between two tellings pass; the end cuts it short."""
    with suppress(TimeoutError):
        async with asyncio.timeout(TELL_INTERVAL_S), poll.changed:
            await poll.changed.wait_for(lambda: poll.has_ended)


async def _next_turn(poll: _Poll, seen: int) -> int:
    async with poll.changed:
        await poll.changed.wait_for(lambda: poll.turn > seen)
        return poll.turn
