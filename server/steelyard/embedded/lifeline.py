"""Runs a command and ends it when standard input closes: for systems without `setpriv --pdeathsig`.

Usage: lifeline.py UID GID COMMAND...   (UID -1: stay who we are)
The owner keeps the other end of the pipe, so its death in any way closes it. Signals are handed on.
Run as a program by its path, never imported, so it needs nothing of the package.
"""

import os
import select
import signal
import subprocess
import sys

ENDING_SIGNAL = signal.SIGINT
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
CHECK_INTERVAL_S = 0.1


def main(arguments: list[str]) -> int:
    """Run the command to its end; returns its exit status."""
    uid, gid, command = int(arguments[0]), int(arguments[1]), arguments[2:]
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    children: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def hand_on(received: int, _frame: object) -> None:
        for started in children:
            started.send_signal(received)
        if not children:
            early.append(received)

    for number in FORWARDED:
        signal.signal(number, hand_on)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    children.append(child)
    for received in early:
        child.send_signal(received)
    watched = [sys.stdin.fileno()]
    while child.poll() is None:
        readable, _, _ = select.select(watched, [], [], CHECK_INTERVAL_S)
        if readable and not os.read(readable[0], 1):
            child.send_signal(ENDING_SIGNAL)
            watched = []
    return child.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
