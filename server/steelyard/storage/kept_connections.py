"""A few connections of the pool that are kept at hand, for short reads by key of which there are hundreds a second.

To take a connection out of the pool and give it back costs as much as such a read itself, and to plan the read anew
each time costs the store more than to run it: the driver's arrays tell the planner nothing. These connections keep
their plans, and go by index: a plan made while the tables were empty is right for ever. Nothing else runs on them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

_SETTINGS = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off"
POOL_PART = 5
"""At most this part (a fifth) of the pool is kept; of a smaller pool, nothing."""


class KeptConnections:
    """Connections that stay checked out between uses."""

    def __init__(self, engine: AsyncEngine, *, pool_size: int) -> None:
        self._engine = engine
        self._most = pool_size // POOL_PART
        self._count = 0
        self._free: list[tuple[AsyncConnection, asyncpg.Connection]] = []

    @property
    def idle(self) -> int:
        """How many are kept and not in use."""
        return len(self._free)

    @property
    def has_one(self) -> bool:
        """Whether one is free, or may be made."""
        return bool(self._free) or self._count < self._most

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """One of them, for reads in a transaction of their own each. Only where `has_one`."""
        kept, raw = await self._take()
        try:
            yield raw
        except (asyncio.CancelledError, asyncpg.InternalClientError):
            raw.terminate()
            raise
        finally:
            if raw.is_closed():
                await self._drop(kept)
            else:
                self._free.append((kept, raw))

    async def close(self) -> None:
        """Gives them back."""
        while self._free:
            await self._drop(self._free.pop()[0])

    async def _take(self) -> tuple[AsyncConnection, asyncpg.Connection]:
        while self._free:
            kept, raw = self._free.pop()
            if not raw.is_closed():
                return kept, raw
            await self._drop(kept)  # the store was away meanwhile
        return await self._make()

    async def _make(self) -> tuple[AsyncConnection, asyncpg.Connection]:
        self._count += 1
        try:
            kept = await self._engine.connect()
        except BaseException:
            self._count -= 1
            raise
        try:
            raw = cast(Any, (await kept.get_raw_connection()).driver_connection)
            await raw.execute(_SETTINGS)
        except BaseException:
            await self._drop(kept)
            raise
        return kept, raw

    async def _drop(self, kept: AsyncConnection) -> None:
        self._count -= 1
        await kept.invalidate()
        await kept.close()
