"""How trading went: completed round trips of a trading day or week, per settle currency."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

from steelyard.accounting.keys import Account, Book, InstrumentName
from steelyard.accounting.performance import Performance
from steelyard.accounting.trading_calendar import (
    Calendar,
    DayRule,
    day_interval,
    day_of,
    monday_of,
    week_interval,
)
from steelyard.accounting.units import exactly
from steelyard.operations.day_rules import check_rule, rule_of_texts
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

    async def day_rule_of(self, account: Account) -> Mapping[str, str] | None:
        """The day rule in an account's record; None for an unknown account."""
        ...

    async def completed(
        self, wanted: PerformanceFilter, *, closed_from: datetime, closed_before: datetime, heads: Collection[Account]
    ) -> Snapshot[Mapping[str, Performance]]:
        """The figures of the trips that closed in [closed_from, closed_before), by settle currency, sorted."""
        ...


class PerformanceAnswers(Protocol):
    """Whoever answers questions about how trading went, from the store or through a cache."""

    async def daily(self, wanted: PerformanceFilter, *, freshness: Freshness = AS_IT_IS) -> Answer[PerformanceRead]:
        """One trading day."""
        ...

    async def weekly(self, wanted: PerformanceFilter, *, freshness: Freshness = AS_IT_IS) -> Answer[PerformanceRead]:
        """The trading week that holds a day."""
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
        started_at, ended_at = day_interval(day, rule)
        return await self._measure(wanted, rule, day=day, interval=(started_at, ended_at), freshness=freshness)

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

    async def _rule_and_day(self, wanted: PerformanceFilter) -> tuple[DayRule, date]:
        rule = wanted.day_rule
        if rule is None and len(wanted.accounts) == 1:
            texts = await self._store.day_rule_of(wanted.accounts[0])
            rule = None if texts is None else rule_of_texts(texts)
        rule = rule or Calendar()
        check_rule(rule)
        return rule, wanted.day or day_of(self._clock(), rule)

    async def _measure(
        self,
        wanted: PerformanceFilter,
        rule: DayRule,
        *,
        day: date,
        interval: tuple[datetime, datetime],
        freshness: Freshness,
    ) -> Answer[PerformanceRead]:
        started_at, ended_at = interval
        answer = await self._reading.answer(
            lambda heads: self._store.completed(wanted, closed_from=started_at, closed_before=ended_at, heads=heads),
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
