"""Feeds and a broker for each test."""

from collections.abc import AsyncIterator

import pytest

from tests.events.feeds import Feeds
from tests.support.rabbitmq import broker, broker_node

__all__ = ["broker", "broker_node"]


@pytest.fixture
async def feeds(database_url: str) -> AsyncIterator[Feeds]:
    feeds = Feeds(database_url)
    yield feeds
    await feeds.close()
