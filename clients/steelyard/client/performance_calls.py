"""PerformanceService: how trading went, and today and this week watched."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import cached_property

from google.protobuf.duration_pb2 import Duration
from google.type.date_pb2 import Date

from steelyard.client.caller import Caller, Commits
from steelyard.client.performance_records import (
    DailyPerformance,
    EquityCurvePoints,
    PerformanceBasis,
    PerformanceGrouping,
    RangePerformance,
    WatchedPerformance,
    WeeklyPerformance,
)
from steelyard.client.reports import DayRule
from steelyard.client.resuming import heard, resumed
from steelyard.client.translation import message_of, record_of, set_word, timestamp
from steelyard.v1 import admin_pb2, performance_service_pb2, performance_service_pb2_grpc


class PerformanceCalls(Caller):
    """The calls of PerformanceService."""

    @cached_property
    def _performance(self) -> performance_service_pb2_grpc.PerformanceServiceStub:
        return performance_service_pb2_grpc.PerformanceServiceStub(self.channel)

    async def get_daily_performance(
        self,
        accounts: Iterable[str] = (),
        *,
        day: date | None = None,
        day_rule: DayRule | None = None,
        book: str = "",
        instrument: str = "",
        basis: PerformanceBasis | None = None,
        min_commit: Commits | None = None,
    ) -> DailyPerformance:
        """How a trading day went; today without a day."""
        names = tuple(accounts)
        request = performance_service_pb2.GetDailyPerformanceRequest(
            day=_date(day),
            day_rule=_rule(day_rule),
            accounts=names,
            book=book,
            instrument=instrument,
            min_commit=self._since(names, min_commit),
        )
        set_word(request, "basis", word=basis)
        return record_of(DailyPerformance, await self._ask(self._performance.GetDailyPerformance, request))

    async def get_weekly_performance(
        self,
        accounts: Iterable[str] = (),
        *,
        day: date | None = None,
        day_rule: DayRule | None = None,
        book: str = "",
        instrument: str = "",
        basis: PerformanceBasis | None = None,
        min_commit: Commits | None = None,
    ) -> WeeklyPerformance:
        """How the trading week of a day went; this week without a day."""
        names = tuple(accounts)
        request = performance_service_pb2.GetWeeklyPerformanceRequest(
            day=_date(day),
            day_rule=_rule(day_rule),
            accounts=names,
            book=book,
            instrument=instrument,
            min_commit=self._since(names, min_commit),
        )
        set_word(request, "basis", word=basis)
        return record_of(WeeklyPerformance, await self._ask(self._performance.GetWeeklyPerformance, request))

    async def get_performance(
        self,
        accounts: Iterable[str] = (),
        *,
        days: tuple[date, date] | None = None,
        closed: tuple[datetime, datetime] | None = None,
        grouping: PerformanceGrouping | None = None,
        label_name: str = "",
        basis: PerformanceBasis | None = None,
        equity_curve: EquityCurvePoints | None = None,
        day_rule: DayRule | None = None,
        books: Iterable[str] = (),
        instruments: Iterable[str] = (),
        labels: Iterable[str] = (),
        settle_currencies: Iterable[str] = (),
        min_commit: Commits | None = None,
    ) -> RangePerformance:
        """How any range went: `days` are its first day and the first day after it, `closed` the same in instants."""
        names = tuple(accounts)
        request = performance_service_pb2.GetPerformanceRequest(
            day_from=_date(days[0]) if days else None,
            day_before=_date(days[1]) if days else None,
            closed_from=timestamp(closed[0]) if closed else None,
            closed_before=timestamp(closed[1]) if closed else None,
            label_name=label_name,
            day_rule=_rule(day_rule),
            accounts=names,
            books=books,
            instruments=instruments,
            labels=labels,
            settle_currencies=settle_currencies,
            min_commit=self._since(names, min_commit),
        )
        set_word(request, "grouping", word=grouping)
        set_word(request, "basis", word=basis)
        set_word(request, "equity_curve", word=equity_curve)
        return record_of(RangePerformance, await self._ask(self._performance.GetPerformance, request))

    def watch_performance(
        self,
        accounts: Iterable[str],
        *,
        day_rule: DayRule | None = None,
        book: str = "",
        instrument: str = "",
        basis: PerformanceBasis | None = None,
        min_interval: timedelta = timedelta(milliseconds=500),
        heartbeat: timedelta = timedelta(seconds=10),
    ) -> AsyncGenerator[WatchedPerformance, None]:
        """Today and this week as they are, then again whenever they change, for as long as it is read.

        A server that leaves, a broken connection and a silent one (no heartbeat) are survived; figures that are still
        the same are not told again.
        """
        request = performance_service_pb2.WatchPerformanceRequest(
            accounts=accounts,
            book=book,
            instrument=instrument,
            day_rule=_rule(day_rule),
            min_interval=Duration(),
            heartbeat=Duration(),
        )
        request.min_interval.FromTimedelta(min_interval)
        request.heartbeat.FromTimedelta(heartbeat)
        set_word(request, "basis", word=basis)
        told: list[WatchedPerformance] = []
        return resumed(lambda: self._one_performance(request, told, silence_s=3 * heartbeat.total_seconds()))

    async def _one_performance(
        self,
        request: performance_service_pb2.WatchPerformanceRequest,
        told: list[WatchedPerformance],
        *,
        silence_s: float,
    ) -> AsyncGenerator[WatchedPerformance, None]:
        """One stream; what the stream before it told last is left out."""
        call = self._performance.WatchPerformance(request, metadata=self._metadata)
        async with aclosing(heard(call, silence_s=silence_s)) as messages:
            async for message in messages:
                if message.WhichOneof("message") != "figures":
                    continue
                figures = record_of(WatchedPerformance, message.figures)
                if told and replace(figures, cause=told[0].cause) == told[0]:
                    continue
                told[:] = [figures]
                yield figures


def _date(day: date | None) -> Date | None:
    return None if day is None else Date(year=day.year, month=day.month, day=day.day)


def _rule(rule: DayRule | None) -> admin_pb2.DayRule | None:
    return None if rule is None else message_of(admin_pb2.DayRule, rule)
