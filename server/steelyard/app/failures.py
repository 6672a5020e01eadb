"""What a failed command says: one line for what its user can act on, a traceback for what is our mistake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from steelyard.accounting.errors import SteelyardError
from steelyard.client import SteelyardCallError
from steelyard.embedded import EmbeddedError

FAILED = 1
MISUSED = 2
INTERRUPTED = 130


class CommandFailed(Exception):
    """A command cannot go on; the text says why and what to do."""

    status: ClassVar[int] = FAILED


@dataclass(frozen=True, slots=True)
class Failure:
    """A line to print and the status to exit with."""

    text: str
    status: int = FAILED


def told(error: Exception) -> Failure | None:
    """What to say of an error; None for one that nobody foresaw."""
    if isinstance(error, CommandFailed):
        return Failure(str(error), error.status)
    if isinstance(error, SteelyardCallError):
        return Failure(f"{error.message} ({error.reason or error.code.name})")
    if isinstance(error, SteelyardError):
        return Failure(f"{error.message} ({error.reason})")
    if isinstance(error, EmbeddedError):
        return Failure(str(error))
    if isinstance(error, OSError):
        # With the file or address it is about, without the number of the error.
        about = f"{error.filename}: " if error.filename else ""
        return Failure(f"{about}{error.strerror or error}")
    return None
