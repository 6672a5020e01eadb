"""Watches positions: first what is held, then every change; ordered, unique, reliable, resumable, or an explicit reset.

Every message carries the place in the account's log up to which the watcher has been told everything he asked for, so
a stream that is taken up at that place has neither a gap nor a repeat. A conflated watcher is told the newest state of
each changed key, at most every `min_interval_s`; a watcher of every version gets each one, until he is too slow. Who
asks for marks gets positions with them, and again when a mark alone has moved, conflated in either mode.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from steelyard.accounting.errors import QueueFull, ResumeTokenExpired
from steelyard.accounting.keys import Account, Book, InstrumentName, PositionKey
from steelyard.accounting.marks import STALE_AFTER, MarkState, mark_state
from steelyard.operations.account_tail import AccountTail, Change, ChangeStore, HeldNow, Place, Subscription, place_of
from steelyard.operations.mark_tail import MarkTail
from steelyard.operations.marks_beside import MarksBeside
from steelyard.operations.ports import Clock
from steelyard.operations.position_view import PositionRow

WATCHERS_MAX = 1_000
"""Watchers of one process."""
TOKEN_LIFETIME = timedelta(hours=24)
CATCH_UP_LOOK_S = 0.1
"""How often a stream that was taken up looks whether all that was held then has been told."""


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
    has_marks: bool = False

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
    mark_state: MarkState = MarkState.MISSING
    is_mark_only: bool = False
    """Whether a mark alone has moved; the version is the one told before."""


class WatchPositions:
    """Serves watchers from one tail of the log."""

    def __init__(
        self,
        store: ChangeStore,
        tail: AccountTail,
        *,
        marks: MarkTail,
        clock: Clock,
        stale_after: timedelta = STALE_AFTER,
    ) -> None:
        self._store = store
        self._tail = tail
        self._marks = marks
        self._clock = clock
        self._stale_after = stale_after
        self._watchers = 0

    async def watch(self, request: WatchRequest) -> AsyncGenerator[WatchMessage, None]:
        """The stream. Raises `QueueFull` over the limit of watchers, `ResumeTokenExpired` for an old resume point."""
        if self._watchers >= WATCHERS_MAX:
            raise QueueFull(f"{self._watchers} watchers are served already")
        self._watchers += 1
        is_every = request.mode is WatchMode.EVERY_VERSION
        subscription = Subscription(wants=request.wants, is_every_version=is_every)
        marks = MarksBeside(self._marks, wake=subscription.wake) if request.has_marks else None
        try:
            stream = _Stream(request, subscription, epoch=await self._store.epoch(), clock=self._clock, marks=marks)
            stream.stale_after = self._stale_after
            async for message in self._begin(stream, request, subscription=subscription):
                yield message
            async for message in stream.follow(self._tail):
                yield message
        finally:
            self._watchers -= 1
            if marks is not None:
                marks.close()
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
            if request.has_marks:
                stream.held = await self._store.held_now(request.account)
                subscription.wake()
            return
        held = await self._store.held_now(request.account)
        async for message in stream.snapshot([row for row in held.rows if request.wants(row.key)], seq=held.seq):
            yield message


class _Stream:
    """One watcher's stream: what it was told last, and the place it has come to."""

    def __init__(
        self,
        request: WatchRequest,
        subscription: Subscription,
        *,
        epoch: str,
        clock: Clock,
        marks: MarksBeside | None,
    ) -> None:
        self.epoch = epoch
        self.place = Place(0)
        self.stale_after = STALE_AFTER
        self.held: HeldNow | None = None
        """What was held when the stream was taken up, until it is known that all of it has been told."""
        self._marks = marks
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

    def _position(self, row: PositionRow, change: ChangeKind, *, is_mark_only: bool = False) -> WatchMessage:
        """A position; with its mark where marks are asked for, else without any."""
        if self._marks is None:
            return self.message(MessageKind.CHANGE, change=change, row=replace(row, mark=None) if row.mark else row)
        row = row if is_mark_only else self._marks.told(row)
        state = mark_state(row.mark, now=self._clock(), stale_after=self.stale_after)
        told = self.message(MessageKind.CHANGE, change=change, row=row)
        return replace(told, mark_state=state, is_mark_only=is_mark_only)

    async def snapshot(self, rows: Sequence[PositionRow], *, seq: int) -> AsyncIterator[WatchMessage]:
        """What is held; only its end is a place to resume from, before it the stream begins anew."""
        yield self.message(MessageKind.SNAPSHOT_BEGIN)
        for row in rows:
            yield self._position(row, ChangeKind.ADDED)
        self.place = Place(seq)
        yield self.message(MessageKind.SNAPSHOT_END)

    async def follow(self, tail: AccountTail) -> AsyncIterator[WatchMessage]:
        """Changes as they come, heartbeats while none do, until the stream ends."""
        subscription = self._subscription
        while True:
            is_catching_up = self.held is not None
            has_news = await subscription.wait(CATCH_UP_LOOK_S if is_catching_up else self._request.heartbeat_s)
            if subscription.is_closing:
                yield self.message(MessageKind.GOING_AWAY)
                return
            if subscription.is_overrun:
                yield self.message(MessageKind.RESET, reason="SLOW_READER")
                return
            if not has_news and not is_catching_up:
                yield self.message(MessageKind.HEARTBEAT)
                continue
            for change in subscription.take():
                place = place_of(change.event)
                # The snapshot, or the stream before this one, has told it already.
                if place > self.place:
                    self.place = place
                    yield self._position(change.event.row, _kind(change))
            moved = self._moved(tail)
            for row in moved:
                yield self._position(row, ChangeKind.UPDATED, is_mark_only=True)
            if moved or self._request.mode is WatchMode.CONFLATED:
                await asyncio.sleep(self._request.min_interval_s)

    def _moved(self, tail: AccountTail) -> Sequence[PositionRow]:
        """Positions told before whose mark alone has moved."""
        if self._marks is None:
            return ()
        held = self.held
        # Only then no version in it is still to be told by a change.
        if held is not None and tail.place(self._request.account).seq >= held.seq and self._subscription.is_empty:
            self._marks.resumed(row for row in held.rows if self._request.wants(row.key))
            self.held = None
        return self._marks.take()


def _kind(change: Change) -> ChangeKind:
    is_open = bool(change.event.row.quantity)
    if is_open:
        return ChangeKind.UPDATED if change.was_open else ChangeKind.ADDED
    return ChangeKind.CLOSED if change.was_open else ChangeKind.UPDATED
