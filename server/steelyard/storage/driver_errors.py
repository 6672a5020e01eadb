"""Turns what the driver raises into domain errors, in one place.

Anything about the connection means that the outcome of a write is unknown: the caller repeats it with the same id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import asyncpg
import sqlalchemy.exc

from steelyard.accounting.errors import (
    InvariantBroken,
    NumericLimit,
    QueueFull,
    SteelyardError,
    StoreUnavailable,
    VersionMismatch,
)

_CONNECTION = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # What a connection says that is being cut right now, before it knows that it is closed.
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.CannotConnectNowError,
    asyncpg.DiskFullError,
    ConnectionError,
    OSError,
    TimeoutError,
)
_CONTENTION = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
)


_TABLE: tuple[tuple[tuple[type[BaseException], ...], Callable[[], SteelyardError]], ...] = (
    (_CONTENTION, lambda: VersionMismatch("another writer was faster")),
    ((asyncpg.QueryCanceledError,), lambda: StoreUnavailable("the store took too long")),
    ((asyncpg.NumericValueOutOfRangeError,), NumericLimit),
    (_CONNECTION, StoreUnavailable),
)
"""The first line that fits decides: a cancelled query is an operator's intervention too."""


def domain_error(error: BaseException) -> SteelyardError | None:
    """The domain error that a driver's error stands for; None for what is none of the driver's."""
    if isinstance(error, SteelyardError):
        return None
    if isinstance(error, sqlalchemy.exc.TimeoutError):
        return QueueFull("all connections to the store are busy")
    if isinstance(error, sqlalchemy.exc.DBAPIError):
        original = error.orig
        cause = getattr(original, "__cause__", None) or original
        return domain_error(cause) if cause is not None and cause is not error else StoreUnavailable()
    if isinstance(error, asyncpg.IntegrityConstraintViolationError):
        return _violation(error)
    for kinds, make in _TABLE:
        if isinstance(error, kinds):
            return make()
    return None


def _violation(error: asyncpg.IntegrityConstraintViolationError) -> SteelyardError:
    if error.data_type_name in ("amount", "total") or (error.constraint_name or "").startswith(("amount", "total")):
        return NumericLimit()
    return InvariantBroken(f"the store refuses it: {error.constraint_name}")


@contextmanager
def translated() -> Iterator[None]:
    """Runs a block with driver errors turned into domain errors."""
    try:
        yield
    except Exception as error:
        translation = domain_error(error)
        if translation is None:
            raise
        raise translation from error
