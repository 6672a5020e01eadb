"""Starting owner programs and looking at what they leave behind."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from steelyard.embedded.data_directory import command_line

OWNER_PROGRAM = Path(__file__).with_name("owner_program.py")
LOOK_INTERVAL_S = 0.01


@dataclass(frozen=True, slots=True)
class Owner:
    """A running owner program and what it said about its server."""

    process: subprocess.Popen[str]
    port: int
    server: int
    data_directory: Path
    user: int

    def kill(self) -> None:
        """End the owner so that it can clean up nothing."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self.close()

    def close(self) -> None:
        """Close the pipe to an owner that has ended."""
        assert self.process.stdout is not None
        self.process.stdout.close()


def start_owner(
    directory: Path | None,
    *,
    ending: str,
    parent: Path | None = None,
    prefix: list[str] | None = None,
    search_path: str | None = None,
) -> Owner:
    """Start an owner program and wait until its server has answered a query."""
    words = [str(directory or "-"), str(parent or "-"), ending]
    # Another user may not write where coverage is collected.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    process = subprocess.Popen(
        [*(prefix or []), sys.executable, str(OWNER_PROGRAM), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if ending == "raise" else None,
        text=True,
        cwd="/",
        env=environment | ({"PATH": search_path} if search_path else {}),
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the owner ended with {process.wait(10)} before its server answered"
    facts = json.loads(line)
    assert facts["answer"] == 1
    return Owner(process, facts["port"], facts["server"], Path(facts["data_directory"]), facts["user"])


def takes_connections(port: int) -> bool:
    """Whether something listens on this port of the loopback interface."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def is_gone(owner: Owner) -> bool:
    """Whether the server of this owner has ended and its port is closed."""
    return not command_line(owner.server) and not takes_connections(owner.port)


def seconds_until(condition: Callable[[], bool], *, at_most_s: float) -> float:
    """How long it took until the condition held; fails past the limit."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < at_most_s, f"not within {at_most_s} s"
        time.sleep(LOOK_INTERVAL_S)
    return time.monotonic() - began


def folder_of_programs(folder: Path, *names: str) -> Path:
    """A folder for PATH that holds only these programs of the system."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        found = shutil.which(name)
        assert found is not None, name
        (folder / name).symlink_to(found)
    return folder


def as_ordinary_user() -> list[str]:
    """Command words that run the rest not as root: nobody, or nobody in a user namespace of root's."""
    if os.geteuid() != 0:
        return []
    for words in (
        ["setpriv", "--reuid=nobody", "--regid=65534", "--clear-groups"],
        ["unshare", "--map-user=65534", "--map-group=65534"],
    ):
        # By way of env, since root's rights last until the first program is found; root's home is closed.
        prefix = [str(shutil.which(words[0])), *words[1:], str(shutil.which("env")), "HOME=/"]
        probe = [*prefix, sys.executable, "-c", f"import steelyard.embedded; open({str(OWNER_PROGRAM)!r})"]
        if subprocess.run(probe, capture_output=True, check=False, cwd="/").returncode == 0:
            return prefix
    raise AssertionError("no way to run as an ordinary user")
