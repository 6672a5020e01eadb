"""A client of the whole service for each test."""

from collections.abc import AsyncIterator

import pytest

from steelyard.client import Steelyard
from tests.client.desk import client_of, serving_book


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Steelyard]:
    async with serving_book(database_url) as service, client_of(service.address) as steelyard:
        yield steelyard
