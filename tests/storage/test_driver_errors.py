"""What the driver raises comes out as domain errors, by one table."""

import asyncpg
import pytest
import sqlalchemy.exc

from steelyard.accounting.errors import (
    InvariantBroken,
    NotFound,
    NumericLimit,
    QueueFull,
    StoreUnavailable,
    VersionMismatch,
)
from steelyard.storage.driver_errors import domain_error, translated

CASES = [
    (asyncpg.DeadlockDetectedError("x"), VersionMismatch),
    (asyncpg.SerializationError("x"), VersionMismatch),
    (asyncpg.LockNotAvailableError("x"), VersionMismatch),
    (asyncpg.QueryCanceledError("x"), StoreUnavailable),
    (asyncpg.AdminShutdownError("x"), StoreUnavailable),
    (asyncpg.ConnectionDoesNotExistError("x"), StoreUnavailable),
    (asyncpg.InterfaceError("x"), StoreUnavailable),
    (asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"), StoreUnavailable),
    (asyncpg.DiskFullError("x"), StoreUnavailable),
    (ConnectionResetError(), StoreUnavailable),
    (asyncpg.NumericValueOutOfRangeError("x"), NumericLimit),
    (sqlalchemy.exc.TimeoutError(), QueueFull),
]


@pytest.mark.parametrize(
    ("raised", "expected"), CASES, ids=lambda value: getattr(value, "__name__", type(value).__name__)
)
def test_a_drivers_error_becomes_the_domains(raised: Exception, expected: type[Exception]) -> None:
    with pytest.raises(expected), translated():
        raise raised


def test_an_error_of_the_domain_passes_as_it_is() -> None:
    error = NotFound("fill", "f1")
    with pytest.raises(NotFound) as passed, translated():
        raise error
    assert passed.value is error


def test_what_is_none_of_the_drivers_passes_as_it_is() -> None:
    assert domain_error(KeyError("x")) is None
    with pytest.raises(KeyError), translated():
        raise KeyError("x")


async def test_a_number_beyond_its_domain_is_a_numeric_limit(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    with pytest.raises(NumericLimit), translated():
        await connection.execute("INSERT INTO marks VALUES ('X', 1e20, now(), 's')")
    with pytest.raises(InvariantBroken), translated():
        await connection.execute("INSERT INTO accounts (account, cost_method) VALUES ('a', 'NONE')")
    await connection.close()
