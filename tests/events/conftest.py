"""Feeds for each test."""

from collections.abc import AsyncIterator

import pytest

from tests.events.feeds import Feeds


@pytest.fixture
async def feeds(database_url: str) -> AsyncIterator[Feeds]:
    feeds = Feeds(database_url)
    yield feeds
    await feeds.close()
