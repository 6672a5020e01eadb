"""The result of a day is that of the fills executed in it, whatever came late, was corrected, or is not folded yet."""

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import partial

import pytest

from steelyard.accounting.entries import Fill
from steelyard.accounting.keys import Account, PositionKey
from steelyard.accounting.limits import LimitState
from steelyard.accounting.lots import LotMethod
from steelyard.accounting.round_trips import CostMethod
from steelyard.operations import day_results
from steelyard.operations.ports import AccountRules
from steelyard.operations.risk import account_risk
from tests.limits.desk import DESK, LimitDesk
from tests.questions.books import NOW, fill, funding, key, oracle

MIDNIGHT = datetime(2026, 3, 6, 6, tzinfo=UTC)
"""The account's day, by Chicago, of NOW."""
KEYS = (key(), key("ETHUSDT", book="swing"), key("BTCUSDT", leg="LONG", book="hedge"))


def at(minutes: float) -> datetime:
    """Minutes from midnight, before or after."""
    return MIDNIGHT + timedelta(minutes=minutes)


def naive(
    fills: Sequence[Fill], *, method: str = "AVERAGE", until: datetime = MIDNIGHT + timedelta(days=1)
) -> Fraction:
    """What all fills came to less what those before the day came to, by the oracle; nothing is funded."""
    total = Fraction()
    for sign, chosen in (
        (1, [each for each in fills if each.executed_at < until]),
        (-1, [each for each in fills if each.executed_at < MIDNIGHT]),
    ):
        for position in oracle(chosen).values():
            total += sign * position.figures[method].net_realized_pnl
    return total


async def assert_day(desk: LimitDesk, fills: Sequence[Fill], *, method: str = "AVERAGE") -> None:
    expected = naive(fills, method=method)
    assert [Fraction(figure) for figure in await desk.day()] == [expected, True]
    assert [Fraction(figure) for figure in await desk.fresh_day()] == [expected, True]


async def test_a_position_held_over_midnight_loses_only_what_its_fills_of_the_day_lose(desk: LimitDesk) -> None:
    await desk.limit(day_loss_max="21")
    fills = [
        fill("a", "4", "100", fee="3", at=at(-90)),
        fill("b", "-1", "80", fee="1", at=at(-30)),
        fill("c", "-1", "90", fee="1", at=at(0)),
        fill("d", "-1", "90", fee="0.5", at=at(10)),
    ]
    await desk.record(*fills)
    await assert_day(desk, fills)
    assert await desk.day() == (Decimal("-21.5"), True)
    (check,) = (await desk.states())["USDT"].exceeded
    assert (check.limit, check.value) == (Decimal(21), Decimal("21.5"))


async def test_funding_is_none_of_a_fills_results(desk: LimitDesk) -> None:
    await desk.limit(day_loss_max="1")
    await desk.record(fill("a", "1", "100", at=at(5)))
    minute = (at(6) - datetime(2026, 3, 2, 14, 30, tzinfo=UTC)) / timedelta(minutes=1)
    await desk.adjust(funding("-50", minute=minute))
    assert await desk.day() == (Decimal(0), True)


async def test_unrealized_counts_where_it_is_asked_for(desk: LimitDesk) -> None:
    await desk.record(fill("a", "1", "100", at=at(-5)))
    await desk.mark(BTCUSDT="60")
    await desk.limit(day_loss_max="39")
    assert (await desk.states())["USDT"].limit_exceeded is LimitState.WITHIN
    await desk.limit(day_loss_max="39", counts_unrealized=True)
    assert (await desk.states())["USDT"].limit_exceeded is LimitState.EXCEEDED


async def test_the_next_day_begins_with_nothing_lost(desk: LimitDesk) -> None:
    await desk.limit(day_loss_max="5")
    fills = [fill("a", "1", "100", at=at(5)), fill("b", "-1", "90", at=at(6))]
    await desk.record(*fills)
    assert await desk.day() == (Decimal(-10), True)
    desk.now = MIDNIGHT + timedelta(days=1)
    assert await desk.day() == (Decimal(0), True)
    desk.now = MIDNIGHT + timedelta(days=1) - timedelta(microseconds=1)
    assert await desk.day() == (Decimal(-10), True)


async def test_fills_behind_the_end_of_the_day_wait_for_theirs(desk: LimitDesk) -> None:
    desk.now = MIDNIGHT + timedelta(hours=23, minutes=58)
    await desk.limit(day_loss_max="5")
    fills = [
        fill("a", "2", "100", at=at(5)),
        fill("b", "-1", "90", at=at(6)),
        fill("c", "-1", "50", at=MIDNIGHT + timedelta(days=1)),
    ]
    await desk.record(*fills)
    assert await desk.day() == (Decimal(-10), True)
    await assert_day(desk, fills)


async def test_entries_that_are_stored_but_not_folded_leave_the_loss_unknown(desk: LimitDesk) -> None:
    await desk.limit(day_loss_max="5")
    await desk.record(fill("a", "1", "100", at=at(-9)), fill("b", "-0.5", "50", at=at(1)))
    assert await desk.day() == (Decimal(-25), True)
    await desk.store_only(fill("late", "1", "20", at=at(-10)))
    assert (await desk.day())[1] is False
    assert (await desk.states())["USDT"].limit_exceeded is LimitState.UNKNOWN
    # The next fill folds what waited: an opening kept from before must not be used again.
    last = fill("c", "-0.5", "50", at=at(2))
    await desk.record(last)
    fills = [
        fill("a", "1", "100", at=at(-9)),
        fill("b", "-0.5", "50", at=at(1)),
        fill("late", "1", "20", at=at(-10)),
        last,
    ]
    await assert_day(desk, fills)


async def test_a_fee_without_a_rate_leaves_the_loss_unknown_unless_it_is_enough(desk: LimitDesk) -> None:
    await desk.limit(day_loss_max="5")
    await desk.record(fill("a", "1", "100", fee="1", at=at(1))._replace(fee_currency="BNB"))
    assert (await desk.states())["USDT"].limit_exceeded is LimitState.UNKNOWN
    await desk.record(fill("b", "-1", "90", at=at(2)))
    assert (await desk.states())["USDT"].limit_exceeded is LimitState.EXCEEDED


def random_fills(chance: random.Random, count: int, *, of: Sequence[PositionKey] = KEYS) -> list[Fill]:
    return [
        fill(
            f"f{number:03}",
            chance.choice(["-3", "-1", "-0.5", "0.5", "1", "2"]),
            str(chance.randint(80, 120)),
            of=chance.choice(of),
            fee=chance.choice(["0", "0.3", "-0.1"]),
            at=at(chance.randint(-600, 300)),
        )
        for number in range(count)
    ]


def _moved(old: Fill, *, to: Fill) -> Fill:
    return old._replace(executed_at=to.executed_at, price=to.price)


@pytest.mark.parametrize("seed", range(4))
async def test_the_day_equals_the_oracle_s_however_fills_arrive_and_are_corrected(desk: LimitDesk, seed: int) -> None:
    chance = random.Random(seed)
    rules = AccountRules(DESK, cost_method=chance.choice(list(CostMethod)), lot_method=LotMethod.FIFO)
    method = "AVERAGE" if rules.cost_method is CostMethod.AVERAGE else "FIFO"
    await desk.limit(day_loss_max="5")
    known: dict[str, Fill] = {}
    waiting = random_fills(chance, 60)
    revisions: dict[str, int] = {}
    while waiting:
        step = chance.random()
        if step < 0.15 and known:
            chosen = known[chance.choice(sorted(known))]
            moved = chosen._replace(executed_at=at(chance.randint(-600, 300)), price=Decimal(chance.randint(80, 120)))
            revision = revisions.get(chosen.fill_id, 1)
            await desk.correcting.amend(
                DESK,
                chosen.fill_id,
                expected_revision=revision,
                amendment=partial(_moved, to=moved),
            )
            known[chosen.fill_id], revisions[chosen.fill_id] = moved, revision + 1
        elif step < 0.22 and known:
            chosen = known.pop(chance.choice(sorted(known)))
            await desk.correcting.bust(DESK, chosen.fill_id, expected_revision=revisions.get(chosen.fill_id, 1))
        else:
            batch = [waiting.pop() for _ in range(min(len(waiting), chance.randint(1, 6)))]
            await desk.record(*batch, rules=rules)
            known.update({each.fill_id: each for each in batch})
        await assert_day(desk, list(known.values()), method=method)


async def test_a_batch_of_more_fills_than_an_event_names_is_counted(desk: LimitDesk) -> None:
    chance = random.Random(7)
    await desk.limit(day_loss_max="5")
    fills = random_fills(chance, 10, of=KEYS[:1])
    await desk.record(*fills)
    await assert_day(desk, fills)
    many = [each._replace(fill_id=f"m{each.fill_id}") for each in random_fills(chance, 150, of=KEYS[:1])]  # type: ignore[arg-type] # a fill id
    await desk.record(*many)
    await assert_day(desk, [*fills, *many])


async def test_a_snapshot_older_than_what_is_kept_is_answered_for_its_own_moment(desk: LimitDesk) -> None:
    await desk.limit(day_loss_max="5")
    before = [fill("a", "2", "100", at=at(-9)), fill("b", "-1", "50", at=at(1))]
    await desk.record(*before)
    async with desk.store.snapshot() as old:
        await old.facts(DESK)
        late = fill("late", "2", "20", at=at(-10))
        await desk.record(late)
        assert Fraction((await desk.day())[0]) == naive([*before, late])
        risk = await account_risk(old, DESK, terms=desk.terms)
        assert Fraction(risk.figures["USDT"].day.net_realized) == naive(before)
    await assert_day(desk, [*before, late])
    assert desk.now == NOW


async def test_many_who_ask_at_once_while_fills_arrive_are_all_answered_for_some_commit(desk: LimitDesk) -> None:
    chance = random.Random(11)
    await desk.limit(day_loss_max="5")
    fills = random_fills(chance, 80, of=KEYS[:1])
    rules = AccountRules(DESK)
    await desk.record(*fills[:20], rules=rules)
    legal = {naive(fills[:count]) for count in range(20, 81, 10)}

    async def write() -> None:
        for start in range(20, 80, 10):
            await desk.record(*fills[start : start + 10], rules=rules)

    async def ask() -> list[Fraction]:
        return [Fraction((await desk.day())[0]) for _ in range(10)]

    answers = await asyncio.gather(ask(), ask(), ask(), write())
    assert {figure for found in answers if found for figure in found} <= legal
    await assert_day(desk, fills)


async def test_openings_are_kept_for_so_many_accounts_and_the_others_are_folded_again(
    desk: LimitDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(day_results, "ACCOUNTS_MAX", 1)
    monkeypatch.setattr(day_results, "CATCH_UP_MAX", 1)
    other = Account("other")
    mine, theirs = ([fill(f"{name}1", "1", "100", of=key(account=name), at=at(-5))] for name in (DESK, other))
    for account in (DESK, other):
        await desk.limit(account=account, day_loss_max="5")
    for number in range(1, 4):
        mine.append(fill(f"m{number}", "-1", str(100 - number), at=at(number)))
        theirs.append(fill(f"t{number}", "-1", "99", of=key(account=other), at=at(number)))
        await desk.record(*mine, *theirs)
        assert Fraction((await desk.day())[0]) == naive(mine)
        assert Fraction((await desk.day(account=other))[0]) == naive(theirs)
