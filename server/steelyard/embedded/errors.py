"""Why the embedded server could not be started or stopped, in words a user can act on."""

import errno
from enum import StrEnum


class EmbeddedReason(StrEnum):
    """The closed set of reasons; the text of the error says what to do."""

    BINARIES_NOT_FOUND = "BINARIES_NOT_FOUND"
    DIRECTORY_IN_USE = "DIRECTORY_IN_USE"
    DIRECTORY_NOT_USABLE = "DIRECTORY_NOT_USABLE"
    VERSION_MISMATCH = "VERSION_MISMATCH"
    NOT_EXECUTABLE = "NOT_EXECUTABLE"
    DISK_FULL = "DISK_FULL"
    START_FAILED = "START_FAILED"
    STOP_FAILED = "STOP_FAILED"


class EmbeddedError(Exception):
    """The embedded PostgreSQL could not be started or stopped; `reason` says which kind."""

    def __init__(self, reason: EmbeddedReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def from_os_error(error: OSError, doing: str) -> EmbeddedError:
    """The readable form of a failed file operation; a full disk has its own reason."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = EmbeddedReason.DISK_FULL if full else EmbeddedReason.DIRECTORY_NOT_USABLE
    return EmbeddedError(reason, f"{doing}: {error.strerror or error}")


def from_server_output(output: str, doing: str) -> EmbeddedError:
    """The readable form of a server or initdb that ended by itself; `output` is the end of its log."""
    full = "No space left on device" in output or "Disk quota exceeded" in output
    reason = EmbeddedReason.DISK_FULL if full else EmbeddedReason.START_FAILED
    cause = "the disk is full" if full else "see the end of its log"
    return EmbeddedError(reason, f"{doing}: {cause}:\n{output or '(the log is empty)'}")
