"""The folder of one embedded server: its lock, its password and port, its log, its database files.

Layout below the folder the user names (or a temporary one):
    postgres/           the database files, PGDATA; complete once it has this name
    postgres.new/       the same while initdb runs; left over only by a crash, and then removed
    postgres.lock       locked by the owner for as long as it lives; holds its process id
    postgres.password   of the superuser, readable by its owner only
    postgres.port       the port of the last start, taken again when free
    postgres.log        the server's log
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from steelyard.embedded.binaries import Binaries
from steelyard.embedded.errors import EmbeddedError, EmbeddedReason
from steelyard.embedded.identity import ROOT, Identity

TEMPORARY_PREFIX = "steelyard-postgres-"
TEMPORARY_ATTEMPTS = 5
LOG_LIMIT_BYTES = 10_000_000
LOG_TAIL_BYTES = 3_000
READY_LINE = 7
PROCESSES = Path("/proc")
PS_TIMEOUT_S = 10


class DataDirectory:
    """One locked folder. Closing it gives up the lock and removes the folder if it was temporary."""

    def __init__(self, home: Path, *, lock: int, is_temporary: bool, is_new: bool) -> None:
        self.home = home
        self.is_temporary = is_temporary
        self.is_new = is_new
        self._lock = lock

    @classmethod
    def open(cls, named: Path | None, temporary_parent: Path | None = None) -> "DataDirectory":
        """Make the folder if needed and lock it; None makes a temporary one below `temporary_parent`.

        Raises `EmbeddedError` DIRECTORY_IN_USE when another owner, alive, holds it.
        """
        if named is None:
            return cls._open_temporary(temporary_parent or Path(tempfile.gettempdir()))
        home = named.expanduser().resolve()
        home.parent.mkdir(parents=True, exist_ok=True)
        try:
            home.mkdir(mode=0o700)
        except FileExistsError:
            return cls(home, lock=_lock(home), is_temporary=False, is_new=False)
        return cls(home, lock=_lock(home), is_temporary=False, is_new=True)

    @classmethod
    def peek(cls, named: Path) -> "DataDirectory":
        """The folder as another owner has it, to look at only."""
        return cls(named.expanduser().resolve(), lock=-1, is_temporary=False, is_new=False)

    @classmethod
    def _open_temporary(cls, parent: Path) -> "DataDirectory":
        remove_abandoned(parent)
        for _ in range(TEMPORARY_ATTEMPTS):
            home = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=parent)).resolve()
            # Another start may take our folder for abandoned in the moment before we lock it.
            with contextlib.suppress(EmbeddedError, FileNotFoundError):
                return cls(home, lock=_lock(home), is_temporary=True, is_new=True)
        raise EmbeddedError(
            EmbeddedReason.DIRECTORY_NOT_USABLE,
            f"no temporary folder below {parent} could be locked",
        )

    @property
    def files(self) -> Path:
        """PGDATA."""
        return self.home / "postgres"

    @property
    def unfinished_files(self) -> Path:
        """PGDATA while initdb is at work."""
        return self.home / "postgres.new"

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.home / "postgres.log"

    @property
    def password_file(self) -> Path:
        """Where the generated password is kept."""
        return self.home / "postgres.password"

    @property
    def exists(self) -> bool:
        """Whether a finished initdb left its files here."""
        return (self.files / "PG_VERSION").exists()

    def close(self) -> None:
        """Give up the lock; remove a temporary folder with all in it."""
        if self._lock < 0:
            return
        if self.is_temporary:
            shutil.rmtree(self.home, ignore_errors=True)
        os.close(self._lock)
        self._lock = -1

    def check_version(self, binaries: Binaries) -> None:
        """Raises `EmbeddedError` VERSION_MISMATCH if another major version made the files."""
        major = (self.files / "PG_VERSION").read_text().strip()
        if major != str(binaries.major):
            raise EmbeddedError(
                EmbeddedReason.VERSION_MISMATCH,
                f"{self.home} was made by PostgreSQL {major}, but {binaries.directory} is"
                f" PostgreSQL {binaries.major}: name another folder, or the programs of version {major}",
            )

    def prepare_initdb(self, identity: Identity) -> None:
        """An empty folder and a fresh password, both readable by the server's user."""
        shutil.rmtree(self.unfinished_files, ignore_errors=True)
        self.unfinished_files.mkdir(mode=0o700)
        self.password_file.unlink(missing_ok=True)
        _write_private(self.password_file, secrets.token_urlsafe(32))
        if os.geteuid() == ROOT:
            for path in (self.unfinished_files, self.password_file):
                os.chown(path, identity.owner_uid, identity.owner_gid)

    def finish_initdb(self) -> None:
        """Give the finished files their name, in one step."""
        self.unfinished_files.rename(self.files)

    def give_to(self, identity: Identity) -> None:
        """As root, make the database files the property of the server's user; they may have had another."""
        if self.files.stat().st_uid == identity.owner_uid or os.geteuid() != ROOT:
            return
        for path in (*self.files.rglob("*"), self.files):
            os.chown(path, identity.owner_uid, identity.owner_gid, follow_symlinks=False)

    def password(self) -> str:
        """The superuser's password, as initdb was given it."""
        return self.password_file.read_text().strip()

    def last_port(self) -> int | None:
        """The port of the last start; None if there was none."""
        try:
            return int((self.home / "postgres.port").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def keep_port(self, port: int) -> None:
        """Remember the port for the next start."""
        (self.home / "postgres.port").write_text(f"{port}\n")

    def open_log(self) -> int:
        """A descriptor to append to the log; a long log of earlier starts is dropped first."""
        with contextlib.suppress(FileNotFoundError):
            if self.log.stat().st_size > LOG_LIMIT_BYTES:
                self.log.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return os.open(self.log, flags, 0o600)

    def log_tail(self, since: int) -> str:
        """The end of what the log gained after byte `since`."""
        with self.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(since, size - LOG_TAIL_BYTES))
            return log.read().decode(errors="replace").strip()

    def postmaster_state(self) -> tuple[int, int, str] | None:
        """Inode, change time and status word of postmaster.pid; None while there is none."""
        try:
            with (self.files / "postmaster.pid").open() as file:
                state = os.fstat(file.fileno())
                lines = file.read().splitlines()
        except FileNotFoundError:
            return None
        status = lines[READY_LINE].strip() if len(lines) > READY_LINE else ""
        return state.st_ino, state.st_mtime_ns, status

    def server_process(self) -> int | None:
        """The process id of a server alive on these files; None if there is none.

        A process that merely took the id of a dead server does not count: its command line must name
        our files.
        """
        process_id = self._named_process()
        if process_id is None:
            return None
        words = command_line(process_id)
        serves_us = str(self.files) in words and any(Path(word).name == "postgres" for word in words)
        return process_id if serves_us else None

    def forget_dead_server(self) -> None:
        """Remove a postmaster.pid whose number now belongs to another program: PostgreSQL would refuse to start.

        The caller holds the lock and has ended what served here. Otherwise the file stays, since
        PostgreSQL uses it to find backends that still run after their postmaster was killed.
        """
        process_id = self._named_process()
        if process_id is not None and self.server_process() is None and command_line(process_id):
            (self.files / "postmaster.pid").unlink()

    def _named_process(self) -> int | None:
        try:
            return int((self.files / "postmaster.pid").read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None


def command_line(process_id: int) -> list[str]:
    """The words of a living process's command; empty for one that is gone or only waits to be reaped."""
    if (PROCESSES / "self").exists():
        try:
            words = (PROCESSES / str(process_id) / "cmdline").read_text(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            return []
        return [word for word in words if word]
    asked = subprocess.run(
        [shutil.which("ps") or "/bin/ps", "-o", "command=", "-p", str(process_id)],
        capture_output=True,
        text=True,
        timeout=PS_TIMEOUT_S,
        check=False,
    )
    return asked.stdout.split()


def remove_abandoned(temporary: Path) -> None:
    """Remove temporary folders of killed owners: the lock is ours and free, and no server lives in them."""
    for home in temporary.glob(f"{TEMPORARY_PREFIX}*"):
        try:
            lock = os.open(home / "postgres.lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        abandoned = DataDirectory(home, lock=lock, is_temporary=True, is_new=False)
        if _may_remove(lock) and abandoned.server_process() is None:
            abandoned.close()
        else:
            os.close(lock)


def _may_remove(lock: int) -> bool:
    state = os.fstat(lock)
    return stat.S_ISREG(state.st_mode) and state.st_uid == os.geteuid() and _try_lock(lock)


def _lock(home: Path) -> int:
    lock = os.open(home / "postgres.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not _try_lock(lock):
        holder = os.read(lock, 20).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise EmbeddedError(
            EmbeddedReason.DIRECTORY_IN_USE,
            f"{home} is in use by another embedded server (process {holder}): stop that one or name another folder",
        )
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{text}\n")
