"""A look at a database from outside the pool: is it there, may we, is it fit to keep a book in.

Used before the service begins and by the doctor, so it makes plain connections of its own and tells apart what may pass
(nobody answers) from what waiting does not mend (a wrong password).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg
from sqlalchemy import make_url

from steelyard.operations.ports import Clock
from steelyard.storage.database import Connection

CONNECT_S = 5.0
DURABILITY = ("fsync", "full_page_writes", "synchronous_commit")
_REFUSALS = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)
_SETTINGS = "SELECT name, setting FROM pg_settings WHERE name = ANY($1)"
_REVISION = "SELECT max(version_num) FROM alembic_version"
_KEYS = """
SELECT count(*) FROM api_keys WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
"""


class DatabaseAway(Exception):
    """Nobody answers, or not now. That may change."""


class DatabaseRefuses(Exception):
    """A wrong user or password, no such database, no right to read it: waiting mends none of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFacts:
    """What a database says of itself."""

    answered_in_s: float
    """How long a connection and a first answer took."""
    version: int
    """As PostgreSQL numbers it: 150004 is 15.4."""
    revision: str | None
    """Of the schema; None: there is none."""
    live_keys: int | None
    """API keys that can be used; None: the schema knows none."""
    clock_ahead: timedelta
    """How far its clock is before ours, up to half of the time that reading it took."""
    settings: Mapping[str, str]
    is_session_shared: bool
    """Whether two connections at once are one session of the server: a pooler by transaction stands before it."""

    @property
    def connections_max(self) -> int:
        """How many connections it takes on, those kept for administrators left out."""
        kept = int(self.settings.get("superuser_reserved_connections", "0"))
        return int(self.settings["max_connections"]) - kept


async def schema_revision(url: str) -> str | None:
    """The revision of a database's schema; None: it has none. Raises `DatabaseAway`, `DatabaseRefuses`."""
    async with _connected(url) as connection:
        return await _revision(connection)


async def inspect_database(url: str, *, clock: Clock) -> DatabaseFacts:
    """What there is to know before working with a database. Raises `DatabaseAway`, `DatabaseRefuses`."""
    begun_s = time.monotonic()
    async with _connected(url) as connection:
        first = await connection.fetchval("SELECT pg_backend_pid()")
        answered_in_s = time.monotonic() - begun_s
        asked_at = clock()
        told: datetime = await connection.fetchval("SELECT clock_timestamp()")
        read_in = clock() - asked_at
        names = [*DURABILITY, "server_version_num", "max_connections", "superuser_reserved_connections"]
        settings = {row["name"]: row["setting"] for row in await connection.fetch(_SETTINGS, names)}
        revision = await _revision(connection)
        has_keys = await connection.fetchval("SELECT to_regclass('api_keys') IS NOT NULL")
        live_keys = await connection.fetchval(_KEYS) if has_keys else None
        # The first one waits outside of a transaction: a pooler would hand its session to the second.
        async with _connected(url) as other, other.transaction():
            second = await other.fetchval("SELECT pg_backend_pid()")
    return DatabaseFacts(
        answered_in_s=answered_in_s,
        version=int(settings["server_version_num"]),
        revision=revision,
        live_keys=live_keys,
        clock_ahead=told - asked_at - read_in / 2,
        settings=settings,
        is_session_shared=first == second,
    )


async def _revision(connection: Connection) -> str | None:
    try:
        revision: str | None = await connection.fetchval(_REVISION, timeout=CONNECT_S)
    except asyncpg.UndefinedTableError:
        return None
    return revision


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Connection]:
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        # Without prepared statements kept by name, which poolers by transaction lose.
        connection = await asyncpg.connect(address, timeout=CONNECT_S, statement_cache_size=0)
        try:
            yield connection
        finally:
            await connection.close(timeout=CONNECT_S)
    except _REFUSALS as error:
        raise DatabaseRefuses(str(error)) from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise DatabaseAway(str(error) or type(error).__name__) from None
