"""PerformanceService. Each method: check -> call the operation -> translate -> fill the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from steelyard.operations.ports import Clock
from steelyard.operations.read_performance import PerformanceAnswers
from steelyard.operations.watch_performance import WatchPerformance
from steelyard.rpc import decode, decode_performance, encode, encode_performance
from steelyard.rpc.calls import Context
from steelyard.rpc.day_rules import encode_day_rule
from steelyard.rpc.header import freshness, read_header
from steelyard.v1 import performance_service_pb2, performance_service_pb2_grpc


class PerformanceServicer(performance_service_pb2_grpc.PerformanceServiceServicer):
    """How trading went."""

    def __init__(self, *, read: PerformanceAnswers, watch: WatchPerformance, clock: Clock) -> None:
        self._read = read
        self._watch = watch
        self._clock = clock

    async def GetDailyPerformance(
        self, request: performance_service_pb2.GetDailyPerformanceRequest, context: Context
    ) -> performance_service_pb2.GetDailyPerformanceResponse:
        """One trading day."""
        asked = decode.currencies(request.settle_currencies)
        answer = await self._read.daily(
            decode_performance.day_or_week(request), freshness=freshness(request.min_commit, context)
        )
        read = answer.value
        return performance_service_pb2.GetDailyPerformanceResponse(
            header=read_header(answer.seen),
            day=encode.calendar_date(read.day),
            day_rule=encode_day_rule(read.day_rule),
            interval_start_at=encode.timestamp(read.started_at),
            interval_end_at=encode.timestamp(read.ended_at),
            currencies=encode_performance.currencies(read.currencies, asked),
        )

    async def GetWeeklyPerformance(
        self, request: performance_service_pb2.GetWeeklyPerformanceRequest, context: Context
    ) -> performance_service_pb2.GetWeeklyPerformanceResponse:
        """One trading week, Monday to Monday."""
        asked = decode.currencies(request.settle_currencies)
        answer = await self._read.weekly(
            decode_performance.day_or_week(request), freshness=freshness(request.min_commit, context)
        )
        read = answer.value
        return performance_service_pb2.GetWeeklyPerformanceResponse(
            header=read_header(answer.seen),
            week_start_day=encode.calendar_date(read.day),
            day_rule=encode_day_rule(read.day_rule),
            interval_start_at=encode.timestamp(read.started_at),
            interval_end_at=encode.timestamp(read.ended_at),
            currencies=encode_performance.currencies(read.currencies, asked),
        )

    async def GetPerformance(
        self, request: performance_service_pb2.GetPerformanceRequest, context: Context
    ) -> performance_service_pb2.GetPerformanceResponse:
        """Any range of time."""
        asked = decode.currencies(request.settle_currencies)
        answer = await self._read.over(
            decode_performance.range_question(request), freshness=freshness(request.min_commit, context)
        )
        read = answer.value
        return performance_service_pb2.GetPerformanceResponse(
            header=read_header(answer.seen),
            day_rule=encode_day_rule(read.day_rule),
            interval_start_at=encode.timestamp(read.started_at),
            interval_end_at=encode.timestamp(read.ended_at),
            currencies=encode_performance.extended_currencies(read.currencies, asked),
            groups=encode_performance.groups(read.groups, asked),
            equity_curves=encode_performance.curves(read.curves, asked),
        )

    async def WatchPerformance(
        self, request: performance_service_pb2.WatchPerformanceRequest, context: Context
    ) -> AsyncIterator[performance_service_pb2.WatchPerformanceResponse]:
        """Today's and this week's figures, and again whenever they change."""
        wanted = decode_performance.watch_request(request)
        async with aclosing(self._watch.watch(wanted)) as messages:
            async for told in messages:
                yield encode_performance.watch_message(told, now=self._clock())
