"""How trading went: completed round trips of a trading day, a week or any range, per settle currency."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

from steelyard.accounting.keys import Account, Book, InstrumentName
from steelyard.accounting.performance import Basis, Performance
from steelyard.accounting.trading_calendar import (
    Calendar,
    DayRule,
    Interval,
    day_interval,
    day_of,
    monday_of,
    week_interval,
)
from steelyard.accounting.units import exactly
from steelyard.operations.day_rules import check_rule, rule_of_texts
from steelyard.operations.performance_ranges import (
    CurvePoints,
    Cut,
    Groups,
    Measured,
    RangeQuestion,
    RangeRead,
    TripScope,
    interval_of,
)
from steelyard.operations.ports import Clock
from steelyard.operations.reading import AS_IT_IS, Answer, Freshness, Reading, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceFilter:
    """Whose completed round trips are meant, and by which days."""

    accounts: Sequence[Account] = ()
    """None: all."""
    book: Book | None = None
    instrument: InstrumentName | None = None
    day: date | None = None
    """None: today, by the day rule."""
    day_rule: DayRule | None = None
    """None: the account's own where exactly one is named, else calendar days of America/Chicago."""
    basis: Basis = Basis.NET

    @property
    def scope(self) -> TripScope:
        """The same without the days."""
        return TripScope(
            accounts=self.accounts,
            books=() if self.book is None else (self.book,),
            instruments=() if self.instrument is None else (self.instrument,),
            basis=self.basis,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceRead:
    """How a day or a week went; the interval is half-open."""

    day: date
    """The day that was meant; of a week its Monday."""
    day_rule: DayRule
    started_at: datetime
    ended_at: datetime
    currencies: Mapping[str, Performance]
    """By settle currency, sorted; none without completed round trips."""


class PerformanceStore(Protocol):
    """Counts and sums completed round trips."""

    async def day_rule_of(self, account: Account) -> tuple[Mapping[str, str] | None, int]:
        """The day rule in an account's record (None for an unknown account), and its newest seq (0: it has none)."""
        ...

    async def completed(
        self, scope: TripScope, *, interval: Interval, heads: Collection[Account]
    ) -> Snapshot[Mapping[str, Performance]]:
        """The figures of the trips that closed in an interval, by settle currency, sorted."""
        ...

    async def measured(
        self,
        scope: TripScope,
        *,
        interval: Interval,
        cut: Cut | None,
        curve: CurvePoints | None,
        heads: Collection[Account],
    ) -> Snapshot[Measured]:
        """The extended figures of the trips that closed in an interval, in all and by groups, and their curve.

        Raises `InvalidField` where there are more groups than may be answered.
        """
        ...


class PerformanceAnswers(Protocol):
    """Whoever answers questions about how trading went, from the store or through a cache."""

    async def daily(self, wanted: PerformanceFilter, *, freshness: Freshness = AS_IT_IS) -> Answer[PerformanceRead]:
        """One trading day."""
        ...

    async def weekly(self, wanted: PerformanceFilter, *, freshness: Freshness = AS_IT_IS) -> Answer[PerformanceRead]:
        """The trading week that holds a day."""
        ...

    async def over(self, question: RangeQuestion, *, freshness: Freshness = AS_IT_IS) -> Answer[RangeRead]:
        """Any range of time."""
        ...

    async def resolve(self, wanted: PerformanceFilter) -> PerformanceFilter:
        """The same question with its day rule and its day spelt out."""
        ...


class ReadPerformance:
    """Answers questions about how trading went."""

    def __init__(self, store: PerformanceStore, reading: Reading, *, clock: Clock) -> None:
        self._store = store
        self._reading = reading
        self._clock = clock

    async def daily(self, wanted: PerformanceFilter, *, freshness: Freshness = AS_IT_IS) -> Answer[PerformanceRead]:
        """One trading day. Raises `InvalidField` for a zone that is none or a day that no calendar reaches."""
        rule, day = await self._rule_and_day(wanted)
        return await self._measure(wanted, rule, day=day, interval=day_interval(day, rule), freshness=freshness)

    async def weekly(self, wanted: PerformanceFilter, *, freshness: Freshness = AS_IT_IS) -> Answer[PerformanceRead]:
        """The trading week that holds a day, Monday to Monday. Raises `InvalidField` like `daily`."""
        rule, day = await self._rule_and_day(wanted)
        return await self._measure(
            wanted, rule, day=monday_of(day), interval=week_interval(day, rule), freshness=freshness
        )

    async def resolve(self, wanted: PerformanceFilter) -> PerformanceFilter:
        """The same question with its day rule and its day spelt out, which mean the same tomorrow.

        Raises `InvalidField` like `daily`.
        """
        rule, day = await self._rule_and_day(wanted)
        return replace(wanted, day_rule=rule, day=day)

    async def over(self, question: RangeQuestion, *, freshness: Freshness = AS_IT_IS) -> Answer[RangeRead]:
        """Any range of time. Raises `InvalidField` like `daily`, and for a range or groups beyond what is answered."""
        scope = question.scope
        rule = await self._rule(question.day_rule, scope.accounts)
        interval = interval_of(question, rule)
        groups = Groups(question, rule, interval=interval)
        answer = await self._reading.answer(
            lambda heads: self._store.measured(
                scope, interval=interval, cut=groups.cut, curve=question.curve, heads=heads
            ),
            accounts=scope.accounts,
            freshness=freshness,
        )
        measured = answer.value
        read = RangeRead(
            day_rule=rule,
            started_at=interval[0],
            ended_at=interval[1],
            currencies=measured.totals,
            groups=[groups.named(key, figures) for key, figures in measured.groups],
            curves=measured.curves,
        )
        return Answer(read, answer.seen)

    async def resolve_range(self, question: RangeQuestion) -> RangeQuestion:
        """The same question with its day rule spelt out. Raises `InvalidField` for a zone that is none."""
        return replace(question, day_rule=await self._rule(question.day_rule, question.scope.accounts))

    async def account_rule(self, account: Account) -> tuple[DayRule, int]:
        """The day rule of an account, calendar days where it is unknown, and the seq that the same snapshot saw.

        Every change of an account's record is a commit of its own, so under one seq the rule is always the same.
        """
        texts, seq = await self._store.day_rule_of(account)
        return Calendar() if texts is None else rule_of_texts(texts), seq

    async def _rule_and_day(self, wanted: PerformanceFilter) -> tuple[DayRule, date]:
        rule = await self._rule(wanted.day_rule, wanted.accounts)
        return rule, wanted.day or day_of(self._clock(), rule)

    async def _rule(self, rule: DayRule | None, accounts: Sequence[Account]) -> DayRule:
        if rule is None and len(accounts) == 1:
            rule, _ = await self.account_rule(accounts[0])
        rule = rule or Calendar()
        check_rule(rule)
        return rule

    async def _measure(
        self,
        wanted: PerformanceFilter,
        rule: DayRule,
        *,
        day: date,
        interval: Interval,
        freshness: Freshness,
    ) -> Answer[PerformanceRead]:
        started_at, ended_at = interval
        answer = await self._reading.answer(
            lambda heads: self._store.completed(wanted.scope, interval=interval, heads=heads),
            accounts=wanted.accounts,
            freshness=freshness,
        )
        read = PerformanceRead(
            day=day, day_rule=rule, started_at=started_at, ended_at=ended_at, currencies=answer.value
        )
        return Answer(read, answer.seen)


@exactly
def funding_of(performance: Performance) -> Decimal:
    """The funding within a net result: net = gross - fees + funding."""
    return performance.net - performance.gross + performance.fees
