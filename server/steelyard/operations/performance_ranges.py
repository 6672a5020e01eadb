"""What is asked of a range of time, and what it is answered with: trips grouped, measured, and drawn as a curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum

from steelyard.accounting.errors import InvalidField
from steelyard.accounting.keys import Account, Book, InstrumentName
from steelyard.accounting.performance import Basis, ExtendedPerformance
from steelyard.accounting.trading_calendar import DayRule, Interval, day_interval
from steelyard.accounting.trading_periods import ClockShift, Length, Period, clock_shifts, periods_of
from steelyard.accounting.units import Money

RANGE_MAX = timedelta(days=3_700)
"""How long a range may be."""
GROUPS_MAX = 1_000
"""Groups of one answer."""
CURVE_POINTS_MAX = 2_000
"""Points of one equity curve by trips; more trips than that share points."""
_WEEKDAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")


@dataclass(frozen=True, slots=True, kw_only=True)
class TripScope:
    """Whose completed round trips are meant, and by which result they have won or lost."""

    accounts: Sequence[Account] = ()
    """None: all; so also books and instruments."""
    books: Sequence[Book] = ()
    instruments: Sequence[InstrumentName] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    """Their positions have all of these now."""
    basis: Basis = Basis.NET


class Grouping(StrEnum):
    """What trips are grouped by; days, weeks, months and weekdays are those of the trading day of the close."""

    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"
    WEEKDAY = "WEEKDAY"
    HOUR = "HOUR"
    """Of the wall clock of the day rule's zone."""
    INSTRUMENT = "INSTRUMENT"
    BOOK = "BOOK"
    DIRECTION = "DIRECTION"
    LABEL = "LABEL"


class CurvePoints(StrEnum):
    """What an equity curve has a point for."""

    GROUP = "GROUP"
    """Each group of a grouping by time."""
    TRIP = "TRIP"


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeQuestion:
    """A range of time, either in trading days or in instants, and what is asked of it."""

    scope: TripScope
    days: tuple[date, date] | None = None
    """The first day, and the first day after the range."""
    instants: Interval | None = None
    day_rule: DayRule | None = None
    """None: the account's own where exactly one is named, else calendar days of America/Chicago."""
    grouping: Grouping | None = None
    label_name: str = ""
    curve: CurvePoints | None = None


@dataclass(frozen=True, slots=True)
class ByPeriods:
    """Trips go by the stretch of time in which they close; stretches of the same number share a group."""

    starts: Sequence[datetime]
    numbers: Sequence[int]


@dataclass(frozen=True, slots=True)
class ByHour:
    """Trips go by the hour that a wall clock shows at their close."""

    shifts: Sequence[ClockShift]


@dataclass(frozen=True, slots=True)
class ByColumn:
    """Trips go by the text of a column of theirs."""

    column: str
    """instrument, book or direction."""


@dataclass(frozen=True, slots=True)
class ByLabel:
    """Trips go by the value of a label of their position."""

    name: str


Cut = ByPeriods | ByHour | ByColumn | ByLabel
"""A grouping in terms a store understands."""
GroupKey = int | str | None
"""The number or the text that the trips of a group have in common."""
Figures = Mapping[str, ExtendedPerformance]
"""By settle currency, sorted; none without completed round trips."""


@dataclass(frozen=True, slots=True)
class EquityPoint:
    """The running sum of results up to a trip, and how far below its highest point it lies."""

    closed_at: datetime
    equity: Money
    drawdown: Money
    total: int
    """Trips up to here."""


@dataclass(frozen=True, slots=True)
class EquityCurve:
    """The curve of one settle currency."""

    points: Sequence[EquityPoint]
    trips_per_point: int
    """0 where points are those of groups."""


Curves = Mapping[str, EquityCurve]
"""By settle currency, sorted."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a store counted."""

    totals: Figures
    groups: Sequence[tuple[GroupKey, Figures]]
    """In order of their keys; the one without a key last."""
    curves: Curves


@dataclass(frozen=True, slots=True)
class Group:
    """Trips that have something in common."""

    name: str | None
    """None: their positions have not the label."""
    first_day: date | None
    """Of days, weeks and months; so also the interval."""
    started_at: datetime | None
    ended_at: datetime | None
    currencies: Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeRead:
    """How a range of time went; the interval is half-open."""

    day_rule: DayRule
    started_at: datetime
    ended_at: datetime
    currencies: Figures
    groups: Sequence[Group]
    curves: Curves


def interval_of(question: RangeQuestion, rule: DayRule) -> Interval:
    """The half-open interval of a range. Raises `InvalidField` for one that ends before it begins or is too long."""
    if question.days is not None:
        first, following = question.days
        field_name, found = "day_before", (day_interval(first, rule)[0], day_interval(following, rule)[0])
    else:
        assert question.instants is not None, "a range has days or instants"
        field_name, found = "closed_before", question.instants
    if found[1] < found[0]:
        raise InvalidField(field_name, "lies before the beginning of the range")
    if found[1] - found[0] > RANGE_MAX:
        raise InvalidField(field_name, f"lies more than {RANGE_MAX.days} days after the beginning of the range")
    return found


class Groups:
    """The groups of a question: how a store cuts them, and what they are called."""

    def __init__(self, question: RangeQuestion, rule: DayRule, *, interval: Interval) -> None:
        """Raises `InvalidField` where there would be more than may be answered."""
        self._grouping = question.grouping
        self._periods: Sequence[Period] = ()
        if self._grouping in (Grouping.DAY, Grouping.WEEK, Grouping.MONTH):
            self._periods = periods_of(interval, rule, length=Length(self._grouping))
            check_count(len(self._periods))
        self.cut = self._cut(question, rule, interval=interval)

    def _cut(self, question: RangeQuestion, rule: DayRule, *, interval: Interval) -> Cut | None:
        match self._grouping:
            case Grouping.DAY | Grouping.WEEK | Grouping.MONTH:
                return ByPeriods([each.started_at for each in self._periods], range(len(self._periods)))
            case Grouping.WEEKDAY:
                days = periods_of(interval, rule, length=Length.DAY)
                return ByPeriods([each.started_at for each in days], [each.first_day.weekday() for each in days])
            case Grouping.HOUR:
                return ByHour(clock_shifts(interval, rule))
            case Grouping.LABEL:
                return ByLabel(question.label_name)
            case None:
                return None
        return ByColumn(self._grouping.value.lower())

    def named(self, key: GroupKey, figures: Figures) -> Group:
        """A group by its key."""
        if self._periods:
            assert isinstance(key, int)
            period = self._periods[key]
            name = period.first_day.isoformat()[: 7 if self._grouping is Grouping.MONTH else 10]
            return Group(name, period.first_day, period.started_at, period.ended_at, figures)
        name_of_key = key
        if isinstance(key, int):
            name_of_key = _WEEKDAYS[key] if self._grouping is Grouping.WEEKDAY else f"{key:02d}"
        assert not isinstance(name_of_key, int)
        return Group(name_of_key, None, None, None, figures)


def check_count(groups: int) -> None:
    """Refuses more groups than may be answered. Raises `InvalidField`."""
    if groups > GROUPS_MAX:
        raise InvalidField("grouping", f"gives more than {GROUPS_MAX} groups: narrow the range or the filters")
