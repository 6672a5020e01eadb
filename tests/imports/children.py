"""Looking at the parser processes of a program, by what the kernel says."""

from __future__ import annotations

import time
from pathlib import Path

LOOK_INTERVAL_S = 0.01


def parsers_of(owner: int) -> list[int]:
    """The living parser processes that a process has started."""
    return [pid for pid in _pids() if _is_alive_child(pid, owner)]


def is_alive(pid: int) -> bool:
    """Whether a process still runs; one that waits to be collected does not."""
    return _state(pid)[0] not in ("Z", "X", "")


def wait_until_gone(pid: int, *, timeout_s: float) -> None:
    """Returns when a process has ended. Raises `AssertionError` after a while."""
    until = time.monotonic() + timeout_s
    while is_alive(pid):
        assert time.monotonic() < until, f"process {pid} is still there"
        time.sleep(LOOK_INTERVAL_S)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _is_alive_child(pid: int, owner: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return _state(pid)[1] == owner and b"steelyard.imports.child" in words and is_alive(pid)


def _state(pid: int) -> tuple[str, int]:
    """The state of a process and its parent; blank for one that is gone."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return "", 0
    return state, int(parent)
