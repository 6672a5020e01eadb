"""Watches how today and this week go: the figures first, and again whenever they change.

They change when a round trip closes, when one that closed is corrected, and when the trading day ends. Commits come
from the one tail of the account log; that a day has ended is told by the clock. After a commit the figures are read
anew, at most every `min_interval_s`, and told only if they are others: what a commit does to closed trips is known to
the fold alone (late fills, amendments, funding), and a guess would miss some of it. Every message is whole, so a stream
that broke is begun anew and nothing has to be taken up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

from steelyard.accounting.errors import NotYetVisible, QueueFull, StoreUnavailable
from steelyard.accounting.keys import Account, PositionKey
from steelyard.operations.account_tail import AccountTail, Subscription
from steelyard.operations.ports import Clock
from steelyard.operations.read_performance import PerformanceAnswers, PerformanceFilter, PerformanceRead
from steelyard.operations.reading import Answer, Freshness

WATCHERS_MAX = 1_000
"""Watchers of one process."""
RETRY_S = 1.0
"""After a read that failed because the store was away."""
SHORTEST_WAIT_S = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceWatchRequest:
    """What is watched, and how; the filter names accounts and no day."""

    filter: PerformanceFilter
    min_interval_s: float = 0.5
    heartbeat_s: float = 10.0

    def wants(self, key: PositionKey) -> bool:
        """Whether a position's trips are among the watched ones."""
        wanted = self.filter
        is_book = wanted.book is None or key.book == wanted.book
        return is_book and (wanted.instrument is None or key.instrument == wanted.instrument)


class Cause(StrEnum):
    """Why figures are told."""

    BEGIN = "BEGIN"
    TRIPS = "TRIPS"
    """A round trip closed, or a closed one changed."""
    NEW_DAY = "NEW_DAY"


@dataclass(frozen=True, slots=True)
class WatchedFigures:
    """Today and this week as of one moment."""

    cause: Cause
    day: Answer[PerformanceRead]
    week: Answer[PerformanceRead]


class Silence(StrEnum):
    """A message without figures."""

    HEARTBEAT = "HEARTBEAT"
    GOING_AWAY = "GOING_AWAY"


PerformanceMessage = WatchedFigures | Silence


class WatchPerformance:
    """Serves watchers from the tail of the log and the clock."""

    def __init__(self, read: PerformanceAnswers, tail: AccountTail, *, clock: Clock) -> None:
        self._read = read
        self._tail = tail
        self._clock = clock
        self._watchers = 0

    async def watch(self, request: PerformanceWatchRequest) -> AsyncGenerator[PerformanceMessage, None]:
        """The stream. Raises `QueueFull` over the limit of watchers, `InvalidField` for a zone that is none."""
        if self._watchers >= WATCHERS_MAX:
            raise QueueFull(f"{self._watchers} watchers are served already")
        self._watchers += 1
        subscription = Subscription(wants=request.wants, is_every_version=False)
        accounts = request.filter.accounts
        try:
            for account in accounts:
                await self._tail.subscribe(account, subscription)
            # The rule is resolved once: every day of this stream is one by the rule that its first message tells.
            rule = (await self._read.resolve(request.filter)).day_rule
            stream = _Stream(request, replace(request.filter, day_rule=rule), read=self._read, clock=self._clock)
            async for message in stream.follow(subscription):
                yield message
        finally:
            self._watchers -= 1
            for account in accounts:
                self._tail.unsubscribe(account, subscription)


class _Stream:
    """One watcher's stream: what he was told last, and what he has still to be told."""

    def __init__(
        self, request: PerformanceWatchRequest, wanted: PerformanceFilter, *, read: PerformanceAnswers, clock: Clock
    ) -> None:
        self._request = request
        self._wanted = wanted
        self._read = read
        self._clock = clock
        self._told: WatchedFigures | None = None
        self._seen: dict[Account, int] = {}
        """The newest commits that the tail has shown."""

    async def follow(self, subscription: Subscription) -> AsyncGenerator[PerformanceMessage, None]:
        """The figures as they are, then again when they change, heartbeats while they do not."""
        self._told = told = await self._figures(Cause.BEGIN)
        yield told
        has_news, silent_s = False, 0.0
        loop = asyncio.get_running_loop()
        while True:
            next_look_s = RETRY_S if has_news else self._until_next_day_s()
            wait_s = min(next_look_s, self._request.heartbeat_s - silent_s)
            begun_s = loop.time()
            arrived = await subscription.wait(max(wait_s, SHORTEST_WAIT_S))
            silent_s += loop.time() - begun_s
            if subscription.is_closing:
                yield Silence.GOING_AWAY
                return
            for change in subscription.take():
                event = change.event
                self._seen[event.key.account] = max(self._seen.get(event.key.account, 0), event.seq)
            changed = None
            if arrived or has_news or self._is_over():
                has_news = True
                with suppress(StoreUnavailable, NotYetVisible):  # the heartbeats go on, and the read is tried again
                    changed, has_news = await self._changed(), False
            if changed is not None:
                silent_s = 0.0
                yield changed
                await asyncio.sleep(min(self._request.min_interval_s, self._until_next_day_s()))
            elif silent_s >= self._request.heartbeat_s:
                silent_s = 0.0
                yield Silence.HEARTBEAT

    async def _changed(self) -> WatchedFigures | None:
        """The figures where they are others than those told last."""
        told = self._told
        assert told is not None
        found = await self._figures(Cause.TRIPS)
        if found.day.value.day != told.day.value.day:
            found = replace(found, cause=Cause.NEW_DAY)
        elif (found.day.value, found.week.value) == (told.day.value, told.week.value):
            return None
        self._told = found
        return found

    async def _figures(self, cause: Cause) -> WatchedFigures:
        # The day is spelt out once for both, so that midnight cannot come between them.
        today = await self._read.resolve(self._wanted)
        freshness = Freshness(dict(self._seen))
        day = await self._read.daily(today, freshness=freshness)
        # The week is read no older than the day: a trip is never in the one and not yet in the other.
        week = await self._read.weekly(today, freshness=Freshness(self._newest(day)))
        return WatchedFigures(cause, day, week)

    def _newest(self, answer: Answer[PerformanceRead]) -> Mapping[Account, int]:
        return {**self._seen, **{commit.account: commit.seq for commit in answer.seen.commits}}

    def _is_over(self) -> bool:
        """Whether the day that was told last has ended."""
        return self._until_next_day_s() <= 0

    def _until_next_day_s(self) -> float:
        assert self._told is not None
        return (self._told.day.value.ended_at - self._clock()).total_seconds()
