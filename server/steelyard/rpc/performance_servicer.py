"""PerformanceService. Each method: check -> call the operation -> translate -> fill the answer."""

from __future__ import annotations

from typing import TypeAlias

from steelyard.accounting.performance import Performance
from steelyard.operations.read_performance import PerformanceAnswers, PerformanceFilter, funding_of
from steelyard.rpc import decode, encode
from steelyard.rpc.calls import Context
from steelyard.rpc.day_rules import day_rule, encode_day_rule
from steelyard.rpc.header import freshness, read_header
from steelyard.v1 import performance_pb2, performance_service_pb2, performance_service_pb2_grpc

AnyRequest: TypeAlias = (
    performance_service_pb2.GetDailyPerformanceRequest | performance_service_pb2.GetWeeklyPerformanceRequest
)


class PerformanceServicer(performance_service_pb2_grpc.PerformanceServiceServicer):
    """How trading went."""

    def __init__(self, *, read: PerformanceAnswers) -> None:
        self._read = read

    async def GetDailyPerformance(
        self, request: performance_service_pb2.GetDailyPerformanceRequest, context: Context
    ) -> performance_service_pb2.GetDailyPerformanceResponse:
        """One trading day."""
        answer = await self._read.daily(_filter(request), freshness=freshness(request.min_commit, context))
        read = answer.value
        return performance_service_pb2.GetDailyPerformanceResponse(
            header=read_header(answer.seen),
            day=encode.calendar_date(read.day),
            day_rule=encode_day_rule(read.day_rule),
            interval_start_at=encode.timestamp(read.started_at),
            interval_end_at=encode.timestamp(read.ended_at),
            currencies=[_performance(each) for each in read.currencies.values()],
        )

    async def GetWeeklyPerformance(
        self, request: performance_service_pb2.GetWeeklyPerformanceRequest, context: Context
    ) -> performance_service_pb2.GetWeeklyPerformanceResponse:
        """One trading week, Monday to Monday."""
        answer = await self._read.weekly(_filter(request), freshness=freshness(request.min_commit, context))
        read = answer.value
        return performance_service_pb2.GetWeeklyPerformanceResponse(
            header=read_header(answer.seen),
            week_start_day=encode.calendar_date(read.day),
            day_rule=encode_day_rule(read.day_rule),
            interval_start_at=encode.timestamp(read.started_at),
            interval_end_at=encode.timestamp(read.ended_at),
            currencies=[_performance(each) for each in read.currencies.values()],
        )


def _filter(request: AnyRequest) -> PerformanceFilter:
    return PerformanceFilter(
        accounts=decode.accounts(request.accounts),
        book=decode.optional_book(request.book),
        instrument=decode.optional_instrument(request.instrument),
        day=decode.calendar_date(request.day, field="day") if request.HasField("day") else None,
        day_rule=day_rule(request.day_rule) if request.HasField("day_rule") else None,
    )


def _performance(figures: Performance) -> performance_pb2.Performance:
    return performance_pb2.Performance(
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
