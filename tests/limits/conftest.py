"""A desk with limits on a real database."""

from collections.abc import AsyncIterator

import pytest

from tests.limits.desk import LimitDesk


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[LimitDesk]:
    """An empty book with the operations on limits."""
    opened = LimitDesk(database_url)
    await opened.begin()
    yield opened
    await opened.close()
