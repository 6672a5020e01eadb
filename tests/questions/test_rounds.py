"""Questions answered many at a time: read after they were asked, alone at once, and each told what became of it."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest

from steelyard.operations import rounds
from steelyard.operations.rounds import Rounds


class Reads:
    """Answers a number with its square, when it is let."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.begun_s: list[float] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.rounds: Rounds[int, int] = Rounds(self.read, name="squares")

    async def read(self, asked: Sequence[int]) -> Sequence[int]:
        self.asked.append(list(asked))
        self.begun_s.append(asyncio.get_running_loop().time())
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [number * number for number in asked]

    def begin(self, *numbers: int) -> list[asyncio.Task[int]]:
        """Asks, each in a task of its own."""
        return [asyncio.create_task(self.rounds.ask(number)) for number in numbers]


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_who_asks_alone_is_answered_by_a_read_of_his_own_without_a_gap() -> None:
    reads = Reads()
    began_s = asyncio.get_running_loop().time()
    for number in range(200):
        assert await reads.rounds.ask(number) == number * number
    assert reads.asked == [[number] for number in range(200)]
    # With a gap before each, 200 rounds would take a whole second.
    assert asyncio.get_running_loop().time() - began_s < 200 * rounds.ROUND_GAP_S


async def test_those_who_ask_in_one_turn_share_a_read_and_equal_questions_are_each_answered() -> None:
    reads = Reads()
    assert await asyncio.gather(*reads.begin(3, 4, 3)) == [9, 16, 9]
    assert reads.asked == [[3, 4, 3]]


async def test_whoever_comes_during_a_read_waits_for_the_next() -> None:
    """The read under way may have looked before he asked."""
    reads = Reads()
    reads.gate.clear()
    first = reads.begin(1)
    await turns()
    later = reads.begin(2, 3)
    await turns()
    assert reads.asked == [[1]]
    reads.gate.set()
    assert await asyncio.gather(*first, *later) == [1, 4, 9]
    assert reads.asked == [[1], [2, 3]]


async def test_shared_rounds_and_those_soon_after_begin_apart() -> None:
    reads = Reads()
    await asyncio.gather(*reads.begin(1, 2))
    await reads.rounds.ask(3)
    await reads.rounds.ask(4)
    assert reads.asked == [[1, 2], [3], [4]]
    apart_s = [later - begun for begun, later in pairwise(reads.begun_s)]
    assert min(apart_s) >= rounds.ROUND_GAP_S * 0.9


async def test_who_asks_alone_again_is_soon_answered_at_once_again() -> None:
    reads = Reads()
    await asyncio.gather(*reads.begin(1, 2))
    await asyncio.sleep(rounds.SHARED_FOR_S)
    began_s = asyncio.get_running_loop().time()
    for number in range(50):
        await reads.rounds.ask(number)
    assert asyncio.get_running_loop().time() - began_s < 50 * rounds.ROUND_GAP_S


async def test_a_round_has_a_bound_and_the_rest_are_asked_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "ROUND_MAX", 3)
    reads = Reads()
    assert await asyncio.gather(*reads.begin(*range(7))) == [number * number for number in range(7)]
    assert reads.asked == [[0, 1, 2], [3, 4, 5], [6]]


async def test_each_asker_is_told_of_an_error_and_the_next_round_is_none_the_worse() -> None:
    reads = Reads()
    reads.error = OSError("away")
    told = await asyncio.gather(*reads.begin(1, 2), return_exceptions=True)
    assert [type(error) for error in told] == [OSError, OSError]
    reads.error = None
    assert await reads.rounds.ask(3) == 9


async def test_whoever_goes_away_leaves_the_answer_to_the_others() -> None:
    reads = Reads()
    reads.gate.clear()
    gone, staying = reads.begin(1, 2)
    await turns()
    gone.cancel()
    reads.gate.set()
    assert await staying == 4
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_a_read_that_is_cancelled_cancels_those_who_wait_for_it_and_for_the_next() -> None:
    reads = Reads()
    reads.gate.clear()
    first = reads.begin(1)
    await turns()
    later = reads.begin(2)
    await turns()
    (reading,) = (task for task in asyncio.all_tasks() if task.get_name() == "squares")
    reading.cancel()
    told = await asyncio.gather(*first, *later, return_exceptions=True)
    assert [type(error) for error in told] == [asyncio.CancelledError] * 2
    reads.gate.set()
    assert await reads.rounds.ask(3) == 9
