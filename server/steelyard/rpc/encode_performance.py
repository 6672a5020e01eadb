"""How trading went, as the contract tells it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration

from steelyard.accounting.performance import (
    ExtendedPerformance,
    HoldTime,
    Performance,
    Sampled,
    Streak,
    no_trips,
    performance_of_sums,
)
from steelyard.operations.performance_ranges import EquityCurve, Figures, Group
from steelyard.operations.read_performance import funding_of
from steelyard.operations.watch_performance import Cause, PerformanceMessage, Silence, WatchedFigures
from steelyard.rpc import encode
from steelyard.rpc.day_rules import encode_day_rule
from steelyard.rpc.header import read_header, write_header
from steelyard.v1 import performance_pb2 as wire
from steelyard.v1 import performance_service_pb2 as service

CAUSES = {
    Cause.BEGIN: service.PERFORMANCE_CHANGE_CAUSE_BEGIN,
    Cause.TRIPS: service.PERFORMANCE_CHANGE_CAUSE_TRIPS,
    Cause.NEW_DAY: service.PERFORMANCE_CHANGE_CAUSE_NEW_DAY,
}


def currencies(figures: Mapping[str, Performance], asked: Collection[str] = ()) -> list[wire.Performance]:
    """The plain figures of all currencies, or of those asked for, zeros where nothing was completed."""
    names = asked or figures
    return [performance(figures.get(name) or performance_of_sums(name)) for name in names]


def extended_currencies(figures: Figures, asked: Collection[str] = ()) -> list[wire.ExtendedPerformance]:
    """The same of the extended figures."""
    return [extended(figures.get(name) or no_trips(name)) for name in asked or figures]


def performance(figures: Performance) -> wire.Performance:
    """The plain figures of one currency."""
    return wire.Performance(
        settle_currency=figures.currency,
        net_pnl=encode.money(figures.net),
        gross_pnl=encode.money(figures.gross),
        fees=encode.money(figures.fees),
        funding=encode.money(funding_of(figures)),
        total_trades=figures.total,
        winning_trades=figures.winning,
        losing_trades=figures.losing,
        scratch_trades=figures.scratch,
        win_rate=encode.decimal(figures.win_rate),
        fees_complete=figures.fees_complete,
    )


def extended(figures: ExtendedPerformance) -> wire.ExtendedPerformance:
    """The extended figures of one currency."""
    return wire.ExtendedPerformance(
        plain=performance(figures.plain),
        profit_factor=_sampled(figures.profit_factor),
        expectancy=_sampled(figures.expectancy),
        average_win=_sampled(figures.average_win),
        average_loss=_sampled(figures.average_loss),
        largest_win=_sampled(figures.largest_win),
        largest_loss=_sampled(figures.largest_loss),
        hold_time=_hold_time(figures.hold_time),
        winning_hold_time=_hold_time(figures.winning_hold_time),
        losing_hold_time=_hold_time(figures.losing_hold_time),
        long=performance(figures.long),
        short=performance(figures.short),
        longest_winning_streak=_streak(figures.longest_winning_streak),
        longest_losing_streak=_streak(figures.longest_losing_streak),
        max_drawdown=_sampled(figures.max_drawdown),
    )


def groups(found: Iterable[Group], asked: Collection[str] = ()) -> list[wire.PerformanceGroup]:
    """Groups; of those currencies only that were asked for, and no group without any of them."""
    told = []
    for group in found:
        figures = {name: each for name, each in group.currencies.items() if not asked or name in asked}
        if not figures:
            continue
        told.append(
            wire.PerformanceGroup(
                name=group.name,
                day=None if group.first_day is None else encode.calendar_date(group.first_day),
                interval_start_at=encode.optional_timestamp(group.started_at),
                interval_end_at=encode.optional_timestamp(group.ended_at),
                currencies=extended_currencies(figures),
            )
        )
    return told


def curves(found: Mapping[str, EquityCurve], asked: Collection[str] = ()) -> list[wire.EquityCurve]:
    """Equity curves, of those currencies only that were asked for."""
    return [
        wire.EquityCurve(
            settle_currency=currency,
            points=[
                wire.EquityPoint(
                    closed_at=encode.timestamp(point.closed_at),
                    equity_pnl=encode.money(point.equity),
                    drawdown_pnl=encode.money(point.drawdown),
                    total_trades=point.total,
                )
                for point in curve.points
            ],
            trades_per_point=curve.trips_per_point,
        )
        for currency, curve in found.items()
        if not asked or currency in asked
    ]


def watch_message(told: PerformanceMessage, *, now: datetime) -> service.WatchPerformanceResponse:
    """One message of a watch."""
    if isinstance(told, Silence):
        answer = service.WatchPerformanceResponse(header=write_header((), at=now))
        getattr(answer, told.value.lower()).SetInParent()
        return answer
    return service.WatchPerformanceResponse(header=read_header(told.week.seen), figures=_watched(told))


def _watched(told: WatchedFigures) -> service.WatchPerformanceFigures:
    day, week = told.day.value, told.week.value
    return service.WatchPerformanceFigures(
        cause=CAUSES[told.cause],
        day_rule=encode_day_rule(day.day_rule),
        day=encode.calendar_date(day.day),
        day_start_at=encode.timestamp(day.started_at),
        day_end_at=encode.timestamp(day.ended_at),
        day_currencies=currencies(day.currencies),
        week_start_day=encode.calendar_date(week.day),
        week_start_at=encode.timestamp(week.started_at),
        week_end_at=encode.timestamp(week.ended_at),
        week_currencies=currencies(week.currencies),
    )


def _sampled(figure: Sampled) -> wire.SampledFigure:
    return wire.SampledFigure(value=encode.optional_money(figure.value), sample=figure.sample)


def _hold_time(held: HoldTime) -> wire.HoldTime:
    return wire.HoldTime(
        average=_duration(held.average),
        shortest=_duration(held.shortest),
        longest=_duration(held.longest),
        sample=held.sample,
    )


def _streak(streak: Streak) -> wire.PerformanceStreak:
    return wire.PerformanceStreak(length=streak.length, sample=streak.sample)


def _duration(held: timedelta | None) -> Duration | None:
    if held is None:
        return None
    told = Duration()
    told.FromTimedelta(held)
    return told
