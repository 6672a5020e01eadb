"""The programs of PostgreSQL as child processes: initdb, and the server itself.

Each course of events is written once, as a generator that yields how long to wait before its next look,
in seconds. Closing such a generator early ends its process.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Generator, Mapping

from steelyard.embedded.binaries import Binaries
from steelyard.embedded.data_directory import DataDirectory
from steelyard.embedded.errors import EmbeddedError, EmbeddedReason, from_server_output
from steelyard.embedded.identity import Identity

SUPERUSER = "steelyard"
LOOPBACK = "127.0.0.1"
INITDB_TIMEOUT_S = 60.0
START_ATTEMPTS = 5
STALE_STOP_TIMEOUT_S = 30.0
QUICK_STOP_TIMEOUT_S = 5.0
LOOK_INTERVAL_S = 0.005
RETRY_INTERVAL_S = 0.3

COMMON_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
}
THROWAWAY_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
# Another process took the port in between, or the last backend of a killed server is just ending.
PASSING_FAILURES = ("Address already in use", "pre-existing shared memory block")


class ServerProcess:
    """A running server and what is needed to end it."""

    def __init__(self, process: subprocess.Popen[bytes], *, lifeline: int | None) -> None:
        self.process = process
        self._lifeline = lifeline

    @property
    def is_alive(self) -> bool:
        """Whether the server still runs."""
        return self.process.poll() is None

    def end(self, number: signal.Signals, timeout_s: float) -> Generator[float]:
        """Signal the server and wait for its end; past the time it is ended without ceremony."""
        for next_signal, patience_s in (
            (number, timeout_s),
            (signal.SIGQUIT, QUICK_STOP_TIMEOUT_S),
            (signal.SIGKILL, QUICK_STOP_TIMEOUT_S),
        ):
            if self.is_alive:
                self.process.send_signal(next_signal)
            deadline = time.monotonic() + patience_s
            while self.is_alive and time.monotonic() < deadline:
                yield LOOK_INTERVAL_S
        self._let_go()
        if self.is_alive:
            raise EmbeddedError(EmbeddedReason.STOP_FAILED, f"the server (process {self.process.pid}) does not end")

    def end_at_once(self) -> None:
        """End the server without a clean shutdown and wait for it: for starts that failed."""
        for _ in self.end(signal.SIGQUIT, QUICK_STOP_TIMEOUT_S):
            time.sleep(LOOK_INTERVAL_S)

    def _let_go(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None


def run_initdb(*, directory: DataDirectory, binaries: Binaries, identity: Identity, durable: bool) -> Generator[float]:
    """Make the database files: UTF-8, C.UTF-8 (else C) order, password sign-in only."""
    failures: list[str] = []
    for locale in ("C.UTF-8", "C"):
        directory.prepare_initdb(identity)
        command = _initdb_command(directory, binaries, locale=locale, durable=durable)
        since = directory.log.stat().st_size if directory.log.exists() else 0
        server = _spawn(command, directory=directory, identity=identity)
        try:
            deadline = time.monotonic() + INITDB_TIMEOUT_S
            while server.is_alive and time.monotonic() < deadline:
                yield LOOK_INTERVAL_S
        finally:
            server.end_at_once()
        if server.process.returncode == 0:
            directory.finish_initdb()
            return
        failures.append(directory.log_tail(since))
        if "invalid locale name" not in failures[-1]:
            break
    raise from_server_output(failures[-1], f"PostgreSQL could not make its files in {directory.home}")


def _initdb_command(directory: DataDirectory, binaries: Binaries, *, locale: str, durable: bool) -> list[str]:
    command = [str(binaries.initdb), "-D", str(directory.unfinished_files), "-U", SUPERUSER]
    command += ["--auth=scram-sha-256", f"--pwfile={directory.password_file}"]
    command += ["--encoding=UTF8", f"--locale={locale}", "--no-instructions"]
    if not durable:
        command.append("--no-sync")
    if binaries.major >= 16:
        # The password has 256 random bits: iterations would slow down each connect and protect nothing.
        command += ["-c", "scram_iterations=1"]
    return command


def run_server(
    *,
    directory: DataDirectory,
    binaries: Binaries,
    identity: Identity,
    settings: Mapping[str, str],
    timeout_s: float,
) -> Generator[float, None, tuple[ServerProcess, int]]:
    """Start the server, wait until it takes connections; answers the process and its port."""
    output = ""
    for _ in range(START_ATTEMPTS):
        port = _free_port(directory.last_port())
        since = directory.log.stat().st_size if directory.log.exists() else 0
        before = directory.postmaster_state()
        command = [str(binaries.postgres), "-D", str(directory.files), "-p", str(port)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        server = _spawn(command, directory=directory, identity=identity)
        try:
            ready = yield from _until_ready(server, directory, before=before, timeout_s=timeout_s)
        except BaseException:
            server.end_at_once()
            raise
        if ready:
            directory.keep_port(port)
            return server, port
        server.end_at_once()
        output = directory.log_tail(since)
        if not any(failure in output for failure in PASSING_FAILURES):
            break
        yield RETRY_INTERVAL_S
    raise from_server_output(output, f"PostgreSQL did not start in {directory.home}")


def _until_ready(
    server: ServerProcess,
    directory: DataDirectory,
    *,
    before: tuple[int, int, str] | None,
    timeout_s: float,
) -> Generator[float, None, bool]:
    deadline = time.monotonic() + timeout_s
    while server.is_alive and time.monotonic() < deadline:
        state = directory.postmaster_state()
        # A file left by a killed server says "ready" too: only a changed one is the answer.
        if state is not None and state != before and state[2] == "ready":
            return True
        yield LOOK_INTERVAL_S
    return False


def end_stale_server(directory: DataDirectory) -> Generator[float]:
    """End a server that outlived its owner on these files; the caller holds the lock, so it has no owner."""
    for number, patience_s in (
        (signal.SIGINT, STALE_STOP_TIMEOUT_S),
        (signal.SIGQUIT, QUICK_STOP_TIMEOUT_S),
        (signal.SIGKILL, QUICK_STOP_TIMEOUT_S),
    ):
        process_id = directory.server_process()
        if process_id is None:
            break
        os.kill(process_id, number)
        deadline = time.monotonic() + patience_s
        while directory.server_process() is not None and time.monotonic() < deadline:
            yield LOOK_INTERVAL_S
    if (process_id := directory.server_process()) is not None:
        raise EmbeddedError(
            EmbeddedReason.STOP_FAILED,
            f"a server left in {directory.home} (process {process_id}) does not end",
        )
    directory.forget_dead_server()


def _spawn(command: list[str], *, directory: DataDirectory, identity: Identity) -> ServerProcess:
    # The death signal belongs to the thread that starts the process: that is why nothing here uses
    # a thread pool. A session of its own keeps Ctrl-C in a terminal from ending the server before us.
    lifeline_read, lifeline_write = os.pipe() if identity.needs_pipe else (None, None)
    log = directory.open_log()
    try:
        process = subprocess.Popen(
            identity.guarded(command),
            stdin=subprocess.DEVNULL if lifeline_read is None else lifeline_read,
            stdout=log,
            stderr=log,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
            cwd="/",
            start_new_session=True,
        )
    except BaseException:
        if lifeline_write is not None:
            os.close(lifeline_write)
        raise
    finally:
        os.close(log)
        if lifeline_read is not None:
            os.close(lifeline_read)
    return ServerProcess(process, lifeline=lifeline_write)


def _free_port(preferred: int | None) -> int:
    for port in (preferred, 0):
        if port is None:
            continue
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((LOOPBACK, port))
            except OSError:
                continue
            chosen: int = listener.getsockname()[1]
            return chosen
    raise EmbeddedError(EmbeddedReason.START_FAILED, f"no free port on {LOOPBACK}")
