"""The database a process works on: the one its settings name, else an embedded one that is kept running."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from steelyard.app.failures import CommandFailed
from steelyard.app.settings import Settings
from steelyard.embedded import EmbeddedError, EmbeddedPostgres
from steelyard.migrations import head_revision, upgrade
from steelyard.telemetry.logs import Log

WATCH_INTERVAL_S = 0.2
RESTART_DELAY_S = 1.0
CONNECTIONS_MIN = 100
RETRY_S = 1.0
"""The pause before a database that is away is tried again."""
TOLD_EVERY = 30
"""Attempts of which one is told to the log."""
CONNECT_S = 5.0
RESTARTS_MAX = 5
"""Starts in a row that may fail before we give up."""


class StoreNotReady(CommandFailed):
    """The database cannot be used as it is; the text says what to do."""


class StoreAway(StoreNotReady):
    """The database cannot be reached now. It may come, or come back."""


REFUSALS = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)
"""A wrong user or password, no such database, no right to read it: waiting mends none of them."""


class EmbeddedStore:
    """An embedded PostgreSQL with the newest schema, started again when it dies."""

    def __init__(
        self, postgres: EmbeddedPostgres, *, folder: Path | None, log: Log, pg_settings: Mapping[str, str]
    ) -> None:
        self._postgres = postgres
        self._pg_settings = pg_settings
        self._folder = folder
        self._log = log
        self.url = postgres.url

    @classmethod
    @asynccontextmanager
    async def open(
        cls, folder: Path | None, *, log: Log, connections: int = CONNECTIONS_MIN
    ) -> AsyncIterator[EmbeddedStore]:
        """Runs on the files in a folder; None: on throwaway ones. Raises `EmbeddedError`."""
        pg_settings = {"max_connections": str(max(connections, CONNECTIONS_MIN))}
        postgres = await EmbeddedPostgres.start(folder, durable=folder is not None, settings=pg_settings)
        store = cls(postgres, folder=folder, log=log, pg_settings=pg_settings)
        try:
            await asyncio.to_thread(upgrade, store.url)
            yield store
        finally:
            await store.close()

    async def close(self) -> None:
        """Stops the server."""
        await self._postgres.stop()

    async def keep_running(self) -> None:
        """Starts the server again whenever it has died, on the same files and port. Raises `EmbeddedError` when that
        cannot be done: then the process must end."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            if not self._postgres.is_running:
                self._log.error("embedded_database_died")
                await asyncio.sleep(RESTART_DELAY_S)
                await self._restart()
                self._log.info("embedded_database_restarted")

    async def _restart(self) -> None:
        if self._folder is None:
            raise StoreNotReady("the embedded database died, and its files with it")
        await self._postgres.stop()
        for attempts_left in reversed(range(RESTARTS_MAX)):
            try:
                self._postgres = await EmbeddedPostgres.start(self._folder, settings=self._pg_settings)
                break
            except EmbeddedError:
                if not attempts_left:
                    raise
                await asyncio.sleep(RESTART_DELAY_S)
        if self._postgres.url != self.url:
            raise StoreNotReady("the embedded database's port was taken by another program; start again")


@asynccontextmanager
async def embedded_url(settings: Settings) -> AsyncIterator[str]:
    """The database of settings, the embedded one being run meanwhile and left as it is."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    async with await EmbeddedPostgres.start(settings.folder) as postgres:
        yield postgres.url


async def check_revision(url: str) -> None:
    """Raises `StoreAway` for a database that cannot be reached now, `StoreNotReady` for one that refuses us or lacks
    the newest schema."""
    revision = await database_revision(url)
    # A newer schema is fine: migrations expand first, and old code runs on them.
    if revision is None or revision < head_revision():
        raise StoreNotReady(
            f"the database is at revision {revision or 'none'}, this release needs {head_revision()}: "
            "run `steelyard migrate`"
        )


async def until_ready(url: str, *, log: Log) -> None:
    """Returns once the database can be worked with. Raises `StoreNotReady` for what waiting does not mend."""
    for attempt in itertools.count():
        try:
            await check_revision(url)
        except StoreAway as error:
            if attempt % TOLD_EVERY == 0:
                log.warning("store_away", problem=str(error))
        else:
            break
        await asyncio.sleep(RETRY_S)


async def database_revision(url: str) -> str | None:
    """The revision of a database's schema; None: it has none. Raises `StoreAway`, `StoreNotReady`."""
    try:
        connection = await asyncpg.connect(driver_url(url), timeout=CONNECT_S)
        try:
            revision: str | None = await connection.fetchval(
                "SELECT max(version_num) FROM alembic_version", timeout=CONNECT_S
            )
            return revision
        finally:
            await connection.close(timeout=CONNECT_S)
    except asyncpg.UndefinedTableError:
        return None
    except REFUSALS as error:
        raise StoreNotReady(f"the database cannot be used: {error}") from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise StoreAway(f"the database cannot be reached: {str(error) or type(error).__name__}") from None


def driver_url(url: str) -> str:
    """The address as the driver takes it, password included."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def first_line(error: SQLAlchemyError) -> str:
    """What the driver says, without SQLAlchemy's advice around it."""
    told = str(getattr(error, "orig", None) or error).strip()
    return told.splitlines()[0] if told else type(error).__name__
