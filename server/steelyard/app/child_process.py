"""A `steelyard` process as a child of its owner: started again when it dies, never outliving its owner."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress

from steelyard.telemetry.logs import Log

RESTART_DELAY_S = 1.0
RESTART_DELAY_MAX_S = 30.0
"""The pause before a start is doubled with each early death, up to this."""
STEADY_S = 60.0
"""A process that has lived this long did not die of its start: its next one comes after the shortest pause."""
ENDED_WELL = (0, -signal.SIGTERM)
"""By the signal itself: it was only starting, and had nothing to end in order."""
WORD_BYTES_MAX = 4_096


class ChildProcess:
    """`steelyard <arguments>`. It holds the read end of a pipe of ours, and ends when that closes."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        variables: Mapping[str, str],
        stop_timeout_s: float,
        log: Log,
        speaks: bool = False,
    ) -> None:
        """`name` is what the log calls it; `variables` are settings that differ from ours; `speaks`: it says a line
        once it is ready."""
        self.name = name
        self._arguments = arguments
        self._environment = {**os.environ, **variables}
        self._stop_timeout_s = stop_timeout_s
        self._log = log
        self._speaks = speaks
        self._process: Process | None = None
        self._started_at = 0.0
        self._early_deaths = 0

    @property
    def pid(self) -> int:
        """The process that runs now, or ran last."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Starts the process."""
        # A session of its own: Ctrl-C is for the owner, who then ends its children in order.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "steelyard.app",
            *self._arguments,
            stdin=PIPE,
            stdout=PIPE if self._speaks else DEVNULL,
            env=self._environment,
            start_new_session=True,
            limit=WORD_BYTES_MAX,
        )
        self._started_at = asyncio.get_running_loop().time()

    async def word(self) -> str:
        """The line it says once it is ready; empty when it has ended instead."""
        assert self._process is not None
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()

    async def keep_running(self) -> None:
        """Starts the process again whenever it has ended, after a longer pause each time it did not last."""
        while True:
            assert self._process is not None
            status = await self._process.wait()
            delay_s = self._delay_s()
            self._log.error(f"{self.name}_died", pid=self._process.pid, status=status, restart_in_s=delay_s)
            await asyncio.sleep(delay_s)
            await self.start()
            if not self._speaks or await self.word():
                self._log.info(f"{self.name}_restarted", pid=self.pid)

    def _delay_s(self) -> float:
        lived_s = asyncio.get_running_loop().time() - self._started_at
        self._early_deaths = 0 if lived_s >= STEADY_S else self._early_deaths + 1
        return float(min(RESTART_DELAY_S * 2 ** max(0, self._early_deaths - 1), RESTART_DELAY_MAX_S))

    async def stop(self) -> bool:
        """Asks the process to end, and ends it when it does not; False unless it ended well by itself."""
        process = self._process
        if process is None or process.returncode is not None:
            return True
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self._stop_timeout_s):
                return await process.wait() in ENDED_WELL
        except TimeoutError:
            self._log.warning(f"{self.name}_killed", pid=process.pid)
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            return False


def end_with_owner(stop: asyncio.Event, *, grace_s: float) -> None:
    """Sets `stop` when standard input ends, which the owner holds open; after `grace_s` ends this process by force.

    In a thread, so that a process whose event loop hangs does not outlive its owner either.
    """
    loop = asyncio.get_running_loop()

    def watch() -> None:
        while os.read(sys.stdin.fileno(), WORD_BYTES_MAX):
            pass
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)
        time.sleep(grace_s)
        os._exit(1)

    threading.Thread(target=watch, name="owner", daemon=True).start()
