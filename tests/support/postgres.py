"""A real PostgreSQL for the tests: one server for each test process, a fresh database for each test.

The schema is migrated once, into a template; each test gets a copy of it (13 ms where files live in
memory, 250 ms on a disk, hence the memory file system where there is one).
"""

import asyncio
import itertools
import shutil
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest

from steelyard.embedded import EmbeddedPostgres

MEMORY_FILES = Path("/dev/shm")
MEMORY_FILES_NEEDED_BYTES = 4_000_000_000
# The write-ahead log lives in memory too.
TEST_SETTINGS = {"max_wal_size": "256MB", "min_wal_size": "64MB"}
TEMPLATE = "migrated_template"
CALL_TIMEOUT_S = 60
DISCONNECT_ATTEMPTS = 200
DISCONNECT_INTERVAL_S = 0.005

T = TypeVar("T")


class TestServer:
    """The server of this test process, with databases made and dropped at will.

    Its methods block and may be called with or without a running event loop: the administrator's
    connection lives in a thread with a loop of its own.
    """

    __test__ = False  # A name that pytest would take for a test class.

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        self.postgres = postgres
        self._names = (f"test_{number}" for number in itertools.count(1))
        self._template_lock = threading.Lock()
        self._has_template = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-databases", daemon=True)
        self._thread.start()
        self._connection = self._call(asyncpg.connect(postgres.url))

    def create_database(self) -> str:
        """The url of a new, migrated database."""
        self._ensure_template()
        return self._create(TEMPLATE)

    def create_empty_database(self) -> str:
        """The url of a new database without any table."""
        return self._create("template0")

    def drop_database(self, url: str) -> None:
        """Drop the database, ending whatever is still connected to it."""
        name = url.rsplit("/", 1)[1]
        self._call(self._disconnect(name))
        self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def close(self) -> None:
        """Give up the administrator's connection."""
        self._call(self._connection.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _create(self, template: str) -> str:
        name = next(self._names)
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        return self.postgres.database_url(name)

    def _ensure_template(self) -> None:
        with self._template_lock:
            if self._has_template:
                return
            from steelyard.migrations import upgrade

            self._execute(f'DROP DATABASE IF EXISTS "{TEMPLATE}"')
            self._execute(f'CREATE DATABASE "{TEMPLATE}" TEMPLATE template0 STRATEGY file_copy')
            with ThreadPoolExecutor(max_workers=1) as outside_of_any_loop:
                outside_of_any_loop.submit(upgrade, self.postgres.database_url(TEMPLATE)).result()
            self._call(self._disconnect(TEMPLATE))
            self._has_template = True

    async def _disconnect(self, name: str) -> None:
        # DROP ... WITH (FORCE) alone looks again only after 100 ms.
        ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1"
        for _ in range(DISCONNECT_ATTEMPTS):
            if not await self._connection.fetchval(ended, name):
                return
            await asyncio.sleep(DISCONNECT_INTERVAL_S)

    def _execute(self, statement: str) -> None:
        self._call(self._connection.execute(statement))

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(_await(coroutine), self._loop).result(CALL_TIMEOUT_S)


async def _await(awaitable: Coroutine[Any, Any, T]) -> T:
    return await awaitable


def fast_temporary_parent() -> Path | None:
    """A folder in memory for throwaway files; None where there is none with enough room."""
    try:
        free = shutil.disk_usage(MEMORY_FILES).free
    except FileNotFoundError:
        return None
    return MEMORY_FILES if free >= MEMORY_FILES_NEEDED_BYTES else None


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[TestServer]:
    """The PostgreSQL of this test process."""
    started = EmbeddedPostgres.start_blocking(
        durable=False, settings=TEST_SETTINGS, temporary_parent=fast_temporary_parent()
    )
    with started as postgres:
        server = TestServer(postgres)
        yield server
        server.close()


@pytest.fixture
def database_url(postgres_server: TestServer) -> Iterator[str]:
    """A fresh migrated database, dropped afterwards."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def empty_database_url(postgres_server: TestServer) -> Iterator[str]:
    """A fresh database without any table, dropped afterwards."""
    url = postgres_server.create_empty_database()
    yield url
    postgres_server.drop_database(url)
