"""A cache on a real Redis, before a book on a real PostgreSQL."""

from collections.abc import AsyncIterator

import pytest

from steelyard.cache.redis_cache import RedisCache
from tests.cache.desk import Desk, epoch_of_tests
from tests.questions.books import Book
from tests.support.redis import RedisServer, redis_process, redis_server

__all__ = ["redis_process", "redis_server"]


@pytest.fixture
async def cache(redis_server: RedisServer) -> AsyncIterator[RedisCache]:
    """An empty cache."""
    opened = RedisCache(redis_server.url, epoch=epoch_of_tests)
    yield opened
    await opened.close()


@pytest.fixture
async def desk(database_url: str, cache: RedisCache) -> AsyncIterator[Desk]:
    """A book that is asked through the cache."""
    book = Book(database_url)
    await book.begin()
    opened = Desk(book, cache)
    yield opened
    await opened.close()
    await book.close()
