"""What a failed command says: one line for what its user can act on, a traceback for what is our mistake."""

from __future__ import annotations

from dataclasses import dataclass

from steelyard.accounting.errors import SteelyardError
from steelyard.app.running import Interrupted
from steelyard.app.settings import SettingsWrong
from steelyard.app.store import StoreNotReady
from steelyard.client.errors import SteelyardCallError
from steelyard.embedded import EmbeddedError

FAILED = 1
MISUSED = 2
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Failure:
    """A line to print and the status to exit with."""

    text: str
    status: int = FAILED


def told(error: Exception) -> Failure | None:
    """What to say of an error; None for one that nobody foresaw."""
    if isinstance(error, SettingsWrong):
        return Failure(str(error), MISUSED)
    if isinstance(error, Interrupted):
        return Failure("interrupted", INTERRUPTED)
    if isinstance(error, SteelyardCallError):
        return Failure(f"{error.message} ({error.reason or error.code.name})")
    if isinstance(error, SteelyardError):
        return Failure(f"{error.message} ({error.reason})")
    if isinstance(error, EmbeddedError | StoreNotReady):
        return Failure(str(error))
    if isinstance(error, OSError):
        # With the file or address it is about, without the number of the error.
        about = f"{error.filename}: " if error.filename else ""
        return Failure(f"{about}{error.strerror or error}")
    return None
