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
from typing import Protocol

from steelyard.accounting.errors import RateLimited, StreamLimit
from steelyard.operations.access import ApiKey

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


@dataclass(frozen=True, slots=True)
class Standing:
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


class Allowances:
    """Hands out what keys may ask for."""

    def __init__(self, shared: SharedCount, *, epoch_s: Callable[[], float]) -> None:
        """`epoch_s`: seconds since 1970, the same on all replicas as nearly as their clocks are."""
        self._shared = shared
        self._epoch_s = epoch_s
        self._periods: dict[str, _Period] = {}
        self._streams: dict[str, int] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def take_call(self, key: ApiKey) -> Standing:
        """Takes one call of this minute. Raises `RateLimited`."""
        return await self._take(
            f"calls:{key.key_id}", 1, subject="calls", limit=key.terms.calls_allowed, period_s=CALLS_PERIOD_S
        )

    async def take_fills(self, key: ApiKey, count: int) -> Standing:
        """Takes fills of this second; a batch larger than the whole allowance may use all of a second that nobody used.

        Raises `RateLimited`.
        """
        limit = key.terms.fills_per_second
        return await self._take(
            f"fills:{key.key_id}", min(count, limit), subject="fills", limit=limit, period_s=FILLS_PERIOD_S
        )

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

    async def _take(self, name: str, amount: int, *, subject: str, limit: int, period_s: int) -> Standing:
        now_s = self._epoch_s()
        number, reset_s = int(now_s // period_s), period_s - now_s % period_s
        period = self._periods.get(name)
        if period is None or period.number < number:
            period = self._begin(name, number)
        if period.left < amount:
            await self._lease(name, period, amount=amount, limit=limit, period_s=period_s)
        if period.left < amount:
            raise RateLimited(subject, limit=limit, period_s=period_s, retry_after_s=reset_s)
        period.left -= amount
        remaining = max(limit - period.counted, 0) + period.left
        return Standing(limit, remaining, max(1, round(reset_s)))

    def _begin(self, name: str, number: int) -> _Period:
        period = self._periods[name] = _Period(number)
        while len(self._periods) > COUNTS_MAX:
            oldest = next(iter(self._periods))
            del self._periods[oldest]
            self._locks.pop(oldest, None)
        return period

    async def _lease(self, name: str, period: _Period, *, amount: int, limit: int, period_s: int) -> None:
        async with self._locks.setdefault(name, asyncio.Lock()):
            missing = amount - period.left
            if missing <= 0 or period.counted >= limit:
                return
            # Never more than what is left: the count of all replicas must not run past the allowance for a lease.
            wanted = min(max(missing, limit // LEASE_PART), limit - period.counted)
            if not period.is_alone:
                counted = await self._shared.add(f"{name}:{period.number}", wanted, ttl_s=2 * period_s)
                if counted is not None:
                    period.left += max(0, wanted - max(0, counted - limit))
                    period.counted = min(counted, limit)
                    return
                period.is_alone = True
            period.left += wanted
            period.counted += wanted
