"""As whom the server runs, and the words before a command that make it so.

Problem: PostgreSQL refuses to run as root, yet root is usual in containers and on build machines, where
the programs often lie below a folder only root may enter (a venv in /root, a clone in a 0700 folder).
Choice, tried in this order as root, each checked by really running the program:
1. a user namespace (`unshare --map-user`): the server is not root to itself, but keeps access to
   root's folders and files. Not permitted in a chroot and in most containers;
2. another user (`setpriv --reuid`): needs folders that everybody may enter;
3. the same with the one capability to pass folder permissions, for chroots with closed folders.
Not root: as we are. Without util-linux `setpriv` the lifeline program changes the user itself.
Rejected: making a system user or opening folders with chmod, as the wheels' own launchers do.
"""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from steelyard.embedded.binaries import Binaries
from steelyard.embedded.errors import EmbeddedError, EmbeddedReason

ROOT = 0
PROBE_TIMEOUT_S = 10
SHELL = "/bin/sh"
LIFELINE = Path(__file__).with_name("lifeline.py")
# Ends at once if the owner died before the death signal was set: its death would go unnoticed.
ONLY_WITH_OWNER = '[ "$PPID" = "$1" ] || exit 125; shift; exec "$@"'


@dataclass(frozen=True, slots=True)
class Identity:
    """One way to run the server: who owns its files, and the command words that get there."""

    owner_uid: int
    owner_gid: int
    prefix: tuple[str, ...]
    by_setpriv: bool

    @property
    def needs_pipe(self) -> bool:
        """Whether the owner must hold a pipe open, because no death signal can be set."""
        return not self.by_setpriv

    def guarded(self, command: list[str]) -> list[str]:
        """The command as this identity, ended by the death of the calling thread's process."""
        if self.by_setpriv:
            # The death signal comes last: a change of user clears it.
            guard = ["setpriv", "--pdeathsig", "INT", "--", SHELL, "-c", ONLY_WITH_OWNER, "sh"]
            return [*self.prefix, *guard, str(os.getpid()), *command]
        changes_user = os.geteuid() != self.owner_uid
        user = (self.owner_uid, self.owner_gid) if changes_user else (-1, -1)
        return [sys.executable, "-I", "-S", str(LIFELINE), *map(str, user), *command]


def choose_identity(*, binaries: Binaries, home: Path, home_is_new: bool) -> Identity:
    """The first identity that can run the programs and enter `home`, the folder of the data directory.

    A home that we just made is given to the candidate; any other keeps its owner.
    Raises `EmbeddedError` NOT_EXECUTABLE when none can.
    """
    for candidate in _candidates():
        if home_is_new and os.geteuid() == ROOT:
            os.chown(home, candidate.owner_uid, candidate.owner_gid)
        if _works(candidate, binaries=binaries, home=home):
            return candidate
    raise EmbeddedError(
        EmbeddedReason.NOT_EXECUTABLE,
        f"PostgreSQL does not run as root, and no other user could run {binaries.postgres} and enter {home}:"
        " use folders that every user may enter, or start as another user",
    )


def _candidates() -> Iterator[Identity]:
    by_setpriv = _has_setpriv()
    if os.geteuid() != ROOT:
        yield Identity(os.geteuid(), os.getegid(), (), by_setpriv)
        return
    uid, gid = _nobody()
    if not by_setpriv:
        yield Identity(uid, gid, (), by_setpriv)
        return
    if shutil.which("unshare"):
        in_namespace = ("unshare", f"--map-user={uid}", f"--map-group={gid}")
        yield Identity(ROOT, ROOT, in_namespace, by_setpriv)
    as_nobody = ("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups")
    yield Identity(uid, gid, as_nobody, by_setpriv)
    # PostgreSQL asks by access() whether it may read its own program, and that leaves capabilities out without the bit.
    passing_folders = (
        *("--inh-caps=+dac_override", "--ambient-caps=+dac_override"),
        "--securebits=+no_setuid_fixup",
    )
    yield Identity(uid, gid, (*as_nobody, *passing_folders), by_setpriv)


def _nobody() -> tuple[int, int]:
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError as error:
        raise EmbeddedError(
            EmbeddedReason.NOT_EXECUTABLE,
            "PostgreSQL does not run as root, and this system has no user `nobody` to run it",
        ) from error
    return nobody.pw_uid, nobody.pw_gid


def _has_setpriv() -> bool:
    # Other systems have no setpriv, and small ones have one without --pdeathsig.
    return _succeeds(["setpriv", "--pdeathsig", "INT", "--", "true"])


def _works(candidate: Identity, *, binaries: Binaries, home: Path) -> bool:
    if not candidate.by_setpriv:
        return True  # The lifeline cannot be probed apart from the server; its log tells.
    enters_and_runs = 'test -x "$1" && exec "$2" --version'
    probe = [SHELL, "-c", enters_and_runs, "sh", str(home), str(binaries.postgres)]
    # By the whole chain: setpriv still finds its first program with root's rights.
    return _succeeds(candidate.guarded(probe))


def _succeeds(command: list[str]) -> bool:
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ended.returncode == 0
