"""Connections to PostgreSQL: one pool, four ways to use it.

`read` and `write` hand out the bare asyncpg connection inside a transaction, for statements that take arrays, COPY and
cursors; `core` hands out SQLAlchemy's connection, for questions whose shape depends on the filter; `keyed` one that is
kept at hand for short reads by key. All of them translate driver errors.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import asyncpg
from sqlalchemy import event, make_url
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from steelyard.accounting.errors import StoreUnavailable
from steelyard.operations.observing import origin
from steelyard.storage.driver_errors import translated
from steelyard.storage.kept_connections import KeptConnections
from steelyard.telemetry.store import StoreTelemetry

Connection: TypeAlias = asyncpg.Connection
"""The bare driver connection inside a transaction."""


@dataclass(frozen=True, slots=True)
class DatabaseLimits:
    """What bounds the use of the store."""

    pool_size: int = 10
    pool_wait_s: float = 5.0
    statement_timeout_ms: int = 30_000
    lock_timeout_ms: int = 5_000
    idle_in_transaction_timeout_ms: int = 60_000
    connect_timeout_s: float = 5.0


class Database:
    """The store's connection pool; one per process."""

    def __init__(
        self, url: str, limits: DatabaseLimits = DatabaseLimits(), *, telemetry: StoreTelemetry | None = None
    ) -> None:
        self.telemetry = telemetry or StoreTelemetry()
        self.url = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        """For parts that need a connection of their own (listeners, the task engine); holds the password."""
        self._limits = limits
        self.is_held = False
        """Held: it counts as away, until somebody has made sure that it is one we can work with."""
        self.engine: AsyncEngine = create_async_engine(
            make_url(url).set(drivername="postgresql+asyncpg"),
            pool_size=limits.pool_size,
            max_overflow=0,
            pool_timeout=limits.pool_wait_s,
            pool_use_lifo=True,
            json_deserializer=str,  # JSON stays text: readers parse it, and no number passes through a float
            connect_args={
                "timeout": limits.connect_timeout_s,
                "server_settings": {
                    "application_name": "steelyard",
                    "jit": "off",
                    "timezone": "UTC",
                    "statement_timeout": str(limits.statement_timeout_ms),
                    "lock_timeout": str(limits.lock_timeout_ms),
                    "idle_in_transaction_session_timeout": str(limits.idle_in_transaction_timeout_ms),
                },
            },
        )
        self._kept = KeptConnections(self.engine, pool_size=limits.pool_size)
        event.listen(self.engine.sync_engine, "checkout", _refuse_closed)
        if telemetry is not None:
            event.listen(self.engine.sync_engine, "connect", self._listen)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Connection]:
        """One consistent snapshot: REPEATABLE READ, READ ONLY."""
        with translated(), self.telemetry.span("sql.read", origin.get().traceparent):
            async with self.bare() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Connection]:
        """A READ COMMITTED transaction, committed when the block ends well."""
        with translated(), self.telemetry.span("sql.write", origin.get().traceparent):
            async with self.bare() as connection, connection.transaction(isolation="read_committed"):
                yield connection

    @asynccontextmanager
    async def core(self) -> AsyncIterator[AsyncConnection]:
        """SQLAlchemy's connection inside a REPEATABLE READ, READ ONLY transaction."""
        self._refuse_held()
        with translated():
            async with self.engine.connect() as connection:
                await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                yield connection

    @asynccontextmanager
    async def bare(self) -> AsyncIterator[Connection]:
        """A driver connection of the pool without a transaction; the caller begins and ends his own."""
        self._refuse_held()
        begun_s = time.perf_counter()
        with translated():
            async with self.engine.connect() as connection:
                self.telemetry.pool_waited(time.perf_counter() - begun_s)
                raw = cast(Any, (await connection.get_raw_connection()).driver_connection)
                try:
                    yield raw
                except (asyncio.CancelledError, asyncpg.InternalClientError):
                    # A BEGIN that was cut off may have begun all the same: nobody may get this connection again.
                    raw.terminate()
                    raise

    @asynccontextmanager
    async def keyed(self) -> AsyncIterator[Connection]:
        """A driver connection for short reads by key, each a statement of its own; see `kept_connections`."""
        self._refuse_held()
        if not self._kept.has_one:
            async with self.bare() as connection:
                yield connection
            return
        with translated():
            async with self._kept.connection() as raw:
                yield raw

    async def ping(self) -> None:
        """Raises `StoreUnavailable` when the store does not answer."""
        async with self.bare() as connection:
            await connection.fetchval("SELECT 1")

    def _refuse_held(self) -> None:
        if self.is_held:
            raise StoreUnavailable("the database was not reached yet")

    @property
    def in_use(self) -> int:
        """Connections of the pool that somebody holds."""
        return int(cast(Any, self.engine.pool).checkedout()) - self._kept.idle

    def _listen(self, connection: Any, _record: Any) -> None:
        connection.driver_connection.add_query_logger(self._statement_ran)

    def _statement_ran(self, ran: Any) -> None:
        whose = origin.get()
        self.telemetry.statement_ran(ran.query, took_s=ran.elapsed, origin=(whose.trace_id, whose.traceparent))

    async def close(self) -> None:
        """Closes every connection."""
        await self._kept.close()
        await self.engine.dispose()


def _refuse_closed(_connection: Any, record: Any, _proxy: Any) -> None:
    """Keeps the pool from handing out what a restart of the store has cut, or what stands in a transaction: bare use
    tells it neither."""
    if record.driver_connection.is_closed() or record.driver_connection.is_in_transaction():
        raise InvalidatePoolError
