"""A worker as a child process of its owner."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from steelyard.app.child_process import ChildProcess
from steelyard.telemetry.logs import Log

STOP_TIMEOUT_S = 15.0


class WorkerProcess(ChildProcess):
    """`steelyard work` on a database."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, *, url: str, log: Log, variables: Mapping[str, str] | None = None
    ) -> AsyncIterator[WorkerProcess]:
        """Runs while the block does; `variables` are settings that differ from ours."""
        worker = cls(
            "worker",
            ("work", "--owned"),
            variables={**(variables or {}), "STEELYARD_DATABASE_URL": url},
            stop_timeout_s=STOP_TIMEOUT_S,
            log=log,
        )
        await worker.start()
        try:
            yield worker
        finally:
            await worker.stop()
