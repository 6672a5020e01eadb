"""Portfolios and performance through the cache: the same questions, the same answers, mostly without a read."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from steelyard.accounting.errors import SteelyardError
from steelyard.accounting.keys import Account, InstrumentName
from steelyard.accounting.trading_calendar import DayRule, monday_of
from steelyard.operations.answer_form import AnswerForm
from steelyard.operations.cached_answers import CachedAnswers, CachedAnswersFigures
from steelyard.operations.caching import Cache, Question
from steelyard.operations.newest_heads import ACCOUNTS_MAX, NewestHeads
from steelyard.operations.performance_ranges import RangeQuestion, RangeRead
from steelyard.operations.ports import Clock
from steelyard.operations.read_performance import PerformanceFilter, PerformanceRead, ReadPerformance
from steelyard.operations.read_portfolio import PortfolioView, ReadPortfolio
from steelyard.operations.reading import AS_IT_IS, Answer, Freshness

PORTFOLIO_TTL_S = 5.0
"""Also what a new mark may wait for until a portfolio shows it."""
DAILY_TTL_S = 45.0
WEEKLY_TTL_S = 60.0
WARMED_MAX = 100
"""Accounts whose portfolios are read at the start."""
WARMING_S = 5.0
"""How long that may take."""
WARMED_AT_ONCE = 4


def _leave_it(stale: Iterable[InstrumentName]) -> None:
    pass


class CachedPortfolio:
    """Answers like `ReadPortfolio`; exposure and PnL are parts of the same answer."""

    def __init__(
        self,
        read: ReadPortfolio,
        cache: Cache,
        *,
        heads: NewestHeads,
        clock: Clock,
        ttl_s: float = PORTFOLIO_TTL_S,
        met_stale: Callable[[Iterable[InstrumentName]], None] = _leave_it,
    ) -> None:
        """`met_stale` is told of instruments that are held at a stale or missing price; it must return at once."""
        self._read = read
        self._met_stale = met_stale
        self._answers: CachedAnswers[PortfolioView] = CachedAnswers(
            cache, heads, form=AnswerForm(PortfolioView), ttl_s=ttl_s, clock=clock
        )

    @property
    def figures(self) -> CachedAnswersFigures:
        """What became of the questions so far."""
        return self._answers.figures

    async def get(
        self,
        *,
        accounts: Sequence[Account] = (),
        instruments: Sequence[InstrumentName] = (),
        has_positions: bool = False,
        freshness: Freshness = AS_IT_IS,
        max_staleness: timedelta | None = None,
    ) -> Answer[PortfolioView]:
        """The portfolio as of the newest commits known; its prices may be some seconds old.

        With `max_staleness` the last known figures, up to that age, when the store is away.
        """
        question = _portfolio_question(accounts, instruments, has_positions=has_positions)

        async def read(fresh: Freshness) -> Answer[PortfolioView]:
            return await self._read.get(
                accounts=accounts, instruments=instruments, has_positions=has_positions, freshness=fresh
            )

        answer = await self._answers.answer(question, read=read, freshness=freshness, max_staleness=max_staleness)
        for sums in answer.value.portfolio.currencies.values():
            if sums.stale_prices or sums.missing_prices:
                self._met_stale(map(InstrumentName, (*sums.stale_prices, *sums.missing_prices)))
        return answer

    async def warm(self, accounts: Sequence[Account], *, within_s: float = WARMING_S) -> int:
        """Reads the portfolios of accounts, everybody's first, and tells how many there was time for. Never fails."""
        waiting: list[tuple[Account, ...]] = [(), *((account,) for account in accounts[:WARMED_MAX])]
        waiting.reverse()
        before = self.figures.warmed

        async def warm_next() -> None:
            while waiting:
                await self._warm_one(waiting.pop())

        try:
            async with asyncio.timeout(within_s):
                await asyncio.gather(*(warm_next() for _ in range(WARMED_AT_ONCE)))
        except (TimeoutError, SteelyardError):
            waiting.clear()
        return self.figures.warmed - before

    async def _warm_one(self, accounts: tuple[Account, ...]) -> None:
        question = _portfolio_question(accounts, (), has_positions=False)
        await self._answers.warm(question, read=lambda fresh: self._read.get(accounts=accounts, freshness=fresh))

    async def close(self) -> None:
        """Ends reads under way."""
        await self._answers.close()


@dataclass(frozen=True, slots=True)
class _Named:
    rule: DayRule | None
    """None: that of whoever answers."""
    seqs: Sequence[int] | None = None
    """The newest commit of the one account that is asked about, where it was looked up."""


class CachedPerformance:
    """Answers like `ReadPerformance`."""

    def __init__(
        self,
        read: ReadPerformance,
        cache: Cache,
        *,
        heads: NewestHeads,
        clock: Clock,
        daily_ttl_s: float = DAILY_TTL_S,
        weekly_ttl_s: float = WEEKLY_TTL_S,
    ) -> None:
        self._read = read
        self._heads = heads
        self._rules: OrderedDict[Account, tuple[DayRule, int]] = OrderedDict()
        form: AnswerForm[PerformanceRead] = AnswerForm(PerformanceRead)
        self._daily = CachedAnswers(cache, heads, form=form, ttl_s=daily_ttl_s, clock=clock)
        self._weekly = CachedAnswers(cache, heads, form=form, ttl_s=weekly_ttl_s, clock=clock)
        self._ranges: CachedAnswers[RangeRead] = CachedAnswers(
            cache, heads, form=AnswerForm(RangeRead), ttl_s=weekly_ttl_s, clock=clock
        )

    @property
    def figures(self) -> tuple[CachedAnswersFigures, CachedAnswersFigures, CachedAnswersFigures]:
        """What became of the questions about days, about weeks and about ranges so far."""
        return self._daily.figures, self._weekly.figures, self._ranges.figures

    async def daily(self, wanted: PerformanceFilter, *, freshness: Freshness = AS_IT_IS) -> Answer[PerformanceRead]:
        """One trading day. Raises `InvalidField` for a zone that is none or a day that no calendar reaches."""
        named = await self._named(wanted.day_rule, wanted.accounts, freshness=freshness)
        meant = await self._read.resolve(replace(wanted, day_rule=named.rule))
        return await self._daily.answer(
            _performance_question(meant, kind="daily"),
            read=lambda fresh: self._read.daily(meant, freshness=fresh),
            freshness=freshness,
            newest=named.seqs,
        )

    async def weekly(self, wanted: PerformanceFilter, *, freshness: Freshness = AS_IT_IS) -> Answer[PerformanceRead]:
        """The trading week that holds a day, Monday to Monday. Raises `InvalidField` like `daily`."""
        named = await self._named(wanted.day_rule, wanted.accounts, freshness=freshness)
        meant = await self._read.resolve(replace(wanted, day_rule=named.rule))
        assert meant.day is not None
        week = replace(meant, day=monday_of(meant.day))
        return await self._weekly.answer(
            _performance_question(week, kind="weekly"),
            read=lambda fresh: self._read.weekly(week, freshness=fresh),
            freshness=freshness,
            newest=named.seqs,
        )

    async def over(self, question: RangeQuestion, *, freshness: Freshness = AS_IT_IS) -> Answer[RangeRead]:
        """Any range of time. Raises `InvalidField` like `daily`, and for a range or groups beyond what is answered."""
        named = await self._named(question.day_rule, question.scope.accounts, freshness=freshness)
        meant = await self._read.resolve_range(replace(question, day_rule=named.rule))
        return await self._ranges.answer(
            _range_question(meant),
            read=lambda fresh: self._read.over(meant, freshness=fresh),
            freshness=freshness,
            newest=named.seqs,
        )

    async def resolve(self, wanted: PerformanceFilter) -> PerformanceFilter:
        """The same question with its day rule and its day spelt out. Raises `InvalidField` like `daily`."""
        named = await self._named(wanted.day_rule, wanted.accounts, freshness=AS_IT_IS)
        return await self._read.resolve(replace(wanted, day_rule=named.rule))

    async def _named(self, rule: DayRule | None, accounts: Sequence[Account], *, freshness: Freshness) -> _Named:
        """The day rule that is meant, where an account's own is, with the newest commit that it was looked up under.

        Every change of a record steps its account's log, so a rule is read once for each commit.
        """
        if rule is not None or len(accounts) != 1:
            return _Named(rule)
        account = accounts[0]
        seqs = await self._heads.of(accounts, at_least=freshness.min_commit)
        known = self._rules.get(account)
        if known is None or known[1] != seqs[0]:
            known = await self._read.account_rule(account)
            self._rules[account] = known
            while len(self._rules) > ACCOUNTS_MAX:
                self._rules.popitem(last=False)
        return _Named(known[0], seqs)

    async def close(self) -> None:
        """Ends reads under way."""
        await self._daily.close()
        await self._weekly.close()
        await self._ranges.close()


def _portfolio_question(
    accounts: Sequence[Account], instruments: Sequence[InstrumentName], *, has_positions: bool
) -> Question:
    terms = ("positions" if has_positions else "sums", *sorted(set(instruments)))
    return Question("portfolio", terms, tuple(sorted(set(accounts))))


def _performance_question(meant: PerformanceFilter, *, kind: str) -> Question:
    assert meant.day is not None
    assert meant.day_rule is not None
    # Texts of filters are told apart by their place, absent ones from empty ones by the sign before them.
    filters = ("-" if each is None else f"={each}" for each in (meant.book, meant.instrument))
    terms = (meant.day.isoformat(), *filters, repr(meant.day_rule), meant.basis)
    return Question(f"{kind}_performance", terms, tuple(sorted(set(meant.accounts))))


def _range_question(meant: RangeQuestion) -> Question:
    # What was asked is written out whole, apart from the accounts, whose commits name the answer.
    everyone = replace(meant, scope=replace(meant.scope, accounts=()))
    return Question("performance_range", (repr(everyone),), tuple(sorted(set(meant.scope.accounts))))
