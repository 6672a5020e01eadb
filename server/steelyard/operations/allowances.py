"""What keys may still ask for: calls a minute, fills a second, streams at once.

Problem: the count is one for all replicas, but a question to Redis with every call would cost more than the call.
Choice: each process takes a part of a period's allowance ahead (`LEASE_PART` of it) from a shared count and hands it
out without asking; all replicas together never hand out more than the allowance. While the shared count is away each
process counts alone (limited, not open, not closed).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from steelyard.accounting.errors import RateLimited, StreamLimit
from steelyard.operations.access import ApiKey, KeyTerms

LEASE_PART = 20
"""A lease is this part (one twentieth) of a period's allowance."""
CALLS_PERIOD_S = 60
FILLS_PERIOD_S = 1
COUNTS_MAX = 20_000
"""Periods that one process remembers; beyond that the oldest are forgotten."""


class SharedCount(Protocol):
    """A count that all replicas add to."""

    async def add(self, name: str, amount: int, *, ttl_s: int) -> int | None:
        """The count with the amount added; None while it cannot be reached."""
        ...


class NoSharedCount:
    """Every process counts alone."""

    async def add(self, name: str, amount: int, *, ttl_s: int) -> int | None:
        """None."""
        return None


class Standing(NamedTuple):
    """Where a key stands in the period under way."""

    limit: int
    remaining: int
    reset_s: int
    """Seconds until the period ends."""


@dataclass(slots=True)
class _Period:
    number: int
    left: int = 0
    """Leased and not handed out yet."""
    counted: int = 0
    """What the shared count stood at with the last lease; alone: what was leased."""
    is_alone: bool = False


class _Allowance(NamedTuple):
    """So much of something in each period."""

    subject: str
    name: str
    """What is counted, of whom."""
    limit: int
    period_s: int


class Allowances:
    """Hands out what keys may ask for."""

    def __init__(self, shared: SharedCount, *, epoch_s: Callable[[], float]) -> None:
        """`epoch_s`: seconds since 1970, the same on all replicas as nearly as their clocks are."""
        self._shared = shared
        self._epoch_s = epoch_s
        self._periods: dict[str, _Period] = {}
        self._streams: dict[str, int] = {}
        self._calls_of: dict[str, tuple[KeyTerms, _Allowance]] = {}
        """Of each key: its terms, and the calls that they allow."""
        self._locks: dict[str, asyncio.Lock] = {}

    def call_at_hand(self, key: ApiKey) -> Standing | None:
        """Takes one call of this minute where it was leased already; None: ask `take_call`."""
        return self._at_hand(self._calls(key), 1)

    async def take_call(self, key: ApiKey) -> Standing:
        """Takes one call of this minute. Raises `RateLimited`."""
        return await self._take(self._calls(key), 1)

    def fills_at_hand(self, key: ApiKey, count: int) -> Standing | None:
        """Takes fills of this second where they were leased already; None: ask `take_fills`."""
        allowance = self._fills(key)
        return self._at_hand(allowance, min(count, allowance.limit))

    async def take_fills(self, key: ApiKey, count: int) -> Standing:
        """Takes fills of this second; a batch larger than the whole allowance may use all of a second that nobody used.

        Raises `RateLimited`.
        """
        allowance = self._fills(key)
        return await self._take(allowance, min(count, allowance.limit))

    def open_stream(self, key: ApiKey) -> None:
        """Counts a stream of this process in. Raises `StreamLimit`."""
        held = self._streams.get(key.key_id, 0)
        if held >= key.terms.streams_max:
            raise StreamLimit(f"the key holds {held} streams already", limit=str(key.terms.streams_max))
        self._streams[key.key_id] = held + 1

    def close_stream(self, key: ApiKey) -> None:
        """Counts it out again."""
        held = self._streams.get(key.key_id, 0) - 1
        if held > 0:
            self._streams[key.key_id] = held
        else:
            self._streams.pop(key.key_id, None)

    def _calls(self, key: ApiKey) -> _Allowance:
        known = self._calls_of.get(key.key_id)
        if known is None or known[0] is not key.terms:
            allowance = _Allowance("calls", f"calls:{key.key_id}", key.terms.calls_allowed, CALLS_PERIOD_S)
            if len(self._calls_of) >= COUNTS_MAX:
                self._calls_of.clear()
            known = self._calls_of[key.key_id] = key.terms, allowance
        return known[1]

    def _fills(self, key: ApiKey) -> _Allowance:
        return _Allowance("fills", f"fills:{key.key_id}", key.terms.fills_per_second, FILLS_PERIOD_S)

    def _at_hand(self, allowance: _Allowance, amount: int) -> Standing | None:
        now_s = self._epoch_s()
        period = self._periods.get(allowance.name)
        if period is None or period.number < now_s // allowance.period_s or period.left < amount:
            return None
        return _taken(period, amount, allowance=allowance, now_s=now_s)

    async def _take(self, allowance: _Allowance, amount: int) -> Standing:
        now_s = self._epoch_s()
        number = int(now_s // allowance.period_s)
        period = self._periods.get(allowance.name)
        if period is None or period.number < number:
            period = self._begin(allowance.name, number)
        if period.left < amount:
            await self._lease(allowance, period, amount=amount)
        if period.left < amount:
            left_s = allowance.period_s - now_s % allowance.period_s
            raise RateLimited(
                allowance.subject, limit=allowance.limit, period_s=allowance.period_s, retry_after_s=left_s
            )
        return _taken(period, amount, allowance=allowance, now_s=now_s)

    def _begin(self, name: str, number: int) -> _Period:
        period = self._periods[name] = _Period(number)
        while len(self._periods) > COUNTS_MAX:
            oldest = next(iter(self._periods))
            del self._periods[oldest]
            self._locks.pop(oldest, None)
        return period

    async def _lease(self, allowance: _Allowance, period: _Period, *, amount: int) -> None:
        name, limit = allowance.name, allowance.limit
        async with self._locks.setdefault(name, asyncio.Lock()):
            missing = amount - period.left
            if missing <= 0 or period.counted >= limit:
                return
            # Never more than what is left: the count of all replicas must not run past the allowance for a lease.
            wanted = min(max(missing, limit // LEASE_PART), limit - period.counted)
            if not period.is_alone:
                counted = await self._shared.add(f"{name}:{period.number}", wanted, ttl_s=2 * allowance.period_s)
                if counted is not None:
                    period.left += max(0, wanted - max(0, counted - limit))
                    period.counted = min(counted, limit)
                    return
                period.is_alone = True
            period.left += wanted
            period.counted += wanted


def _taken(period: _Period, amount: int, *, allowance: _Allowance, now_s: float) -> Standing:
    period.left -= amount
    remaining = max(allowance.limit - period.counted, 0) + period.left
    return Standing(allowance.limit, remaining, max(1, round(allowance.period_s - now_s % allowance.period_s)))
