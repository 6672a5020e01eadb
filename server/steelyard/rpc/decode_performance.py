"""Questions of how trading went, as the operations take them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import TypeAlias

from steelyard.accounting.errors import InvalidField
from steelyard.accounting.performance import Basis
from steelyard.accounting.trading_calendar import DayRule
from steelyard.operations.performance_ranges import CurvePoints, Grouping, RangeQuestion, TripScope
from steelyard.operations.read_performance import PerformanceFilter
from steelyard.operations.watch_performance import PerformanceWatchRequest
from steelyard.rpc import decode, limits, watching
from steelyard.rpc.day_rules import day_rule
from steelyard.v1 import performance_pb2 as figures
from steelyard.v1 import performance_service_pb2 as wire

DayOrWeekRequest: TypeAlias = wire.GetDailyPerformanceRequest | wire.GetWeeklyPerformanceRequest

BASES: Mapping[int, Basis] = {
    figures.PERFORMANCE_BASIS_UNSPECIFIED: Basis.NET,
    figures.PERFORMANCE_BASIS_NET: Basis.NET,
    figures.PERFORMANCE_BASIS_GROSS: Basis.GROSS,
}
GROUPINGS: Mapping[int, Grouping] = {
    figures.PERFORMANCE_GROUPING_DAY: Grouping.DAY,
    figures.PERFORMANCE_GROUPING_WEEK: Grouping.WEEK,
    figures.PERFORMANCE_GROUPING_MONTH: Grouping.MONTH,
    figures.PERFORMANCE_GROUPING_WEEKDAY: Grouping.WEEKDAY,
    figures.PERFORMANCE_GROUPING_HOUR: Grouping.HOUR,
    figures.PERFORMANCE_GROUPING_INSTRUMENT: Grouping.INSTRUMENT,
    figures.PERFORMANCE_GROUPING_BOOK: Grouping.BOOK,
    figures.PERFORMANCE_GROUPING_DIRECTION: Grouping.DIRECTION,
    figures.PERFORMANCE_GROUPING_LABEL: Grouping.LABEL,
}
CURVES: Mapping[int, CurvePoints] = {
    figures.EQUITY_CURVE_POINTS_PER_GROUP: CurvePoints.GROUP,
    figures.EQUITY_CURVE_POINTS_PER_TRIP: CurvePoints.TRIP,
}
_BY_TIME = (Grouping.DAY, Grouping.WEEK, Grouping.MONTH)
WATCHED_ACCOUNTS_MAX = 100


def day_or_week(request: DayOrWeekRequest) -> PerformanceFilter:
    """Whose day or week is asked for. Raises `InvalidField`."""
    return PerformanceFilter(
        accounts=decode.accounts(request.accounts),
        book=decode.optional_book(request.book),
        instrument=decode.optional_instrument(request.instrument),
        day=decode.calendar_date(request.day, field="day") if request.HasField("day") else None,
        day_rule=_rule(request),
        basis=decode.choice(request.basis, BASES, field="basis"),
    )


def range_question(request: wire.GetPerformanceRequest) -> RangeQuestion:
    """What range is asked for, and what of it. Raises `InvalidField`."""
    days, instants = _days(request), _instants(request)
    if (days is None) == (instants is None):
        raise InvalidField("day_from", "give either day_from and day_before, or closed_from and closed_before")
    grouping = None if not request.grouping else decode.choice(request.grouping, GROUPINGS, field="grouping")
    curve = None if not request.equity_curve else decode.choice(request.equity_curve, CURVES, field="equity_curve")
    if curve is CurvePoints.GROUP and grouping not in _BY_TIME:
        raise InvalidField("equity_curve", "has points per group only where days, weeks or months are grouped")
    if bool(request.label_name) != (grouping is Grouping.LABEL):
        raise InvalidField("label_name", "is required where a label is grouped by, and has no meaning elsewhere")
    return RangeQuestion(
        scope=_scope(request),
        days=days,
        instants=instants,
        day_rule=_rule(request),
        grouping=grouping,
        label_name=decode.printable(request.label_name, limits.LABEL_NAME_MAX, field="label_name"),
        curve=curve,
    )


def watch_request(request: wire.WatchPerformanceRequest) -> PerformanceWatchRequest:
    """What is to be watched. Raises `InvalidField`."""
    decode.at_most(request.accounts, WATCHED_ACCOUNTS_MAX, field="accounts")
    if not request.accounts:
        raise InvalidField("accounts", "is required")
    return PerformanceWatchRequest(
        filter=PerformanceFilter(
            accounts=decode.accounts(request.accounts),
            book=decode.optional_book(request.book),
            instrument=decode.optional_instrument(request.instrument),
            day_rule=_rule(request),
            basis=decode.choice(request.basis, BASES, field="basis"),
        ),
        min_interval_s=watching.seconds(request, "min_interval", default=0.5, bounds=(0.1, 60.0)),
        heartbeat_s=watching.seconds(request, "heartbeat", default=10.0, bounds=(1.0, 300.0)),
    )


def _scope(request: wire.GetPerformanceRequest) -> TripScope:
    decode.at_most(request.books, limits.BATCH_KEYS_MAX, field="books")
    return TripScope(
        accounts=decode.accounts(request.accounts),
        books=tuple(sorted({decode.book(text, field=f"books[{at}]") for at, text in enumerate(request.books)})),
        instruments=decode.instruments(request.instruments),
        labels=decode.label_filter(request.labels),
        basis=decode.choice(request.basis, BASES, field="basis"),
    )


def _rule(
    request: DayOrWeekRequest | wire.GetPerformanceRequest | wire.WatchPerformanceRequest,
) -> DayRule | None:
    return day_rule(request.day_rule) if request.HasField("day_rule") else None


def _days(request: wire.GetPerformanceRequest) -> tuple[date, date] | None:
    if not (request.HasField("day_from") or request.HasField("day_before")):
        return None
    for name in ("day_from", "day_before"):
        if not request.HasField(name):
            raise InvalidField(name, "is required where the other is given")
    first = decode.calendar_date(request.day_from, field="day_from")
    return first, decode.calendar_date(request.day_before, field="day_before")


def _instants(request: wire.GetPerformanceRequest) -> tuple[datetime, datetime] | None:
    if not (request.HasField("closed_from") or request.HasField("closed_before")):
        return None
    started_at = decode.required_timestamp(request, "closed_from", field="closed_from")
    return started_at, decode.required_timestamp(request, "closed_before", field="closed_before")
