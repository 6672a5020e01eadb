"""A stream of fill batches: read ahead a little, commit in order, answer each batch after its commit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from steelyard.accounting.errors import InvalidField
from steelyard.v1 import fill_service_pb2

BATCHES_IN_FLIGHT_MAX = 4
"""Batches of one stream that may wait for their commit; reading stops there, and the caller's window fills up."""

Batch = fill_service_pb2.StreamFillsRequest
Answer = fill_service_pb2.StreamFillsResponse
Commit = Callable[[Batch], Awaitable[Answer]]


async def commit_batches(batches: AsyncIterator[Batch], *, commit: Commit) -> AsyncGenerator[Answer, None]:
    """The answers to batches in their order. `commit` must hand its fills over before it first waits, so that batches
    that are under way at once are still recorded in order. Raises what reading or committing a batch raises."""
    waiting: asyncio.Queue[asyncio.Task[Answer] | None] = asyncio.Queue(BATCHES_IN_FLIGHT_MAX)
    reader = asyncio.create_task(_read(batches, waiting, commit=commit), name="fill-stream-reader")
    try:
        while (task := await waiting.get()) is not None:
            yield await task
        await reader
    finally:
        reader.cancel()
        while not waiting.empty():
            left = waiting.get_nowait()
            if left is not None:
                left.cancel()


async def _read(
    batches: AsyncIterator[Batch], waiting: asyncio.Queue[asyncio.Task[Answer] | None], *, commit: Commit
) -> None:
    newest = 0
    try:
        async for batch in batches:
            if batch.batch_number <= newest:
                raise InvalidField("batch_number", f"must be greater than {newest}, that of the batch before")
            newest = batch.batch_number
            await waiting.put(asyncio.create_task(_started(commit(batch))))
    finally:
        await waiting.put(None)


async def _started(answer: Awaitable[Answer]) -> Answer:
    return await answer
