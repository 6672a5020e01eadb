"""The embedded server as its user sees it: start, url, stop."""

import asyncio
import atexit
import contextlib
import os
import signal
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import quote

from steelyard.embedded import server_process
from steelyard.embedded.binaries import Binaries, find_binaries
from steelyard.embedded.data_directory import DataDirectory
from steelyard.embedded.errors import from_os_error
from steelyard.embedded.identity import choose_identity

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
MAINTENANCE_DATABASE = "postgres"
T = TypeVar("T")


class EmbeddedPostgres:
    """A running private PostgreSQL on 127.0.0.1, which ends when we end, however that happens.

    The server is bound to the life of the thread that started it (Linux sends the death signal when
    that thread ends): start it from the main thread, or the one that runs the event loop.
    """

    def __init__(
        self, *, directory: DataDirectory, server: server_process.ServerProcess, port: int, durable: bool
    ) -> None:
        self.port = port
        self.data_directory = directory.home
        self._directory = directory
        self._server = server
        self._password = directory.password()
        # Nobody will read throwaway files again, so their checkpoint at the end is left out.
        is_throwaway = directory.is_temporary and not durable
        self._stop_signal = signal.SIGQUIT if is_throwaway else signal.SIGINT
        self._owner_process_id = os.getpid()
        atexit.register(self._stop_at_exit)

    @classmethod
    async def start(
        cls,
        data_directory: Path | None = None,
        *,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
        binaries: Binaries | None = None,
        temporary_parent: Path | None = None,
        timeout_s: float = START_TIMEOUT_S,
    ) -> Self:
        """Start the server on the files in `data_directory`; None makes temporary ones, removed on stop.

        `durable=False` gives up safety against a crash of the machine for speed: for tests.
        `settings` are PostgreSQL settings that replace ours; `binaries` are looked for if not given;
        `temporary_parent` is where temporary files go, by default the system's place.
        Raises `EmbeddedError`.
        """
        steps = cls._starting(
            data_directory,
            durable=durable,
            settings=settings or {},
            binaries=binaries,
            temporary_parent=temporary_parent,
            timeout_s=timeout_s,
        )
        return await _drive(steps)

    @classmethod
    def start_blocking(
        cls,
        data_directory: Path | None = None,
        *,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
        binaries: Binaries | None = None,
        temporary_parent: Path | None = None,
        timeout_s: float = START_TIMEOUT_S,
    ) -> Self:
        """The same as `start`, for callers without an event loop."""
        steps = cls._starting(
            data_directory,
            durable=durable,
            settings=settings or {},
            binaries=binaries,
            temporary_parent=temporary_parent,
            timeout_s=timeout_s,
        )
        return _drive_blocking(steps)

    @classmethod
    def url_of_running(cls, data_directory: Path) -> str | None:
        """Where the server listens that somebody else runs on these files now; None where none does."""
        directory = DataDirectory.peek(data_directory)
        port = directory.last_port()
        if directory.server_process() is None or port is None:
            return None
        return _url(MAINTENANCE_DATABASE, port=port, password=directory.password())

    @property
    def url(self) -> str:
        """Where to connect as the superuser, with the password: keep it out of logs."""
        return self.database_url(MAINTENANCE_DATABASE)

    @property
    def is_running(self) -> bool:
        """Whether the server process is alive."""
        return self._server.is_alive

    def database_url(self, database: str) -> str:
        """The url of another database of this server."""
        return _url(database, port=self.port, password=self._password)

    async def stop(self) -> None:
        """Stop the server cleanly and give up the folder; a second call does nothing."""
        await _drive(self._stopping())

    def stop_blocking(self) -> None:
        """The same as `stop`, for callers without an event loop."""
        _drive_blocking(self._stopping())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_raised: object) -> None:
        await self.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.stop_blocking()

    @classmethod
    def _starting(
        cls,
        data_directory: Path | None,
        *,
        durable: bool,
        settings: Mapping[str, str],
        binaries: Binaries | None,
        temporary_parent: Path | None,
        timeout_s: float,
    ) -> Generator[float, None, Self]:
        chosen = binaries or find_binaries()
        doing = f"the folder {data_directory or 'for temporary files'} cannot hold a database"
        try:
            directory = DataDirectory.open(data_directory, temporary_parent)
            try:
                yield from server_process.end_stale_server(directory)
                identity = choose_identity(binaries=chosen, home=directory.home, home_is_new=directory.is_new)
                if not directory.exists:
                    yield from server_process.run_initdb(
                        directory=directory, binaries=chosen, identity=identity, durable=durable
                    )
                directory.check_version(chosen)
                directory.give_to(identity)
                safety = {} if durable else server_process.THROWAWAY_SETTINGS
                server, port = yield from server_process.run_server(
                    directory=directory,
                    binaries=chosen,
                    identity=identity,
                    settings={**server_process.COMMON_SETTINGS, **safety, **settings},
                    timeout_s=timeout_s,
                )
                return cls(directory=directory, server=server, port=port, durable=durable)
            except BaseException:
                directory.close()
                raise
        except OSError as error:
            raise from_os_error(error, doing) from error

    def _stopping(self) -> Generator[float]:
        try:
            yield from self._server.end(self._stop_signal, STOP_TIMEOUT_S)
        finally:
            # Also when the stop is cancelled: better ended at once than left without an owner.
            if self._server.is_alive:
                self._server.end_at_once()
            self._directory.close()
            atexit.unregister(self._stop_at_exit)

    def _stop_at_exit(self) -> None:
        # A forked child that ends must not take its parent's server with it.
        if os.getpid() == self._owner_process_id:
            self.stop_blocking()


async def _drive(steps: Generator[float, None, T]) -> T:
    with contextlib.closing(steps):
        while True:
            try:
                pause_s = next(steps)
            except StopIteration as done:
                result: T = done.value
                return result
            await asyncio.sleep(pause_s)


def _drive_blocking(steps: Generator[float, None, T]) -> T:
    with contextlib.closing(steps):
        while True:
            try:
                pause_s = next(steps)
            except StopIteration as done:
                result: T = done.value
                return result
            time.sleep(pause_s)


def _url(database: str, *, port: int, password: str) -> str:
    signed_in = f"{server_process.SUPERUSER}:{password}"
    return f"postgresql://{signed_in}@{server_process.LOOPBACK}:{port}/{quote(database)}"
