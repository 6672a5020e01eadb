"""What a position was at a time, by what was known at a time, is what the oracle says of the entries of then."""

import random
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from steelyard.accounting.entries import Side
from tests.builds.desk import Desk
from tests.snapshots.history import KEYS, START, History


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
@pytest.mark.parametrize("seed", range(10, 18))
async def test_at_any_two_times_of_longer_histories_the_answer_is_the_oracles(desk: Desk, seed: int) -> None:
    await _lived(desk, seed=seed, acts=120, questions=150)


TRIPS = 200


@pytest.fixture
async def traded(desk: Desk) -> AsyncIterator[History]:
    """A key that was bought and sold every hour, recorded in order, a day at a time."""
    history = History(desk, random.Random(1))
    await history.begin()
    for day in range(0, TRIPS, 24):
        fills = []
        for hour in range(day, min(TRIPS, day + 24)):
            bought = history.new_fill(key=KEYS[0], at=START + timedelta(hours=hour))._replace(side=Side.BUY)
            sold = history.new_fill(key=KEYS[0], at=START + timedelta(hours=hour, minutes=30))
            fills += [bought, sold._replace(side=Side.SELL, quantity=bought.quantity)]
        await history.record_these(fills)
    yield history
    await history.close()


async def test_a_fold_begins_at_the_newest_start_before_the_time(traded: History) -> None:
    for hour in (0, 1, 77, 150, TRIPS - 1):
        assert await traded.check(as_of=START + timedelta(hours=hour, minutes=10), known_at=None) == 1
        assert await traded.check(as_of=START + timedelta(hours=hour, minutes=40), known_at=None) <= 2


async def test_what_was_believed_begins_there_too_where_nothing_before_has_changed(traded: History) -> None:
    moments = list(traded.moments)
    for moment in moments[3:]:
        assert await traded.check(as_of=START + timedelta(hours=40, minutes=10), known_at=moment) == 1
        assert await traded.check(as_of=None, known_at=moment) <= 3
    await traded.record_these([traded.new_fill(key=KEYS[0])._replace(executed_at=START + timedelta(hours=100))])
    before_it, after_it = START + timedelta(hours=90, minutes=10), START + timedelta(hours=110, minutes=10)
    assert await traded.check(as_of=before_it, known_at=moments[-1]) == 1
    assert await traded.check(as_of=after_it, known_at=None) <= 30
    assert await traded.check(as_of=after_it, known_at=moments[-1]) <= 30


async def test_what_came_before_the_first_trip_counts_on_either_side_of_the_middle(traded: History) -> None:
    await traded.fund(of=KEYS[0], at=START - timedelta(days=1))
    for hour in (0, 1, 20, 99, 101, 180):
        assert await traded.check(as_of=START + timedelta(hours=hour, minutes=10), known_at=None) <= 2
    await traded.check(as_of=START - timedelta(hours=1), known_at=None)
