"""Runs the real `steelyard` as a process, the way its user does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

START_S = 120.0
END_S = 30.0
LAST_LINE = "  worker: "
"""How the last line begins that the service says once it serves."""
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def environment(**variables: str) -> dict[str, str]:
    """Ours without any setting of the service, but for those given."""
    kept = {"STEELYARD_PG_BIN", "STEELYARD_ROOT"}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STEELYARD_") or name in kept}
    return {**clean, "NO_COLOR": "1", "COLUMNS": "200", **variables}


def command(*arguments: str) -> list[str]:
    """The command line that runs `steelyard` with arguments."""
    return [sys.executable, "-m", "steelyard.app", *arguments]


def run(*arguments: str, timeout_s: float = START_S, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        command(*arguments),
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@dataclass(slots=True)
class Serving:
    """A running `steelyard serve`."""

    process: subprocess.Popen[bytes]
    address: str
    banner: Sequence[str]
    log: Path

    def health(self, service: str = "") -> int:
        """What it says of itself."""
        with grpc.insecure_channel(self.address) as channel:
            asked = health_pb2.HealthCheckRequest(service=service)
            return int(health_pb2_grpc.HealthStub(channel).Check(asked, timeout=10).status)

    def children(self) -> dict[str, psutil.Process]:
        """Its child processes by what they are: postgres, worker."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            # One that has just died has no words any more.
            with suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
                found["worker" if "work" in child.cmdline() else "postgres"] = child
        return found

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status after a signal."""
        self.process.send_signal(number)
        return self.process.wait(END_S)


@contextmanager
def serving(folder: Path, *arguments: str, **variables: str) -> Iterator[Serving]:
    """`steelyard serve` on a free port, its output in a folder; killed at the end if it still runs."""
    said, log = folder / "serve.out", folder / "serve.log"
    with said.open("w") as out, log.open("w") as err:
        process = subprocess.Popen(
            command("serve", "--port", "0", *arguments),
            env=environment(**variables),
            stdout=out,
            stderr=err,
            stdin=subprocess.DEVNULL,
        )
    try:
        until(
            lambda: process.poll() is not None or _is_said(said.read_text()),
            what="`steelyard serve` to say where it is",
            timeout_s=START_S,
        )
        banner = said.read_text().splitlines()
        assert _is_said(said.read_text()), log.read_text()[-2_000:]
        yield Serving(process, banner[0].split(" on ")[1].split(": ")[0], banner, log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _is_said(text: str) -> bool:
    return text.endswith("\n") and text.splitlines()[-1].startswith(LAST_LINE)


def until(is_so: Callable[[], bool], *, what: str, timeout_s: float = 30.0) -> None:
    """Waits for something to become true."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for: {what}"
        time.sleep(0.1)


def is_gone(processes: Mapping[str, psutil.Process]) -> bool:
    """Whether none of them runs any more."""
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes.values())
