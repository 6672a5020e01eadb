"""A desk on a fresh database."""

from collections.abc import AsyncIterator

import pytest

from tests.reconciling.desk import ReconcileDesk


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[ReconcileDesk]:
    """A book with nothing in it but instruments."""
    opened = ReconcileDesk(database_url)
    await opened.begin()
    yield opened
    await opened.close()
