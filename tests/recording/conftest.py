"""A desk for each test."""

from collections.abc import AsyncIterator

import pytest

from tests.recording.desk import Desk


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    desk = Desk(database_url)
    desk.recording.start()
    yield desk
    await desk.recording.close()
    await desk.database.close()
