"""Any range of completed round trips measured by the database: streaks and drawdown by windows, groups by cuts.

A year may hold a million trips, so they are counted where they lie, slice by slice in order of closing: the windows run
beside that pass and what it returns is as large as the answer. Where groups follow each other in time, the figures of
all are theirs joined, and the trips are gone through once. All arithmetic is exact, in NUMERIC and whole microseconds;
averages and ratios are made of the sums afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, Text, case, func, literal, select
from sqlalchemy import Interval as Span
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import Grouping
from sqlalchemy.sql.selectable import Subquery
from sqlalchemy.types import Integer

from steelyard.accounting.performance import (
    ExtendedPerformance,
    ExtendedSums,
    HoldTime,
    Performance,
    extended_of_sums,
    hold_time_of,
    performance_of_sums,
)
from steelyard.accounting.round_trips import Direction
from steelyard.accounting.trading_calendar import Interval
from steelyard.operations.performance_ranges import (
    CURVE_POINTS_MAX,
    ByColumn,
    ByHour,
    ByLabel,
    ByPeriods,
    CurvePoints,
    Curves,
    Cut,
    EquityCurve,
    EquityPoint,
    Figures,
    GroupKey,
    check_count,
)
from steelyard.storage.performance_slices import joined, slices_of
from steelyard.storage.tables import instruments, positions, round_trips

T, RECORD, P = round_trips.c, instruments.c, positions.c
ROWS_MAX = 20_000
"""Groups times currencies that are fetched at most; beyond that there are too many groups in any case."""
Rows = dict[GroupKey, dict[str, Mapping[str, Any]]]
"""Rows of figures by group and settle currency."""
_ORDER = ("closed_at", "opened_at", "opened_entry_id", "account", "trip_id")
_MOMENTS, _SPANS, _NUMBERS = ARRAY(TIMESTAMP(timezone=True)), ARRAY(Span()), ARRAY(Integer())
_UTC = "UTC"


def needs_labels(cut: Cut | None) -> bool:
    """Whether trips are cut by what stands in their positions."""
    return isinstance(cut, ByLabel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trips:
    """The completed trips of a question."""

    source: FromClause
    conditions: Sequence[ColumnElement[bool]]
    """Which trips are meant, but for when they closed."""
    interval: Interval
    """When they closed."""
    gross: ColumnElement[Any]
    result: ColumnElement[Any]
    """What decides over win and loss."""
    cut: Cut | None

    async def measured(self, connection: AsyncConnection) -> tuple[Figures, Sequence[tuple[GroupKey, Figures]]]:
        """The figures of all of them, and those of each group in order of their keys, the one without a key last.

        Raises `InvalidField` where there are more groups than may be answered.
        """
        count = select(func.count()).select_from(self.source).where(*self._closed_in(self.interval))
        trips = (await connection.execute(count)).scalar_one()
        if self.cut is None:
            whole = await self._gathered(connection, slices_of(self.interval, trips=trips), key=literal(0))
            return _figures_of(whole.get(0, {})), []
        are_many = not isinstance(self.cut, ByPeriods)
        slices = slices_of(self.interval, trips=trips, have_many_groups=are_many)
        found = await self._gathered(connection, slices, key=_key(self.cut))
        keys = sorted(found, key=lambda key: (key is None, key))
        if _follow_each_other(self.cut):
            whole = {}
            for key in keys:
                for row in found[key].values():
                    _put(whole, row, key=0)
        else:
            whole = await self._gathered(connection, slices, key=literal(0))
        return _figures_of(whole.get(0, {})), [(key, _figures_of(found[key])) for key in keys]

    async def _gathered(
        self, connection: AsyncConnection, slices: Sequence[Interval], *, key: ColumnElement[Any]
    ) -> Rows:
        """The figures of each group and currency, joined from slices that follow each other."""
        found: Rows = {}
        for each in slices:
            statement = self._figures(key, each).limit(ROWS_MAX)
            for row in (await connection.execute(statement)).mappings():
                _put(found, row, key=row["key"])
            check_count(len(found))
        return found

    def _closed_in(self, interval: Interval) -> Sequence[ColumnElement[bool]]:
        return [*self.conditions, T.closed_at >= interval[0], T.closed_at < interval[1]]

    async def curves(self, connection: AsyncConnection, points: CurvePoints) -> Curves:
        """The running sum of results of each currency, at the points asked for."""
        rows = (await connection.execute(self._points(points))).mappings().all()
        found: dict[str, list[EquityPoint]] = {}
        strides: dict[str, int] = {}
        for row in rows:
            point = EquityPoint(row["closed_at"], row["running"], row["depth"], row["place"])
            found.setdefault(row["currency"], []).append(point)
            strides[row["currency"]] = row["stride"] if points is CurvePoints.TRIP else 0
        return {currency: EquityCurve(of_it, strides[currency]) for currency, of_it in found.items()}

    def _run_through(
        self, key: ColumnElement[Any], interval: Interval, *, more: Mapping[str, ColumnElement[Any]]
    ) -> Subquery:
        """Every trip of an interval: its place in its group, the running sum up to it, and what else is wanted."""
        trips = (
            select(
                RECORD.settle_currency.label("currency"),
                key.label("key"),
                *(T[name] for name in _ORDER),
                self.result.label("result"),
                *(column.label(name) for name, column in more.items()),
            )
            .select_from(self.source)
            .where(*self._closed_in(interval))
            .subquery("trips")
        )
        through = _window(trips)
        place = func.row_number().over(**through)
        running = func.sum(trips.c.result).over(**through)
        return select(trips, place.label("place"), running.label("running")).subquery("runs")

    def _figures(self, key: ColumnElement[Any], interval: Interval) -> Select[Any]:
        more = {
            "direction": T.direction,
            "gross": self.gross,
            "fees": T.fees,
            "funding": T.funding,
            "has_all": T.unvalued_fees.is_(None),
            "held": T.closed_at - T.opened_at,
        }
        runs = self._run_through(key, interval, more=more)
        through = _window(runs)
        # How many trips ago the last one was that ended a run; before the first one, all of them.
        no_win = func.max(case((runs.c.result <= 0, runs.c.place))).over(**through)
        no_loss = func.max(case((runs.c.result >= 0, runs.c.place))).over(**through)
        trips = select(
            runs,
            _depth(runs).label("depth"),
            (runs.c.place - func.coalesce(no_win, 0)).label("wins"),
            (runs.c.place - func.coalesce(no_loss, 0)).label("losses"),
        ).subquery("measured")
        return _aggregated(trips.c)

    def _points(self, points: CurvePoints) -> Select[Any]:
        key: ColumnElement[Any] = literal(0)
        if points is CurvePoints.GROUP:
            assert self.cut is not None
            key = _key(self.cut)
        # One curve runs through all groups: they are not what it is parted by.
        runs = self._run_through(literal(0), self.interval, more={"group": key})
        through = _window(runs)
        everything = {**through, "rows": (None, None)}
        of_all = func.count().over(**everything)
        following = func.lead(runs.c.group).over(partition_by=through["partition_by"], order_by=through["order_by"])
        curve = select(
            *(runs.c[name] for name in ("currency", "closed_at", "running", "place")),
            _depth(runs).label("depth"),
            of_all.label("count"),
            following.label("next"),
            runs.c.group,
            ((of_all + CURVE_POINTS_MAX - 1) // CURVE_POINTS_MAX).label("stride"),
        ).subquery("curve")
        is_last = curve.c.place == curve.c.count
        if points is CurvePoints.GROUP:
            is_point = is_last | curve.c.next.is_distinct_from(curve.c.group)
        else:
            is_point = is_last | (curve.c.place % curve.c.stride == 0)
        return select(curve).where(is_point).order_by(curve.c.currency, curve.c.place)


def _put(found: Rows, row: Mapping[str, Any], *, key: GroupKey) -> None:
    """Joins the figures of a later slice to those that are known of its group."""
    known, currency = found.setdefault(key, {}), row["currency"]
    known[currency] = joined(known[currency], row) if currency in known else row


def _figures_of(rows: Mapping[str, Mapping[str, Any]]) -> Figures:
    return {currency: _extended(rows[currency]) for currency in sorted(rows)}


def _follow_each_other(cut: Cut) -> bool:
    """Whether groups are stretches of time in order of their keys."""
    return isinstance(cut, ByPeriods) and list(cut.numbers) == sorted(set(cut.numbers))


def _window(trips: Subquery) -> dict[str, Any]:
    """All trips of a group up to this one, in order of closing."""
    return {
        "partition_by": [trips.c.currency, trips.c.key],
        "order_by": [trips.c[name] for name in _ORDER],
        "rows": (None, 0),
    }


def _depth(runs: Subquery) -> ColumnElement[Any]:
    """How far the running sum lies below its highest point so far, which is at least where it began."""
    highest = func.max(runs.c.running).over(**_window(runs))
    depth: ColumnElement[Any] = func.greatest(highest, 0) - runs.c.running
    return depth


def _aggregated(trip: Any) -> Select[Any]:
    won, lost = trip.result > 0, trip.result < 0
    columns: list[ColumnElement[Any]] = [trip.currency, trip.key]
    for name, chosen in (
        ("all", trip.currency.is_not(None)),
        ("long", trip.direction == Direction.LONG.value),
        ("short", trip.direction == Direction.SHORT.value),
    ):
        columns += [
            func.count().filter(chosen).label(f"{name}_total"),
            func.count().filter(chosen, won).label(f"{name}_winning"),
            func.count().filter(chosen, lost).label(f"{name}_losing"),
            *(
                func.coalesce(func.sum(trip[each]).filter(chosen), 0).label(f"{name}_{each}")
                for each in ("gross", "fees", "funding")
            ),
            func.coalesce(func.bool_and(trip.has_all).filter(chosen), True).label(f"{name}_fees_complete"),
        ]
    for name, which in (("all", trip.currency.is_not(None)), ("won", won), ("lost", lost)):
        columns += [
            func.sum(trip.held).filter(which).label(f"{name}_held"),
            func.min(trip.held).filter(which).label(f"{name}_shortest"),
            func.max(trip.held).filter(which).label(f"{name}_longest"),
        ]
    columns += [
        func.coalesce(func.sum(trip.result).filter(won), 0).label("won"),
        func.coalesce(func.sum(trip.result).filter(lost), 0).label("lost"),
        func.max(trip.result).filter(won).label("largest_win"),
        func.min(trip.result).filter(lost).label("largest_loss"),
        func.max(trip.wins).label("longest_wins"),
        func.max(trip.losses).label("longest_losses"),
        func.max(trip.depth).label("drawdown"),
        func.max(trip.running).label("highest"),
        func.min(trip.running).label("lowest"),
    ]
    columns += _ends(trip)
    return select(*columns).group_by(trip.currency, trip.key).order_by(trip.key.nulls_last(), trip.currency)


def _ends(trip: Any) -> Sequence[ColumnElement[Any]]:
    """How many wins, and how many losses, a group begins and ends with: all, where nothing ends the run."""
    columns: list[ColumnElement[Any]] = []
    for name, ends in (("wins", trip.result <= 0), ("losses", trip.result >= 0)):
        columns += [
            func.coalesce(func.min(trip.place).filter(ends) - 1, func.count()).label(f"leading_{name}"),
            (func.count() - func.coalesce(func.max(trip.place).filter(ends), 0)).label(f"trailing_{name}"),
        ]
    return columns


def _key(cut: Cut) -> ColumnElement[Any]:
    """What the trips of a group have in common."""
    match cut:
        case ByPeriods(starts, numbers):
            place = func.width_bucket(T.closed_at, literal(list(starts), _MOMENTS))
            return _at(literal(list(numbers), _NUMBERS), place)
        case ByHour(shifts):
            since = literal([shift.since for shift in shifts], _MOMENTS)
            offset = _at(literal([shift.offset for shift in shifts], _SPANS), func.width_bucket(T.closed_at, since))
            wall_clock = func.timezone(_UTC, T.closed_at) + offset
            return sql_cast(func.extract("hour", wall_clock), Integer)
        case ByColumn(column):
            return sql_cast(T[column], Text)
        case ByLabel(name):
            return P.labels.op("->>")(name)


def _at(array: ColumnElement[Any], place: ColumnElement[Any]) -> ColumnElement[Any]:
    """The element of an array parameter, which PostgreSQL wants in brackets before it is asked for one of its parts."""
    element: ColumnElement[Any] = Grouping(array)[place]
    return element


def _extended(row: Any) -> ExtendedPerformance:
    plain = _plain(row, "all")
    return extended_of_sums(
        ExtendedSums(
            plain=plain,
            long=_plain(row, "long"),
            short=_plain(row, "short"),
            hold_time=_held(row, "all", sample=plain.total),
            winning_hold_time=_held(row, "won", sample=plain.winning),
            losing_hold_time=_held(row, "lost", sample=plain.losing),
            **{
                name: row[name]
                for name in (
                    *("won", "lost", "largest_win", "largest_loss"),
                    *("longest_wins", "longest_losses", "drawdown"),
                )
            },
        )
    )


def _plain(row: Any, which: str) -> Performance:
    names = ("total", "winning", "losing", "gross", "fees", "funding", "fees_complete")
    return performance_of_sums(row["currency"], **{name: row[f"{which}_{name}"] for name in names})


def _held(row: Any, which: str, *, sample: int) -> HoldTime:
    return hold_time_of(
        row[f"{which}_held"], shortest=row[f"{which}_shortest"], longest=row[f"{which}_longest"], sample=sample
    )
