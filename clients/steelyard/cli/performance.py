"""`steelyard perf`: how trading went, by day, week or any range, grouped, and as it changes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, TypeVar

import typer

from steelyard.cli import performance_tables, tables
from steelyard.cli.questions import AccountsOption
from steelyard.cli.session import SERVER_DEFAULT, JsonOption, ServerOption, ask, fail, json_line, screen, tell
from steelyard.client import (
    CalendarDay,
    DailyPerformance,
    DayRule,
    EquityCurvePoints,
    PerformanceBasis,
    PerformanceGrouping,
    RangePerformance,
    SessionDay,
    Steelyard,
    WeeklyPerformance,
)

W = TypeVar("W", bound=StrEnum)

DAYS_DEFAULT = 30
"""Trading days up to today that are grouped unless a range is said."""
_DAY = timedelta(days=1)

_DAYS = ["%Y-%m-%d"]
DayOption = Annotated[datetime | None, typer.Option("--day", formats=_DAYS, help="The trading day; today without it.")]
FirstOption = Annotated[datetime | None, typer.Option("--from", formats=_DAYS, help="The first day of a range.")]
LastOption = Annotated[datetime | None, typer.Option("--to", formats=_DAYS, help="Its last day; today without it.")]
WeekOption = Annotated[bool, typer.Option("--week", help="The week of that day, Monday to Monday.")]
ByOption = Annotated[
    str,
    typer.Option(
        "--by",
        help="Grouped by day, week, month, weekday, hour, instrument, book, direction or label=NAME; "
        f"of the last {DAYS_DEFAULT} days unless a day, a week or a range is said.",
    ),
]
LabelOption = Annotated[list[str] | None, typer.Option("--label", help="Only positions with this, name=value.")]
GrossOption = Annotated[bool, typer.Option("--gross", help="Won and lost by price alone, without fees.")]
CurveOption = Annotated[bool, typer.Option("--curve", help="The running sum of results, trip by trip.")]
ZoneOption = Annotated[str, typer.Option("--zone", help="IANA zone whose days count.")]
SessionOption = Annotated[str, typer.Option("--session", help="Days end at this local time, HH:MM.")]
InstrumentsOption = Annotated[
    list[str] | None, typer.Option("--instrument", "-i", help="Only this instrument; may be repeated.")
]
BooksOption = Annotated[list[str] | None, typer.Option("--book", "-b", help="Only this book; may be repeated.")]
WatchOption = Annotated[bool, typer.Option("--watch", help="Again whenever they change, until Ctrl-C.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What is asked for."""

    accounts: Sequence[str]
    books: Sequence[str]
    instruments: Sequence[str]
    labels: Sequence[str]
    rule: DayRule | None
    basis: PerformanceBasis
    day: date | None
    is_week: bool
    first: date | None
    last: date | None
    by: PerformanceGrouping | None
    label_name: str
    curve: EquityCurvePoints | None

    @property
    def is_range(self) -> bool:
        """Whether the plain answer about a day or a week does not do."""
        return any((self.by, self.curve, self.first, self.last, self.labels)) or self.has_many

    @property
    def has_many(self) -> bool:
        """Whether more than one book or instrument is named."""
        return len(self.books) > 1 or len(self.instruments) > 1


def perf(
    account: AccountsOption = None,
    day: DayOption = None,
    week: WeekOption = False,
    first: FirstOption = None,
    last: LastOption = None,
    by: ByOption = "",
    label: LabelOption = None,
    gross: GrossOption = False,
    curve: CurveOption = False,
    zone: ZoneOption = "",
    session: SessionOption = "",
    instrument: InstrumentsOption = None,
    book: BooksOption = None,
    is_watching: WatchOption = False,
    server: ServerOption = SERVER_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """How trading went: completed round trips of a day, a week or any range, with everything there is to say."""
    grouping, label_name = _grouping(by)
    wishes = Wishes(
        accounts=account or (),
        books=book or (),
        instruments=instrument or (),
        labels=label or (),
        rule=_day_rule(zone=zone, session=session),
        basis=PerformanceBasis.GROSS if gross else PerformanceBasis.NET,
        day=_date(day),
        is_week=week,
        first=_date(first),
        last=_date(last),
        by=grouping,
        label_name=label_name,
        curve=EquityCurvePoints.PER_TRIP if curve else None,
    )
    _check(wishes, is_watching=is_watching)
    _answer(server, wishes, by=by, is_watching=is_watching, as_json=as_json)


def _answer(server: str, wishes: Wishes, *, by: str, is_watching: bool, as_json: bool) -> None:
    if is_watching:
        ask(server, lambda steelyard: _watch(steelyard, wishes, as_json=as_json))
    elif wishes.is_range:
        found = ask(server, lambda steelyard: _range(steelyard, wishes))
        tell(found, as_json=as_json, table=lambda: performance_tables.range_view(found, by=by))
    else:
        one = ask(server, lambda steelyard: _one(steelyard, wishes))
        rows = [(_day_of(one).isoformat(), figures) for figures in one.currencies]
        tell(one, as_json=as_json, table=lambda: tables.performance_table(rows, first="day"))


async def _one(steelyard: Steelyard, wishes: Wishes) -> DailyPerformance | WeeklyPerformance:
    question = steelyard.get_weekly_performance if wishes.is_week else steelyard.get_daily_performance
    return await question(
        wishes.accounts,
        day=wishes.day,
        day_rule=wishes.rule,
        book=_only(wishes.books),
        instrument=_only(wishes.instruments),
        basis=wishes.basis,
    )


async def _range(steelyard: Steelyard, wishes: Wishes) -> RangePerformance:
    return await steelyard.get_performance(
        wishes.accounts,
        days=await _days(steelyard, wishes),
        grouping=wishes.by,
        label_name=wishes.label_name,
        basis=wishes.basis,
        equity_curve=wishes.curve,
        day_rule=wishes.rule,
        books=wishes.books,
        instruments=wishes.instruments,
        labels=wishes.labels,
    )


async def _days(steelyard: Steelyard, wishes: Wishes) -> tuple[date, date]:
    """The first day of the range and the first day after it; what today is, the service says."""
    if wishes.first is not None and wishes.last is not None:
        return wishes.first, wishes.last + _DAY
    day = wishes.day or wishes.last
    if day is None:
        today = await steelyard.get_daily_performance(wishes.accounts, day_rule=wishes.rule)
        day = today.day
    if wishes.first is not None:
        return wishes.first, day + _DAY
    if wishes.is_week:
        monday = day - day.weekday() * _DAY
        return monday, monday + 7 * _DAY
    return (day if wishes.day is not None else day - (DAYS_DEFAULT - 1) * _DAY), day + _DAY


async def _watch(steelyard: Steelyard, wishes: Wishes, *, as_json: bool) -> None:
    watched = steelyard.watch_performance(
        wishes.accounts,
        day_rule=wishes.rule,
        book=_only(wishes.books),
        instrument=_only(wishes.instruments),
        basis=wishes.basis,
    )
    async with aclosing(watched) as changes:
        async for figures in changes:
            if as_json:
                print(json_line(figures), flush=True)
            else:
                screen.print(performance_tables.watched_view(figures))


def _check(wishes: Wishes, *, is_watching: bool) -> None:
    if (wishes.first or wishes.last) and (wishes.day or wishes.is_week):
        fail("--from and --to exclude --day and --week")
    if not is_watching:
        return
    if wishes.is_range or wishes.day or wishes.is_week:
        fail("--watch tells today and this week: it takes no range, no groups, and one book and instrument at most")
    if not wishes.accounts:
        fail("--watch needs an --account")


def _grouping(text: str) -> tuple[PerformanceGrouping | None, str]:
    word, _, label_name = text.partition("=")
    if not word:
        return None, ""
    try:
        grouping = PerformanceGrouping(word.upper())
    except ValueError:
        fail(f"--by: {word!r} is none of {', '.join(one.lower() for one in PerformanceGrouping)}")
    if bool(label_name) != (grouping is PerformanceGrouping.LABEL):
        fail("--by: a label is grouped by its name, as in label=strategy; nothing else takes one")
    return grouping, label_name


def _day_rule(*, zone: str, session: str) -> DayRule | None:
    if session:
        return DayRule(session=SessionDay(close_time=session, time_zone=zone))
    return DayRule(calendar=CalendarDay(time_zone=zone)) if zone else None


def _day_of(found: DailyPerformance | WeeklyPerformance) -> date:
    return found.day if isinstance(found, DailyPerformance) else found.week_start_day


def _date(at: datetime | None) -> date | None:
    return None if at is None else at.date()


def _only(names: Sequence[str]) -> str:
    return names[0] if names else ""
