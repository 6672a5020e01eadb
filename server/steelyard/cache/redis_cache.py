"""Redis as a cache that may be down, slow or wiped: then a get is a miss, at most `timeout_s` later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from steelyard.accounting.errors import SteelyardError
from steelyard.cache.breaker import Breaker
from steelyard.cache.figures import CacheFigures
from steelyard.cache.sealing import seal, unseal

TIMEOUT_S = 0.05
"""What a call may take, connecting included."""
CONNECTIONS_MAX = 16
CALLS_MAX = 64
"""Gets and puts under way or waiting for a connection; beyond that a get is a miss and a put is dropped."""
VALUE_BYTES_MAX = 4 << 20
"""Larger values are not kept."""

R = TypeVar("R")


class RedisCache:
    """Fulfils `caching.Cache`."""

    def __init__(
        self,
        url: str,
        *,
        epoch: Callable[[], Awaitable[str]],
        key: bytes = b"",
        timeout_s: float = TIMEOUT_S,
        breaker: Breaker | None = None,
        now_s: Callable[[], float] = time.monotonic,
        called: Callable[[str, float], None] = lambda _call, _took_s: None,
    ) -> None:
        """`epoch` names the database, so those that share a Redis never see each other's values; it is asked once, when
        first needed. `key` is the service's own secret; with it only what the service wrote is believed. `called` is
        told how long each call took, seconds. Connects when first used.
        """
        self.figures = CacheFigures()
        self._ask_epoch = epoch
        self._epoch: str | None = None
        self._key = key
        self._timeout_s = timeout_s
        self._now_s = now_s
        self._called = called
        self._breaker = breaker or Breaker(now_s)
        self._redis = Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            max_connections=CALLS_MAX + 1,
            retry=Retry(NoBackoff(), 0),
            protocol=2,  # no greeting to wait for before the first call
            driver_info=None,
        )
        self._connections = asyncio.Semaphore(CONNECTIONS_MAX)
        self._under_way = 0
        self._puts: set[asyncio.Task[None]] = set()

    @property
    def is_held_back(self) -> bool:
        """Whether Redis failed so often that it is not asked for the moment."""
        return self._breaker.is_open

    async def get(self, name: str) -> bytes | None:
        """What was put under exactly this name; None for a miss, whatever its reason. Raises nothing."""
        full_name = await self._full(name)
        value = None if full_name is None else await self._get(full_name)
        self.figures.hits += value is not None
        self.figures.misses += value is None
        return value

    def put(self, name: str, value: bytes, *, ttl_s: float) -> None:
        """Begins to keep a value; a failure is only counted."""
        if len(value) > VALUE_BYTES_MAX or self._under_way >= CALLS_MAX:
            self.figures.puts_lost += 1
            return
        task = asyncio.create_task(self._put(name, value, ttl_s=ttl_s))
        self._puts.add(task)
        task.add_done_callback(self._puts.discard)

    async def add(self, name: str, amount: int, *, ttl_s: int) -> int | None:
        """A count of everybody's with the amount added; it is forgotten `ttl_s` after its first. None where it could
        not be had. Raises nothing."""
        full_name = await self._full(name)
        if full_name is None:
            return None
        _, answer = await self._try("add", lambda: self._add(full_name, amount, ttl_s=ttl_s))
        return answer

    async def _add(self, full_name: str, amount: int, *, ttl_s: int) -> int:
        async with self._redis.pipeline(transaction=True) as steps:
            steps.incrby(full_name, amount)
            steps.expire(full_name, ttl_s, nx=True)
            count, _ = await steps.execute()
        return int(count)

    async def is_reachable(self) -> bool:
        """Whether Redis answers now; also what lets it be tried again after it was held back. Raises nothing."""
        return bool((await self._try("ping", self._ping))[1])

    async def _ping(self) -> bool:
        return bool(await self._redis.ping())

    async def settled(self) -> None:
        """Waits for the puts that have begun."""
        await asyncio.gather(*self._puts)

    async def close(self) -> None:
        """Gives up what is under way, and the connections."""
        for task in tuple(self._puts):
            task.cancel()
        await asyncio.gather(*self._puts, return_exceptions=True)
        await self._redis.aclose()

    async def _full(self, name: str) -> str | None:
        """The name within everything that lies in this Redis; None while the database cannot say who it is."""
        if self._epoch is None:
            try:
                self._epoch = await self._ask_epoch()
            except SteelyardError:
                self.figures.errors += 1
                return None
        return f"steelyard:{self._epoch}:{name}"

    async def _get(self, full_name: str) -> bytes | None:
        begun_s = self._now_s()
        is_tried, sealed = await self._try("get", lambda: self._redis.get(full_name))
        if is_tried:
            self.figures.gets.add(self._now_s() - begun_s)
        if not isinstance(sealed, bytes):
            return None
        value = unseal(full_name, sealed, key=self._key)
        self.figures.garbled += value is None
        return value

    async def _put(self, name: str, value: bytes, *, ttl_s: float) -> None:
        full_name = await self._full(name)
        answer = None
        if full_name is not None:
            sealed = seal(full_name, value, key=self._key)
            _, answer = await self._try(
                "put", lambda: self._redis.set(full_name, sealed, px=max(1, round(ttl_s * 1_000)))
            )
        self.figures.puts += bool(answer)
        self.figures.puts_lost += not answer

    async def _try(self, name: str, call: Callable[[], Awaitable[R]]) -> tuple[bool, R | None]:
        """Whether the call was made, and what it gave, None where it failed."""
        figures = self.figures
        if self._under_way >= CALLS_MAX:
            figures.busy += 1
            return False, None
        if not self._breaker.may_try():
            figures.skipped += 1
            return False, None
        self._under_way += 1
        begun_s = self._now_s()
        try:
            async with asyncio.timeout(self._timeout_s), self._connections:
                answer = await call()
        except (TimeoutError, RedisError, OSError, ValueError) as error:
            is_late = isinstance(error, (TimeoutError, RedisTimeout))
            figures.timeouts += is_late
            figures.errors += not is_late
            self._failed()
            return True, None
        finally:
            self._under_way -= 1
            self._called(name, self._now_s() - begun_s)
        self._breaker.succeeded()
        return True, answer

    def _failed(self) -> None:
        self._breaker.failed()
        self.figures.times_opened = self._breaker.times_opened
