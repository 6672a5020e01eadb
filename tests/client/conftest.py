"""A client of a real FillService for each test."""

from collections.abc import AsyncIterator

import pytest

from steelyard.client import Steelyard
from tests.client.desk import client_of, fill_service


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Steelyard]:
    async with fill_service(database_url) as server, client_of(server) as steelyard:
        yield steelyard
