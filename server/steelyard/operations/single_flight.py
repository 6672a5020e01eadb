"""One run for all who ask the same at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Lets concurrent calls for one key share one run; whoever gives up waiting does not end it for the others."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[T]] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._under_way

    async def run(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """What `work` gives, and whether somebody else's run was joined. Raises what `work` raises."""
        task = self._under_way.get(key)
        is_joined = task is not None
        if task is None:
            task = self.begin(key, work)
        return await asyncio.shield(task), is_joined

    def begin(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> asyncio.Task[T]:
        """Starts a run of a key that has none under way, without waiting for it."""
        task = asyncio.create_task(_of(work))
        self._under_way[key] = task

        def end(ended: asyncio.Task[T]) -> None:
            del self._under_way[key]
            if not ended.cancelled():
                ended.exception()  # whoever waits is told; nobody may be waiting any more

        task.add_done_callback(end)
        return task

    async def close(self) -> None:
        """Ends what is under way."""
        tasks: list[asyncio.Task[Any]] = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _of(work: Callable[[], Awaitable[T]]) -> T:
    return await work()
