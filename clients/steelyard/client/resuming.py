"""What every watch of this client has in common: it is taken up again when a server leaves or a connection breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar

from steelyard.client.errors import Unavailable, translated

PAUSE_S = 0.2
PAUSE_MAX_S = 5.0

T = TypeVar("T")


async def resumed(begin: Callable[[], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
    """What one stream after the other tells, for as long as it is read.

    A server that leaves, a broken connection and a silent one are survived; everything else is raised.
    """
    attempts = 0
    while True:
        try:
            async for told in begin():
                attempts = 0
                yield told
        except (Unavailable, TimeoutError):
            attempts += 1
        await asyncio.sleep(min(PAUSE_S * attempts, PAUSE_MAX_S))


async def heard(call: Any, *, silence_s: float) -> AsyncGenerator[Any, None]:
    """The messages of one stream. Raises `TimeoutError` when none comes for so long, and `SteelyardCallError`."""
    with translated():
        try:
            messages = aiter(call)
            while True:
                async with asyncio.timeout(silence_s):
                    message = await anext(messages, None)
                if message is None:
                    return
                yield message
        finally:
            call.cancel()
