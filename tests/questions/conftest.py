"""A book on a real database, to be written to and asked."""

from collections.abc import AsyncIterator

import pytest

from tests.questions.books import Book


@pytest.fixture
async def book(database_url: str) -> AsyncIterator[Book]:
    """An empty book."""
    opened = Book(database_url)
    await opened.begin()
    yield opened
    await opened.close()
