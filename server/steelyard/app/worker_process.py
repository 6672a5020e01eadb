"""A worker as a child process of its owner: started again when it dies, never outliving its owner."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

from steelyard.telemetry.logs import Log

RESTART_DELAY_S = 1.0
STOP_TIMEOUT_S = 15.0


class WorkerProcess:
    """`steelyard work` on a database. It holds the read end of a pipe of ours, and ends when that closes."""

    def __init__(self, *, url: str, log: Log, variables: Mapping[str, str]) -> None:
        self._environment = {**os.environ, **variables, "STEELYARD_DATABASE_URL": url}
        self._log = log
        self._process: Process | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls, *, url: str, log: Log, variables: Mapping[str, str] | None = None
    ) -> AsyncIterator[WorkerProcess]:
        """Runs while the block does; `variables` are settings that differ from ours."""
        worker = cls(url=url, log=log, variables=variables or {})
        await worker.start()
        try:
            yield worker
        finally:
            await worker.stop()

    @property
    def pid(self) -> int:
        """The process that runs now, or ran last."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Starts the process."""
        # A session of its own: Ctrl-C is for the owner, who then ends its worker in order.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "steelyard.app",
            "work",
            "--owned",
            stdin=PIPE,
            stdout=DEVNULL,
            env=self._environment,
            start_new_session=True,
        )

    async def keep_running(self) -> None:
        """Starts the worker again whenever it has ended."""
        while True:
            assert self._process is not None
            status = await self._process.wait()
            self._log.error("worker_died", pid=self._process.pid, status=status)
            await asyncio.sleep(RESTART_DELAY_S)
            await self.start()

    async def stop(self) -> None:
        """Asks the worker to end, and ends it when it does not."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            self._log.warning("worker_killed", pid=process.pid)
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
