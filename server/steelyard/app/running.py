"""How a process of ours runs: an event loop, an event that SIGTERM and SIGINT set, and parts that end it by dying."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from steelyard.app.failures import INTERRUPTED, CommandFailed

T = TypeVar("T")


class Interrupted(CommandFailed):
    """A signal ended it before it was done."""

    status = INTERRUPTED


COLLECTED_AFTER = (50_000, 20, 20)
"""Containers made before the youngest are searched for cycles, and how often that happens before the older ones are:
a round of the fill writer makes tens of thousands that die without help, and Python's 700 had it search all day."""
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run(main: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
    """Runs `main` in a new event loop, of uvloop where it is installed; gives what it returns.

    The event it is handed is set by SIGTERM and SIGINT; a second signal has the effect it has without us.
    """
    gc.freeze()
    gc.set_threshold(*COLLECTED_AFTER)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_with_signals(main))


async def until_stopped(stop: asyncio.Event, *parts: Awaitable[Any]) -> None:
    """Returns when `stop` is set. A part that ends before that ends everything: its error is raised here."""
    stopping = asyncio.create_task(stop.wait(), name="stop")
    running = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait([stopping, *running], return_when=asyncio.FIRST_COMPLETED)
        for part in done - {stopping}:
            part.result()
    finally:
        for task in (stopping, *running):
            task.cancel()
        for task in (stopping, *running):
            with suppress(asyncio.CancelledError, Exception):
                await task


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; when `stop` is set first, it is cancelled and `Interrupted` raised once it has cleaned up."""
    task = asyncio.create_task(work, name="work")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not task.done():
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        raise Interrupted("interrupted")
    return task.result()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ModuleNotFoundError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _with_signals(main: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told() -> None:
        stop.set()
        for number in ENDING_SIGNALS:
            loop.remove_signal_handler(number)

    for number in ENDING_SIGNALS:
        loop.add_signal_handler(number, told)
    return await main(stop)
