"""Watches positions: first what is held, then every change; ordered, unique, reliable, resumable, or an explicit reset.

Every message carries the place in the account's log up to which the watcher has been told everything he asked for, so
a stream that is taken up at that place has neither a gap nor a repeat. A conflated watcher is told the newest state of
each changed key, at most every `min_interval_s`; a watcher of every version gets each one, until he is too slow.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from steelyard.accounting.errors import QueueFull, ResumeTokenExpired
from steelyard.accounting.keys import Account, Book, InstrumentName, PositionKey
from steelyard.operations.account_tail import AccountTail, Change, ChangeStore, Place, Subscription, place_of
from steelyard.operations.ports import Clock
from steelyard.operations.position_view import PositionRow

WATCHERS_MAX = 1_000
"""Watchers of one process."""
TOKEN_LIFETIME = timedelta(hours=24)


class WatchMode(StrEnum):
    """CONFLATED tells the newest state of each key; EVERY_VERSION tells each version."""

    CONFLATED = "CONFLATED"
    EVERY_VERSION = "EVERY_VERSION"


class ChangeKind(StrEnum):
    """ADDED from nothing or flat, CLOSED to flat, else UPDATED; judged from before and after."""

    ADDED = "ADDED"
    UPDATED = "UPDATED"
    CLOSED = "CLOSED"


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where a stream is taken up again."""

    epoch: str
    account: Account
    place: Place
    issued_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRequest:
    """What is watched, and how."""

    account: Account
    book: Book | None = None
    instruments: frozenset[InstrumentName] = frozenset()
    mode: WatchMode = WatchMode.CONFLATED
    min_interval_s: float = 0.1
    heartbeat_s: float = 10.0
    resume: ResumePoint | None = None

    def wants(self, key: PositionKey) -> bool:
        """Whether a key is among the watched ones."""
        is_book = self.book is None or key.book == self.book
        return is_book and (not self.instruments or key.instrument in self.instruments)


class MessageKind(StrEnum):
    """What a message of the stream says."""

    SNAPSHOT_BEGIN = "SNAPSHOT_BEGIN"
    CHANGE = "CHANGE"
    SNAPSHOT_END = "SNAPSHOT_END"
    HEARTBEAT = "HEARTBEAT"
    RESET = "RESET"
    GOING_AWAY = "GOING_AWAY"


@dataclass(frozen=True, slots=True)
class WatchMessage:
    """One message: its kind, where to resume after it, and for a change the position."""

    kind: MessageKind
    point: ResumePoint
    change: ChangeKind | None = None
    row: PositionRow | None = None
    reason: str = ""


class WatchPositions:
    """Serves watchers from one tail of the log."""

    def __init__(self, store: ChangeStore, tail: AccountTail, *, clock: Clock) -> None:
        self._store = store
        self._tail = tail
        self._clock = clock
        self._watchers = 0

    async def watch(self, request: WatchRequest) -> AsyncGenerator[WatchMessage, None]:
        """The stream. Raises `QueueFull` over the limit of watchers, `ResumeTokenExpired` for an old resume point."""
        if self._watchers >= WATCHERS_MAX:
            raise QueueFull(f"{self._watchers} watchers are served already")
        self._watchers += 1
        is_every = request.mode is WatchMode.EVERY_VERSION
        subscription = Subscription(wants=request.wants, is_every_version=is_every)
        try:
            stream = _Stream(request, subscription, epoch=await self._store.epoch(), clock=self._clock)
            async for message in self._begin(stream, request, subscription=subscription):
                yield message
            async for message in stream.follow():
                yield message
        finally:
            self._watchers -= 1
            self._tail.unsubscribe(request.account, subscription)

    async def _begin(
        self, stream: _Stream, request: WatchRequest, *, subscription: Subscription
    ) -> AsyncIterator[WatchMessage]:
        """Takes the stream up at its resume point, else tells what is held."""
        followed_from = await self._tail.subscribe(request.account, subscription)
        resume = request.resume
        if resume is not None and resume.epoch != stream.epoch:
            yield stream.message(MessageKind.RESET, reason="DATABASE_CHANGED")
            resume = None
        if resume is not None:
            if self._clock() - resume.issued_at > TOKEN_LIFETIME:
                raise ResumeTokenExpired
            stream.place = resume.place
            await self._tail.catch_up(request.account, subscription, after=resume.place, until=followed_from)
            return
        held = await self._store.held_now(request.account)
        async for message in stream.snapshot([row for row in held.rows if request.wants(row.key)], seq=held.seq):
            yield message


class _Stream:
    """One watcher's stream: what it was told last, and the place it has come to."""

    def __init__(self, request: WatchRequest, subscription: Subscription, *, epoch: str, clock: Clock) -> None:
        self.epoch = epoch
        self.place = Place(0)
        self._request = request
        self._subscription = subscription
        self._clock = clock

    def message(
        self,
        kind: MessageKind,
        *,
        change: ChangeKind | None = None,
        row: PositionRow | None = None,
        reason: str = "",
    ) -> WatchMessage:
        """A message at the place the stream has come to."""
        point = ResumePoint(self.epoch, self._request.account, self.place, self._clock())
        return WatchMessage(kind, point, change, row, reason)

    async def snapshot(self, rows: Sequence[PositionRow], *, seq: int) -> AsyncIterator[WatchMessage]:
        """What is held; only its end is a place to resume from, before it the stream begins anew."""
        yield self.message(MessageKind.SNAPSHOT_BEGIN)
        for row in rows:
            yield self.message(MessageKind.CHANGE, change=ChangeKind.ADDED, row=row)
        self.place = Place(seq)
        yield self.message(MessageKind.SNAPSHOT_END)

    async def follow(self) -> AsyncIterator[WatchMessage]:
        """Changes as they come, heartbeats while none do, until the stream ends."""
        subscription = self._subscription
        while True:
            has_news = await subscription.wait(self._request.heartbeat_s)
            if subscription.is_closing:
                yield self.message(MessageKind.GOING_AWAY)
                return
            if subscription.is_overrun:
                yield self.message(MessageKind.RESET, reason="SLOW_READER")
                return
            if not has_news:
                yield self.message(MessageKind.HEARTBEAT)
                continue
            for change in subscription.take():
                place = place_of(change.event)
                # The snapshot, or the stream before this one, has told it already.
                if place > self.place:
                    self.place = place
                    yield self.message(MessageKind.CHANGE, change=_kind(change), row=change.event.row)
            if self._request.mode is WatchMode.CONFLATED:
                await asyncio.sleep(self._request.min_interval_s)


def _kind(change: Change) -> ChangeKind:
    is_open = bool(change.event.row.quantity)
    if is_open:
        return ChangeKind.UPDATED if change.was_open else ChangeKind.ADDED
    return ChangeKind.CLOSED if change.was_open else ChangeKind.UPDATED
