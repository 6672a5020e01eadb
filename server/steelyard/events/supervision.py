"""Keeps a part of the service going that needs the broker: whatever ends it, it begins again after a while.

A plain connection that is watched and made anew is chosen over one that repairs itself: those were seen dead without
a word. Waits double from 0.2 s to 3 s and begin again once a part has lived for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import AMQPError, ChannelInvalidStateError

from steelyard.accounting.errors import SteelyardError
from steelyard.telemetry.logs import Log

FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 3.0
STABLE_S = 5.0
CONNECT_TIMEOUT_S = 5.0
HEARTBEAT_S = 10
LOST = (AMQPError, ChannelInvalidStateError, ConnectionError, OSError, TimeoutError, SteelyardError)
"""What ends a part without a bug of ours: the broker or the store is away."""


class Supervisor:
    """Runs one part for ever."""

    def __init__(self, name: str, work: Callable[[Callable[[], None]], Awaitable[None]], *, log: Log) -> None:
        """`work` calls the function it is given once it is connected, and ends only by raising."""
        self.name = name
        self.is_connected = False
        self._work = work
        self._log = log

    async def run(self) -> None:
        """Works until cancelled."""
        loop, wait = asyncio.get_running_loop(), FIRST_WAIT_S
        while True:
            began = loop.time()
            try:
                await self._work(self._connected)
            except LOST as error:
                self._log.warning("events_part_lost", part=self.name, error=f"{type(error).__name__}: {error}"[:300])
            except Exception:  # noqa: BLE001 - a bug of ours: it is told, and the part begins again
                self._log.error("events_part_failed", part=self.name, exc_info=True)
            finally:
                self.is_connected = False
            if loop.time() - began > STABLE_S:
                wait = FIRST_WAIT_S
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT_S)

    def _connected(self) -> None:
        self.is_connected = True
        self._log.info("events_part_connected", part=self.name)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AbstractConnection]:
    """A plain connection to the broker, closed at the end however that comes."""
    try:
        connection = await aio_pika.connect(url, timeout=CONNECT_TIMEOUT_S, heartbeat=HEARTBEAT_S)
    except StopAsyncIteration as error:
        # What the driver says of a broker, or a proxy before it, that hangs up while they greet each other.
        raise ConnectionError("the broker hung up while it was greeted") from error
    try:
        yield connection
    finally:
        with suppress(*LOST):
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await connection.close()


async def first_end(*parts: Awaitable[None], lost: asyncio.Future[None]) -> None:
    """Runs parts side by side until the first ends or the connection is lost; raises what ended it."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait([*tasks, lost], return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def loss_of(*channels: AbstractChannel) -> asyncio.Future[None]:
    """A future that fails once one of the channels is closed."""
    lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    # Looked at, even where nobody waits any more: channels are closed in the end.
    lost.add_done_callback(lambda done: done.cancelled() or done.exception())

    def closed(_: object, error: BaseException | None = None) -> None:
        if not lost.done():
            lost.set_exception(ConnectionError(f"the channel was closed: {error}"))

    for channel in channels:
        channel.close_callbacks.add(closed)
    return lost
