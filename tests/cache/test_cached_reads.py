"""Portfolios and performance through the cache: as new as the newest commits, and read once for all who ask."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest

from steelyard.accounting.errors import NotYetVisible, StoreUnavailable
from steelyard.accounting.keys import Account
from steelyard.accounting.performance import Basis
from steelyard.accounting.trading_calendar import Calendar
from steelyard.cache.redis_cache import RedisCache
from steelyard.operations.answering_once import RequestIdentity
from steelyard.operations.cached_reads import CachedPortfolio
from steelyard.operations.caching import NoCache
from steelyard.operations.keep_accounts import AccountChange
from steelyard.operations.newest_heads import NewestHeads
from steelyard.operations.performance_ranges import CurvePoints, Grouping, RangeQuestion, TripScope
from steelyard.operations.read_performance import PerformanceFilter
from steelyard.operations.read_portfolio import ReadPortfolio
from steelyard.operations.reading import Freshness, Reading, ServedFrom
from steelyard.storage.database import Database
from steelyard.storage.heads import HeadReads
from steelyard.storage.portfolio_reads import PortfolioReads
from tests.cache.desk import DESK, Desk, held
from tests.questions.books import fill, key


@pytest.fixture
async def away(desk: Desk, cache: RedisCache) -> AsyncIterator[CachedPortfolio]:
    """A process that shares the cache and cannot reach the store."""
    nowhere = Database("postgresql://nobody@127.0.0.1:1/nowhere")
    heads = HeadReads(nowhere)
    read = ReadPortfolio(PortfolioReads(nowhere), Reading(heads, desk.book.clock), clock=desk.book.clock)
    yield CachedPortfolio(read, cache, heads=NewestHeads(heads), clock=desk.book.clock)
    await nowhere.close()


async def test_the_second_question_is_answered_from_the_cache_with_the_same_figures(desk: Desk) -> None:
    await desk.buy("2")
    await desk.book.mark(BTCUSDT="110")
    first = await desk.portfolio.get(accounts=[DESK])
    second = await desk.portfolio.get(accounts=[DESK])
    assert (first.seen.served_from, second.seen.served_from) == (ServedFrom.STORE, ServedFrom.CACHE)
    assert second.value == first.value
    assert second.seen.commits == first.seen.commits
    assert second.value.portfolio.currencies["USDT"].unrealized_pnl == 20
    assert desk.portfolio.figures.hit_rate == 0.5


async def test_another_process_finds_in_redis_what_this_one_read(desk: Desk, cache: RedisCache) -> None:
    await desk.buy("2")
    first = await desk.portfolio.get(accounts=[DESK], has_positions=True)
    await cache.settled()
    other = Desk(desk.book, cache)
    found = await other.portfolio.get(accounts=[DESK], has_positions=True)
    assert found.seen.served_from is ServedFrom.CACHE
    assert found.value.portfolio == first.value.portfolio
    assert list(found.value.positions) == list(first.value.positions)
    assert (other.portfolio.figures.from_cache, other.portfolio.figures.from_store) == (1, 0)


@pytest.mark.parametrize("accounts", [[DESK], []], ids=["one account", "everybody"])
async def test_an_own_write_is_in_the_very_next_answer(desk: Desk, accounts: list[Account]) -> None:
    for bought in range(1, 11):
        await desk.buy()
        assert held(await desk.portfolio.get(accounts=accounts)) == bought
        assert held(await desk.portfolio.get(accounts=accounts)) == bought


@pytest.mark.parametrize("accounts", [[DESK], []], ids=["one account", "everybody"])
async def test_a_commit_demanded_is_in_the_answer_though_another_process_made_it(
    desk: Desk, cache: RedisCache, accounts: list[Account]
) -> None:
    writer = Desk(desk.book, cache)
    for bought in range(1, 11):
        await desk.portfolio.get(accounts=accounts)
        commit = await writer.buy()
        answer = await desk.portfolio.get(accounts=accounts, freshness=Freshness({DESK: commit.seq}))
        assert held(answer) == bought


async def test_anothers_write_is_seen_a_tenth_of_a_second_later_without_being_demanded(
    desk: Desk, cache: RedisCache
) -> None:
    writer = Desk(desk.book, cache)
    await writer.buy()
    await desk.portfolio.get(accounts=[DESK])
    await writer.buy()
    await asyncio.sleep(0.11)
    assert held(await desk.portfolio.get(accounts=[DESK])) == 2


async def test_a_commit_that_is_not_visible_yet_is_refused_and_demanding_it_spoils_nothing(desk: Desk) -> None:
    await desk.buy()
    for accounts in ([DESK], []):
        with pytest.raises(NotYetVisible):
            await desk.portfolio.get(accounts=accounts, freshness=Freshness({DESK: 99}, wait_s=0.05))
        await desk.portfolio.get(accounts=accounts)
        assert (await desk.portfolio.get(accounts=accounts)).seen.served_from is ServedFrom.CACHE


async def test_a_commit_of_an_account_that_is_not_asked_about_does_not_stand_in_the_way(desk: Desk) -> None:
    await desk.buy()
    await desk.portfolio.get(accounts=[DESK])
    demand = Freshness({Account("elsewhere"): 0, DESK: 1})
    assert (await desk.portfolio.get(accounts=[DESK], freshness=demand)).seen.served_from is ServedFrom.CACHE


async def test_a_hundred_who_ask_at_once_cost_one_read(desk: Desk) -> None:
    await desk.buy()
    answers = await asyncio.gather(*(desk.portfolio.get(accounts=[DESK]) for _ in range(100)))
    assert {held(answer) for answer in answers} == {Decimal(1)}
    figures = desk.portfolio.figures
    print(f"100 at once: {figures}")
    assert (figures.from_store, figures.joined) == (1, 99)


async def test_one_who_gives_up_does_not_take_the_others_answer_away(desk: Desk) -> None:
    await desk.buy()
    asked = [asyncio.create_task(desk.portfolio.get(accounts=[DESK])) for _ in range(10)]
    await asyncio.sleep(0)
    asked[0].cancel()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert [held(answer) for answer in answers[1:] if not isinstance(answer, BaseException)] == [1] * 9
    assert desk.portfolio.figures.from_store == 1


async def test_questions_that_differ_have_answers_of_their_own(desk: Desk) -> None:
    await desk.buy()
    await desk.book.record(fill("eth", "3", "10", of=key("ETHUSDT"), minute=50))
    both = await desk.portfolio.get(accounts=[DESK])
    one = await desk.portfolio.get(accounts=[DESK], instruments=[key("ETHUSDT").instrument])
    told = await desk.portfolio.get(accounts=[DESK], has_positions=True)
    nobody = await desk.portfolio.get(accounts=[Account("nobody")])
    assert len(both.value.portfolio.currencies["USDT"].by_instrument) == 2
    assert list(one.value.portfolio.currencies["USDT"].by_instrument) == ["ETHUSDT"]
    assert (len(both.value.positions), len(told.value.positions)) == (0, 2)
    assert nobody.value.portfolio.currencies == {}
    assert desk.portfolio.figures.hits == 0


async def test_a_price_is_seen_when_the_answer_has_lived_its_time(desk: Desk, cache: RedisCache) -> None:
    await desk.buy()
    await desk.book.mark(BTCUSDT="110")
    await desk.portfolio.get(accounts=[DESK])
    await cache.settled()
    desk.book.now += timedelta(seconds=5)
    await desk.book.mark(BTCUSDT="120")
    other = Desk(desk.book, cache)
    assert (await other.portfolio.get(accounts=[DESK])).value.portfolio.currencies["USDT"].unrealized_pnl == 20
    assert other.portfolio.figures.unreadable == 1


async def test_a_day_and_a_week_are_kept_by_what_they_resolve_to(desk: Desk) -> None:
    await desk.buy("1")
    await desk.buy("-1", price="130")
    today = desk.book.now.date()
    by_name = await desk.performance.daily(PerformanceFilter(accounts=[DESK], day=date(2026, 3, 2)))
    assert by_name.value.currencies["USDT"].net == 30
    assert (await desk.performance.daily(PerformanceFilter(accounts=[DESK]))).value.day == today
    assert desk.performance.figures[0].hits == 0
    again = await desk.performance.daily(PerformanceFilter(accounts=[DESK], day=today))
    assert again.seen.served_from is ServedFrom.CACHE
    for day in (date(2026, 3, 2), date(2026, 3, 5), date(2026, 3, 8)):
        week = await desk.performance.weekly(PerformanceFilter(accounts=[DESK], day=day))
        assert week.value.currencies["USDT"].total == 1
    assert desk.performance.figures[1].from_memory == 2


async def test_a_day_by_the_accounts_own_rule_costs_one_look_at_the_log(desk: Desk) -> None:
    strict = Desk(desk.book, NoCache(), fresh_s=0)
    await desk.buy("1")
    await desk.buy("-1", price="130")
    wanted = PerformanceFilter(accounts=[DESK], day=date(2026, 3, 2))
    first = await strict.performance.daily(wanted)
    looked = strict.log.asked
    again = await strict.performance.daily(wanted)
    assert (first.seen.served_from, again.seen.served_from) == (ServedFrom.STORE, ServedFrom.CACHE)
    assert strict.log.asked == looked + 1


async def test_another_rule_of_the_account_counts_from_its_commit_on(desk: Desk) -> None:
    strict = Desk(desk.book, NoCache(), fresh_s=0)
    await desk.buy("1")
    wanted = PerformanceFilter(accounts=[DESK], day=date(2026, 3, 2))
    before = (await strict.performance.daily(wanted)).value.day_rule
    change = AccountChange(account=DESK, day_rule=Calendar("Asia/Tokyo"))
    await desk.book.accounts.upsert(change, request=RequestIdentity(uuid4(), b"rule"))
    after = await strict.performance.daily(wanted)
    assert before != after.value.day_rule == Calendar("Asia/Tokyo")
    assert after.seen.served_from is ServedFrom.STORE
    assert (await strict.performance.resolve(wanted)).day_rule == Calendar("Asia/Tokyo")


async def test_a_range_is_kept_by_all_that_was_asked_of_it(desk: Desk) -> None:
    await desk.buy("1")
    await desk.buy("-1", price="130")
    days = (date(2026, 3, 2), date(2026, 3, 9))
    asked = RangeQuestion(scope=TripScope(accounts=[DESK]), days=days, grouping=Grouping.HOUR, curve=CurvePoints.TRIP)
    first = await desk.performance.over(asked)
    again = await desk.performance.over(asked)
    assert (first.seen.served_from, again.seen.served_from) == (ServedFrom.STORE, ServedFrom.CACHE)
    assert again.value == first.value
    assert [group.name for group in first.value.groups] == ["08"]
    by_gross = replace(asked, scope=replace(asked.scope, basis=Basis.GROSS))
    tokyo = replace(asked, day_rule=Calendar("Asia/Tokyo"))
    for other in (by_gross, tokyo, replace(asked, grouping=None), replace(asked, curve=None)):
        assert (await desk.performance.over(other)).seen.served_from is ServedFrom.STORE
    await desk.buy("1")
    assert (await desk.performance.over(asked)).seen.served_from is ServedFrom.STORE


async def test_net_and_gross_are_kept_apart(desk: Desk) -> None:
    await desk.buy("1")
    wanted = PerformanceFilter(accounts=[DESK])
    for question in (desk.performance.daily, desk.performance.weekly):
        for meant in (wanted, replace(wanted, basis=Basis.GROSS)):
            assert (await question(meant)).seen.served_from is ServedFrom.STORE


async def test_tomorrow_is_another_day(desk: Desk) -> None:
    wanted = PerformanceFilter(accounts=[DESK])
    today = (await desk.performance.daily(wanted)).value.day
    desk.book.now += timedelta(days=1)
    assert (await desk.performance.daily(wanted)).value.day == today + timedelta(days=1)


async def test_what_was_warmed_is_found_by_whoever_asks_first(desk: Desk, cache: RedisCache) -> None:
    accounts = [Account(f"a{number}") for number in range(30)]
    for place, account in enumerate(accounts):
        await desk.book.record(fill(f"w{place}", "1", "100", of=key(account=account), minute=place))
    cold = Desk(desk.book, cache)
    begun = asyncio.get_running_loop().time()
    warmed = await cold.portfolio.warm(await HeadReads(desk.book.database).recent_accounts(20))
    took_s = asyncio.get_running_loop().time() - begun
    print(f"warmed {warmed} portfolios in {took_s * 1e3:.0f} ms")
    assert warmed == 21
    await cold.portfolio.get(accounts=[accounts[-1]])
    await cold.portfolio.get()
    assert (cold.portfolio.figures.from_memory, cold.portfolio.figures.from_store) == (2, 21)


async def test_warming_gives_up_in_time_and_never_fails(desk: Desk, away: CachedPortfolio) -> None:
    await desk.buy()
    assert await desk.portfolio.warm([DESK], within_s=0) == 0
    assert await away.warm([DESK]) == 0


async def test_when_the_store_is_away_the_last_figures_are_told_to_whoever_allows_their_age(
    desk: Desk, cache: RedisCache, away: CachedPortfolio
) -> None:
    await desk.buy("2")
    await desk.portfolio.get(accounts=[DESK])
    await cache.settled()
    desk.book.now += timedelta(minutes=1)
    with pytest.raises(StoreUnavailable):
        await away.get(accounts=[DESK])
    with pytest.raises(StoreUnavailable):
        await away.get(accounts=[DESK], max_staleness=timedelta(seconds=59))
    answer = await away.get(accounts=[DESK], max_staleness=timedelta(seconds=60))
    assert held(answer) == 2
    assert answer.seen.served_from is ServedFrom.LAST_KNOWN
    assert answer.seen.read_at == desk.book.now - timedelta(minutes=1)
    newer = Freshness({DESK: answer.seen.commits[0].seq + 1})
    with pytest.raises(StoreUnavailable):
        await away.get(accounts=[DESK], freshness=newer, max_staleness=timedelta(hours=1))
    assert away.figures.last_known == 1


async def test_without_a_cache_the_memory_of_the_process_still_serves(desk: Desk) -> None:
    alone = Desk(desk.book, NoCache())
    await alone.buy()
    for _ in range(3):
        assert held(await alone.portfolio.get(accounts=[DESK])) == 1
    assert (alone.portfolio.figures.from_store, alone.portfolio.figures.from_memory) == (1, 2)
