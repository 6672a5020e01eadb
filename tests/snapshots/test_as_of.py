"""What a position was at a time, by what was known at a time, is what the oracle says of the entries of then."""

import random

import pytest

from tests.builds.desk import Desk
from tests.snapshots.history import History


async def _lived(desk: Desk, *, seed: int, acts: int, questions: int) -> None:
    history = History(desk, random.Random(seed))
    await history.begin()
    try:
        for number in range(acts):
            await history.act()
            if number % 10 == 9:
                await history.check(as_of=None, known_at=None)
        for _ in range(questions):
            as_of, known_at = history.question()
            await history.check(as_of=as_of, known_at=known_at)
    finally:
        await history.close()


@pytest.mark.parametrize("seed", [1, 2])
async def test_at_any_two_times_the_answer_is_the_oracles(desk: Desk, seed: int) -> None:
    await _lived(desk, seed=seed, acts=30, questions=40)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10, 40))
async def test_at_any_two_times_of_longer_histories_the_answer_is_the_oracles(desk: Desk, seed: int) -> None:
    await _lived(desk, seed=seed, acts=150, questions=300)
