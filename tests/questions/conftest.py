"""A book on a real database, to be written to and asked."""

from collections.abc import AsyncIterator

import pytest

from tests.questions.books import Book, funding
from tests.questions.wire import DAY, Wire, wired


@pytest.fixture
async def book(database_url: str) -> AsyncIterator[Book]:
    """An empty book."""
    opened = Book(database_url)
    await opened.begin()
    yield opened
    await opened.close()


@pytest.fixture
async def wire(book: Book) -> AsyncIterator[Wire]:
    """The services on a book with a day of fills and three marks."""
    await book.record(*DAY)
    await book.adjust(funding("-0.75", minute=6))
    await book.mark(BTCUSDT="50000", ETHUSDT="2900", **{"MNQ MAR26": "25025.25"})
    async with wired(book) as opened:
        yield opened
