"""The task engine's app: its connection and its one task, which builds a chunk."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import procrastinate

from steelyard.accounting.errors import FenceLost, StoreUnavailable
from steelyard.operations import observing
from steelyard.operations.building import CHUNK_TASK
from steelyard.operations.observing import Origin
from steelyard.telemetry.logs import Log

RunChunk = Callable[[UUID, int], Awaitable[None]]
CONNECTIONS_MAX = 4
CONNECT_TIMEOUT_S = 5.0


def make_app(url: str, run_chunk: RunChunk, *, log: Log) -> procrastinate.App:
    """An app on a database of ours; `run_chunk` does the work of a job.

    A job that is lost or fails is not the engine's to repeat: the sweep looks at the chunks themselves.
    """
    connector = procrastinate.PsycopgConnector(
        conninfo=url,
        min_size=1,
        max_size=CONNECTIONS_MAX,
        timeout=CONNECT_TIMEOUT_S,
        kwargs={"application_name": "steelyard-tasks", "options": "-c jit=off"},
    )
    app = procrastinate.App(connector=connector)

    async def build_chunk(*, build_id: str, chunk: int, origin: str = "", **_later: Any) -> None:
        observing.origin.set(Origin.of_text(origin))
        try:
            await run_chunk(UUID(build_id), chunk)
        except (FenceLost, StoreUnavailable) as error:
            # Either another worker has the chunk already, or one gets it once the lease has run out.
            told = Origin.of_text(origin).trace_id
            log.warning("chunk_left", build_id=build_id, chunk=chunk, reason=error.reason, trace_id=told)

    app.task(name=CHUNK_TASK)(build_chunk)
    return app
