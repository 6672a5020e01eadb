"""Whatever happens to a book, and whichever way: building what is stale leaves what a rebuild from nothing leaves."""

import random
from collections.abc import AsyncIterator

import pytest

from steelyard.operations.building import BuildMode, BuildState
from tests.builds.desk import Desk
from tests.converging.mixed import MixedHistory

SEEDS = [pytest.param(seed, marks=[pytest.mark.long] if seed >= 12 else []) for seed in range(400)]
"""Histories: some of every run, and the many of `make faults`."""


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    made = Desk(database_url)
    yield made
    await made.close()


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_book_of_a_mixed_history_is_that_of_a_rebuild(desk: Desk, seed: int) -> None:
    chance = random.Random(seed)
    history = MixedHistory(desk, chance)
    await history.run(chance.randint(10, 40))
    built = await history.build()
    assert (built.state, [result.errors for result in built.results if result.errors]) == (BuildState.SUCCEEDED, [])
    assert await desk.rows("SELECT * FROM stale_keys") == []
    book = await desk.book()
    rebuilt = await history.build(BuildMode.FULL)
    assert (rebuilt.state, [result.errors for result in rebuilt.results if result.errors]) == (BuildState.SUCCEEDED, [])
    assert await desk.book() == book
