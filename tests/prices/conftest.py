"""Bybit on this machine, and a source that asks it."""

from collections.abc import AsyncIterator

import pytest

from steelyard.prices.bybit import BybitTickers
from tests.prices.bybit_server import BybitServer

RETRY_AFTER_S = (0.01, 0.02, 0.04)
"""A hundredth of what is waited for in earnest."""


@pytest.fixture
async def bybit() -> AsyncIterator[BybitServer]:
    """The exchange."""
    server = BybitServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def source(bybit: BybitServer) -> AsyncIterator[BybitTickers]:
    """A source that waits a hundredth of the usual times."""
    opened = BybitTickers(bybit.url, timeout_s=0.2, retry_after_s=RETRY_AFTER_S)
    yield opened
    await opened.close()
