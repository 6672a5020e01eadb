"""The writer commits what waits, fairly and in order; what cannot be stored fails alone."""

import asyncio
from collections.abc import Sequence

import pytest

from steelyard.accounting.entries import Fill
from steelyard.accounting.errors import (
    InvariantBroken,
    NumericLimit,
    QueueFull,
    SteelyardError,
    StoreUnavailable,
    VersionMismatch,
)
from steelyard.operations import fill_writer
from steelyard.operations.apply_fills import Applied, FillReceipt
from steelyard.operations.fill_writer import FillWriter, Turn, with_retries
from tests.recording.desk import make_fill

FILLS = [make_fill(number, "BUY", "1", "21000") for number in range(3_000)]


class Store:
    """Takes rounds, holds them up until it is let go, and refuses what it is told to."""

    def __init__(self) -> None:
        self.rounds: list[list[str]] = []
        self.refuses: dict[str, Exception] = {}
        self.gate = asyncio.Event()
        self.gate.set()

    async def commit(self, fills: Sequence[Fill], turn: Turn) -> Applied:
        self.rounds.append([fill.fill_id for fill in fills])
        await self.gate.wait()
        for fill in fills:
            if fill.fill_id in self.refuses:
                raise self.refuses[fill.fill_id]
        return Applied([FillReceipt(fill.fill_id, fill.key, 1) for fill in fills])


async def started(store: Store) -> FillWriter:
    writer = FillWriter(store.commit)
    writer.start()
    return writer


async def test_what_waits_during_a_commit_is_the_next_round() -> None:
    store = Store()
    writer = await started(store)
    store.gate.clear()
    first = asyncio.create_task(writer.submit(FILLS[:1], caller="a"))
    await asyncio.sleep(0.01)
    others = [asyncio.create_task(writer.submit([fill], caller="b")) for fill in FILLS[1:5]]
    await asyncio.sleep(0.01)
    store.gate.set()
    await asyncio.gather(first, *others)
    assert [len(taken) for taken in store.rounds] == [1, 4]
    await writer.close()


async def test_one_caller_gets_at_most_his_share_while_others_wait() -> None:
    store = Store()
    writer = await started(store)
    store.gate.clear()
    tasks = [asyncio.create_task(writer.submit(FILLS[:1], caller="first"))]
    await asyncio.sleep(0.01)
    tasks.append(asyncio.create_task(writer.submit(FILLS[1:2_501], caller="greedy")))
    tasks.append(asyncio.create_task(writer.submit(FILLS[2_501:2_511], caller="modest")))
    await asyncio.sleep(0.01)
    store.gate.set()
    await asyncio.gather(*tasks)
    share = fill_writer.ROUND_MAX // fill_writer.SHARE_OF_ONE_CALLER
    assert len(store.rounds[1]) == share + 10
    assert store.rounds[1][-1] == FILLS[2_510].fill_id
    assert [name for taken in store.rounds[1:] for name in taken if name != "x"].count(FILLS[1].fill_id) == 1
    await writer.close()


async def test_a_poisoned_fill_fails_alone() -> None:
    store = Store()
    store.refuses[FILLS[5].fill_id] = NumericLimit()
    writer = await started(store)
    results = await writer.submit(FILLS[:16], caller="a")
    assert [isinstance(result, SteelyardError) for result in results] == [place == 5 for place in range(16)]
    await writer.close()


async def test_a_store_that_is_away_is_told_to_all_of_the_round_at_once() -> None:
    store = Store()
    store.refuses[FILLS[0].fill_id] = StoreUnavailable()
    writer = await started(store)
    results = await writer.submit(FILLS[:8], caller="a")
    assert all(isinstance(result, StoreUnavailable) for result in results)
    assert len(store.rounds) == 1
    await writer.close()


async def test_a_bug_reaches_its_callers_and_the_writer_goes_on() -> None:
    store = Store()
    store.refuses[FILLS[0].fill_id] = RuntimeError("a bug")
    writer = await started(store)
    with pytest.raises(RuntimeError):
        await writer.submit(FILLS[:1], caller="a")
    assert len(await writer.submit(FILLS[1:2], caller="a")) == 1
    await writer.close()


async def test_a_broken_law_fails_alone_too() -> None:
    store = Store()
    store.refuses[FILLS[1].fill_id] = InvariantBroken("x")
    writer = await started(store)
    results = await writer.submit(FILLS[:2], caller="a")
    assert isinstance(results[0], FillReceipt)
    assert isinstance(results[1], InvariantBroken)
    await writer.close()


async def test_too_much_is_refused_and_a_closing_writer_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill_writer, "WAITING_MAX", 10)
    store = Store()
    writer = await started(store)
    with pytest.raises(QueueFull):
        await writer.submit(FILLS[:11], caller="a")
    await writer.close()
    with pytest.raises(StoreUnavailable):
        await writer.submit(FILLS[:1], caller="a")


async def test_a_caller_who_goes_away_abandons_only_his_wait() -> None:
    store = Store()
    writer = await started(store)
    store.gate.clear()
    gone = asyncio.create_task(writer.submit(FILLS[:1], caller="a"))
    await asyncio.sleep(0.01)
    gone.cancel()
    store.gate.set()
    await writer.submit(FILLS[1:2], caller="b")
    assert [name for taken in store.rounds for name in taken] == [FILLS[0].fill_id, FILLS[1].fill_id]
    await writer.close()


@pytest.mark.parametrize(("failures", "succeeds"), [(0, True), (3, True), (4, False)])
async def test_a_faster_writer_is_met_three_times_again(
    monkeypatch: pytest.MonkeyPatch, failures: int, *, succeeds: bool
) -> None:
    monkeypatch.setattr(fill_writer, "RETRY_DELAYS_S", (0.0, 0.0, 0.0))
    left = [VersionMismatch("x")] * failures

    async def write() -> int:
        if left:
            raise left.pop()
        return 7

    if succeeds:
        assert await with_retries(write, jitter=lambda: 0.0) == 7
    else:
        with pytest.raises(VersionMismatch):
            await with_retries(write, jitter=lambda: 0.0)


async def test_a_caller_s_own_expected_version_is_not_tried_again() -> None:
    tried = []

    async def write() -> None:
        tried.append(1)
        raise VersionMismatch("x", current_version="3")

    with pytest.raises(VersionMismatch):
        await with_retries(write, jitter=lambda: 0.0)
    assert len(tried) == 1


class Line:
    """Takes rounds that tell how far they are, when they are told to."""

    def __init__(self) -> None:
        self.came: list[int] = []
        self.turns: list[Turn] = []
        self.gates: list[asyncio.Event] = []

    async def commit(self, fills: Sequence[Fill], turn: Turn) -> Applied:
        number = len(self.turns)
        self.turns.append(turn)
        self.gates.append(asyncio.Event())
        await turn.come()
        self.came.append(number)
        turn.hold_positions()
        await self.gates[number].wait()
        turn.end()
        return Applied([FillReceipt(fill.fill_id, fill.key, 1) for fill in fills])


@pytest.mark.parametrize("waiting, rounds", [(fill_writer.EARLY_MIN - 1, 1), (fill_writer.EARLY_MIN, 2)])
async def test_a_large_round_begins_early_but_awaits_its_turn_for_positions(waiting: int, rounds: int) -> None:
    line = Line()
    writer = FillWriter(line.commit)
    writer.start()
    tasks = [asyncio.create_task(writer.submit(FILLS[:1], caller="a"))]
    await asyncio.sleep(0.01)
    tasks.append(asyncio.create_task(writer.submit(FILLS[1 : 1 + waiting], caller="b")))
    await asyncio.sleep(0.01)
    assert len(line.turns) == rounds
    assert line.came == [0]
    line.gates[0].set()
    await asyncio.sleep(0.01)
    assert line.came == [0, 1]
    line.gates[1].set()
    assert [result.fill_id for result in await tasks[1] if isinstance(result, FillReceipt)] == [
        fill.fill_id for fill in FILLS[1 : 1 + waiting]
    ]
    await asyncio.gather(*tasks)
    await writer.close()
