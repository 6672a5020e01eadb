"""Watches a portfolio: its figures, and again after each commit and price that changed them, the newest alone.

A message carries a name of the figures told last, so a stream that is taken up tells them again only where they have
changed meanwhile. What is told is always the whole: nothing has to be put together, and nothing can be missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from steelyard.accounting.errors import QueueFull, ResumeTokenExpired
from steelyard.operations.portfolio_feeds import Feed, Figures, PortfolioCause, PortfolioFeeds, PortfolioFilter
from steelyard.operations.ports import Clock, Commit
from steelyard.operations.read_portfolio import PortfolioView
from steelyard.operations.watch_positions import TOKEN_LIFETIME, WATCHERS_MAX, MessageKind


class NamesDatabase(Protocol):
    """Knows the name of the database."""

    async def epoch(self) -> str:
        """Names this database; another one (restored, emptied) has another name."""
        ...


@dataclass(frozen=True, slots=True)
class PortfolioPoint:
    """Where a stream is taken up again: after these figures, of this database."""

    epoch: str
    digest: str
    issued_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PortfolioWatchRequest:
    """What is watched, and how."""

    wanted: PortfolioFilter
    min_interval_s: float = 0.5
    heartbeat_s: float = 10.0
    resume: PortfolioPoint | None = None


@dataclass(frozen=True, slots=True)
class PortfolioMessage:
    """One message: its kind, where to resume after it, and for a change the figures."""

    kind: MessageKind
    point: PortfolioPoint
    commits: Sequence[Commit] = ()
    view: PortfolioView | None = None
    cause: PortfolioCause | None = None
    reason: str = ""


class WatchPortfolio:
    """Serves watchers from the feeds of this process."""

    def __init__(self, feeds: PortfolioFeeds, database: NamesDatabase, *, clock: Clock) -> None:
        self._feeds = feeds
        self._database = database
        self._clock = clock
        self._watchers = 0

    async def watch(self, request: PortfolioWatchRequest) -> AsyncGenerator[PortfolioMessage, None]:
        """The stream. Raises `QueueFull` over the limit of watchers or portfolios, `ResumeTokenExpired` for an old
        resume point, `StoreUnavailable` where it cannot begin.
        """
        if self._watchers >= WATCHERS_MAX:
            raise QueueFull(f"{self._watchers} watchers are served already")
        resume = request.resume
        epoch = await self._database.epoch()
        if resume is not None and resume.epoch == epoch and self._clock() - resume.issued_at > TOKEN_LIFETIME:
            raise ResumeTokenExpired
        wake = asyncio.Event()
        feed = self._feeds.join(request.wanted, wake, interval_s=request.min_interval_s)
        self._watchers += 1
        try:
            stream = _Stream(request, epoch=epoch, clock=self._clock)
            async for message in stream.begin(await self._feeds.now(feed)):
                yield message
            async for message in self._follow(stream, feed, wake=wake):
                yield message
        finally:
            self._watchers -= 1
            self._feeds.leave(feed, wake, interval_s=request.min_interval_s)

    async def _follow(self, stream: _Stream, feed: Feed, *, wake: asyncio.Event) -> AsyncIterator[PortfolioMessage]:
        while True:
            # After the pause: of what comes meanwhile only the newest is told.
            has_news = await _is_set(wake, within_s=stream.request.heartbeat_s)
            wake.clear()
            if self._feeds.is_closing:
                yield stream.message(MessageKind.GOING_AWAY)
                return
            message = None if feed.figures is None else stream.news(feed.figures)
            if message is not None:
                yield message
                await _pause(self._feeds, wake, lasting_s=stream.request.min_interval_s)
            elif not has_news:
                yield stream.message(MessageKind.HEARTBEAT)


class _Stream:
    """One watcher's stream: the figures it was told last."""

    def __init__(self, request: PortfolioWatchRequest, *, epoch: str, clock: Clock) -> None:
        self.request = request
        self._epoch = epoch
        self._clock = clock
        self._number = 0
        self._digest = ""
        self._commits: Sequence[Commit] = ()

    async def begin(self, figures: Figures) -> AsyncIterator[PortfolioMessage]:
        """The figures as they are, unless the stream before this one has told the same."""
        resume = self.request.resume
        if resume is not None and resume.epoch != self._epoch:
            yield self.message(MessageKind.RESET, reason="DATABASE_CHANGED")
        is_told = resume is not None and resume.epoch == self._epoch and resume.digest == figures.digest
        self._note(figures)
        if not is_told:
            yield self.message(MessageKind.CHANGE, view=figures.view, cause=PortfolioCause.BEGIN)

    def news(self, figures: Figures) -> PortfolioMessage | None:
        """The figures, where they are others than those told last."""
        number, digest = self._number, self._digest
        self._note(figures)
        if figures.digest == digest:
            return None
        return self.message(MessageKind.CHANGE, view=figures.view, cause=figures.cause(since=number))

    def message(
        self,
        kind: MessageKind,
        *,
        view: PortfolioView | None = None,
        cause: PortfolioCause | None = None,
        reason: str = "",
    ) -> PortfolioMessage:
        """A message at the place the stream has come to."""
        point = PortfolioPoint(self._epoch, self._digest, self._clock())
        return PortfolioMessage(kind, point, self._commits, view, cause, reason)

    def _note(self, figures: Figures) -> None:
        self._number, self._digest, self._commits = figures.number, figures.digest, figures.commits


async def _is_set(wake: asyncio.Event, *, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await wake.wait()
    except TimeoutError:
        return False
    return True


async def _pause(feeds: PortfolioFeeds, wake: asyncio.Event, *, lasting_s: float) -> None:
    """Waits out the pause between two figures, unless the service goes."""
    until_s = asyncio.get_running_loop().time() + lasting_s
    while not feeds.is_closing and (left_s := until_s - asyncio.get_running_loop().time()) > 0:
        wake.clear()
        await _is_set(wake, within_s=left_s)
    wake.set()
