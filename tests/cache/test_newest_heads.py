"""How much this process knows of the account log, and how rarely it asks."""

import asyncio

from steelyard.accounting.keys import Account
from steelyard.operations.caching import NoCache
from steelyard.operations.newest_heads import NewestHeads
from steelyard.operations.ports import Commit
from tests.cache.desk import DESK, Desk

OTHER = Account("other")


async def test_the_log_is_asked_once_for_all_who_ask_within_a_tenth_of_a_second(desk: Desk) -> None:
    await asyncio.gather(*(desk.heads.of([DESK], at_least={}) for _ in range(100)))
    for _ in range(100):
        await desk.heads.of([DESK], at_least={})
    assert desk.log.asked <= 2


async def test_own_commits_count_at_once_and_others_after_the_next_look(desk: Desk) -> None:
    assert await desk.heads.of([DESK, OTHER], at_least={}) == [0, 0]
    stranger = Desk(desk.book, NoCache())
    await stranger.buy()
    assert (await desk.buy()).seq == 2
    assert await desk.heads.of([DESK, OTHER], at_least={}) == [2, 0]
    await stranger.buy()
    await asyncio.sleep(0.11)
    assert await desk.heads.of([DESK, OTHER], at_least={}) == [3, 0]


async def test_what_a_caller_demands_counts_for_him_alone(desk: Desk) -> None:
    assert await desk.heads.of([DESK], at_least={DESK: 10**9}) == [10**9]
    assert await desk.heads.of([DESK], at_least={}) == [0]
    assert await desk.heads.of_all(at_least={DESK: 10**9}) is None


async def test_the_sum_over_everybody_counts_own_and_demanded_commits(desk: Desk) -> None:
    assert await desk.heads.of_all(at_least={}) == 0
    await desk.buy()
    assert await desk.heads.of_all(at_least={}) == 1
    stranger = Desk(desk.book, NoCache())
    commit = await stranger.buy()
    assert await desk.heads.of_all(at_least={DESK: commit.seq}) == 2


async def test_with_nothing_remembered_every_question_asks_the_log(desk: Desk) -> None:
    strict = NewestHeads(desk.log, fresh_s=0)
    for asked in range(1, 4):
        await strict.of([DESK], at_least={})
        assert desk.log.asked == asked
    assert await strict.of_all(at_least={}) == 0


async def test_an_older_commit_heard_of_later_changes_nothing(desk: Desk) -> None:
    desk.heads.saw([Commit(DESK, 5)])
    desk.heads.saw([Commit(DESK, 3)])
    assert await desk.heads.of([DESK], at_least={}) == [5]
