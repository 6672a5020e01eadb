"""The database a process works on: the one its settings name, else an embedded one that is kept running."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from steelyard.app.failures import CommandFailed
from steelyard.app.settings import Settings
from steelyard.embedded import EmbeddedError, EmbeddedPostgres
from steelyard.migrations import head_revision, upgrade
from steelyard.storage.inspection import DatabaseAway, DatabaseRefuses, schema_revision
from steelyard.telemetry.logs import Log

WATCH_INTERVAL_S = 0.2
RESTART_DELAY_S = 1.0
CONNECTIONS_MIN = 100
RETRY_S = 1.0
"""The pause before a database that is away is tried again."""
TOLD_EVERY = 30
"""Attempts of which one is told to the log."""
RESTARTS_MAX = 5
"""Starts in a row that may fail before we give up."""


class StoreNotReady(CommandFailed):
    """The database cannot be used as it is; the text says what to do."""


class StoreAway(StoreNotReady):
    """The database cannot be reached now. It may come, or come back."""


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
    try:
        revision = await schema_revision(url)
    except DatabaseRefuses as error:
        raise StoreNotReady(f"the database cannot be used: {error}") from None
    except DatabaseAway as error:
        raise StoreAway(f"the database cannot be reached: {error}") from None
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


def first_line(error: SQLAlchemyError) -> str:
    """What the driver says, without SQLAlchemy's advice around it."""
    told = str(getattr(error, "orig", None) or error).strip()
    return told.splitlines()[0] if told else type(error).__name__
