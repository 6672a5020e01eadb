"""A desk on a fresh database."""

from collections.abc import AsyncIterator

import pytest

from tests.builds.desk import Desk


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    made = Desk(database_url)
    yield made
    await made.close()
