"""Any range of completed round trips: every grouping, both bases and the curve, against the oracle."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any
from uuid import uuid4

import pytest

from steelyard.accounting.entries import Fill
from steelyard.accounting.errors import InvalidField
from steelyard.accounting.keys import Account, InstrumentName, PositionKey
from steelyard.accounting.keys import Book as BookName
from steelyard.accounting.performance import Basis, ExtendedPerformance
from steelyard.accounting.trading_calendar import Calendar, DayRule, Session
from steelyard.operations import performance_ranges
from steelyard.operations.annotate_positions import AnnotatePositions, AnnotationChange
from steelyard.operations.answering_once import RequestIdentity
from steelyard.operations.performance_ranges import (
    CurvePoints,
    Grouping,
    RangeQuestion,
    RangeRead,
    TripScope,
)
from steelyard.storage import performance_slices
from steelyard.storage.annotations import PositionAnnotations
from tests.oracle import half_even
from tests.oracle import performance as theirs
from tests.questions.books import Book, fill, funding, key, oracle, same

DESK = Account("desk")
KEYS = (
    key(),
    key("MNQ MAR26"),
    key("ETHUSDT", book="swing"),
    key("BTCUSDT", account="other"),
    key("BTCUSD", book="swing"),
)
LABELS = {KEYS[0]: "trend", KEYS[1]: "trend", KEYS[2]: "carry"}
BEGIN = datetime(2026, 2, 20, 3, 17, tzinfo=UTC)
SPAN = (datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC))
RULES: list[tuple[DayRule, theirs.DayRule]] = [
    (Calendar(), theirs.CalendarDays()),
    (Calendar("Asia/Kathmandu"), theirs.CalendarDays("Asia/Kathmandu")),
    (Calendar("Pacific/Tongatapu"), theirs.CalendarDays("Pacific/Tongatapu")),
    (Session(weekdays_only=True), theirs.SessionDays()),
    (
        Session(time(17, 0), "America/Chicago"),
        theirs.SessionDays(time(17, 0), "America/Chicago", weekdays_only=False),
    ),
]


def random_trips(seed: int, *, count: int = 150) -> list[Fill]:
    """Trips of all keys over six weeks, across the change of the clock; some end level, some in the same instant."""
    random = Random(seed)
    found: list[Fill] = []
    free_at = dict.fromkeys(KEYS, BEGIN)
    for number in range(count):
        of = random.choice(KEYS)
        opened_at = free_at[of] + timedelta(seconds=random.randrange(60, 40 * 3_600))
        closed_at = opened_at + timedelta(microseconds=random.randrange(1, 9 * 3_600 * 10**6))
        free_at[of] = closed_at
        sign = random.choice((1, -1))
        price, size = Decimal(random.randrange(90, 110)), Decimal(random.randrange(1, 500)) / 100
        move = Decimal(random.choice((0, random.randrange(-900, 900)))) / 100
        fee = Decimal(random.randrange(-20, 60)) / 100 if move else Decimal(0)
        found.append(fill(f"in-{number}", str(sign * size), str(price), of=of, at=opened_at))
        found.append(fill(f"out-{number}", str(-sign * size), str(price + move), of=of, fee=str(fee), at=closed_at))
    return found


def question(**more: Any) -> RangeQuestion:
    """A question about all of it, unless said otherwise."""
    return RangeQuestion(**{"scope": TripScope(), "instants": SPAN, **more})


def assert_same(ours: ExtendedPerformance, opinion: theirs.OraclePerformance) -> None:
    plain = ours.plain
    assert same(plain.net, opinion.net)
    assert same(plain.gross, opinion.gross)
    assert (plain.total, plain.winning, plain.losing) == (opinion.total_trades, opinion.winning, opinion.losing)
    assert same(plain.win_rate, opinion.win_rate)
    assert ours.long.total + ours.short.total == plain.total
    assert Fraction(ours.long.net) + Fraction(ours.short.net) == Fraction(plain.net)
    for figure, expected, sample in (
        (ours.profit_factor, opinion.profit_factor, plain.winning + plain.losing),
        (ours.expectancy, opinion.expectancy, plain.total),
        (ours.average_win, opinion.average_win, plain.winning),
        (ours.average_loss, opinion.average_loss, plain.losing),
        (ours.largest_win, opinion.largest_win, plain.winning),
        (ours.largest_loss, opinion.largest_loss, plain.losing),
        (ours.max_drawdown, opinion.max_drawdown, plain.total),
    ):
        assert (figure.value is None) == (expected is None)
        assert same(figure.value, expected)
        assert figure.sample == sample
    assert ours.longest_winning_streak.length == opinion.longest_winning_streak
    assert ours.longest_losing_streak.length == opinion.longest_losing_streak
    assert ours.hold_time.average is not None
    assert opinion.average_hold_us is not None
    assert ours.hold_time.average // timedelta(microseconds=1) == half_even(opinion.average_hold_us, 0)
    samples = (ours.hold_time.sample, ours.winning_hold_time.sample, ours.losing_hold_time.sample)
    assert samples == (plain.total, plain.winning, plain.losing)


def assert_groups(
    read: RangeRead, results: Sequence[theirs.OracleResult], name_of: Callable[[theirs.OracleResult], object]
) -> None:
    opinions = {name: theirs.performance(members) for name, members in theirs.group(results, name_of).items()}
    assert {group.name for group in read.groups} == set(opinions)
    assert len(read.groups) == len(opinions)
    for group in read.groups:
        opinion = opinions[group.name]
        assert list(group.currencies) == sorted(opinion)
        for currency, figures in group.currencies.items():
            assert_same(figures, opinion[currency])


async def labelled(book: Book) -> None:
    """Gives some of the positions a label."""
    annotate = AnnotatePositions(PositionAnnotations(book.database), jitter=lambda: 0.5)
    for of, value in LABELS.items():
        change = AnnotationChange(labels={"strategy": value, "size": "any"})
        await annotate.update(of, change, request=RequestIdentity(uuid4(), value.encode()))


@pytest.mark.parametrize(("rule", "oracle_rule"), RULES)
async def test_every_grouping_equals_the_oracle(book: Book, rule: DayRule, oracle_rule: theirs.DayRule) -> None:
    book.now = datetime(2026, 6, 1, tzinfo=UTC)
    fills = random_trips(7)
    await book.record(*fills)
    await labelled(book)
    positions = oracle(fills)
    results = theirs.completed(positions.values())

    def day_of(result: theirs.OracleResult) -> date:
        return theirs.trading_day(result.closed_at, oracle_rule)

    names: dict[Grouping, Callable[[theirs.OracleResult], object]] = {
        Grouping.DAY: lambda result: day_of(result).isoformat(),
        Grouping.WEEK: lambda result: theirs.trading_week(result.closed_at, oracle_rule).isoformat(),
        Grouping.MONTH: lambda result: day_of(result).isoformat()[:7],
        Grouping.WEEKDAY: lambda result: day_of(result).strftime("%A").upper(),
        Grouping.HOUR: lambda result: f"{theirs.local_time(result.closed_at, oracle_rule).hour:02d}",
        Grouping.INSTRUMENT: lambda result: result.instrument,
        Grouping.BOOK: lambda result: result.book,
        Grouping.DIRECTION: lambda result: result.direction,
    }
    for grouping, name_of in names.items():
        read = (await book.performance.over(question(day_rule=rule, grouping=grouping))).value
        assert_groups(read, results, name_of)
        for currency, figures in read.currencies.items():
            assert_same(figures, theirs.performance(results)[currency])


async def test_slices_of_time_joined_are_the_same_as_one_pass(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    book.now = datetime(2026, 6, 1, tzinfo=UTC)
    await book.record(*random_trips(8, count=60))
    await labelled(book)
    asked = [question(grouping=grouping, label_name="strategy") for grouping in (None, *Grouping)]
    asked.append(question(scope=TripScope(basis=Basis.GROSS), grouping=Grouping.WEEK))
    at_once = [(await book.performance.over(each)).value for each in asked]
    monkeypatch.setattr(performance_slices, "TRIPS_PER_SLICE", 3)
    monkeypatch.setattr(performance_slices, "LONGER_BY_GROUPS", 2)
    in_slices = [(await book.performance.over(each)).value for each in asked]
    assert in_slices == at_once
    assert any(figures.longest_losing_streak.length > 1 for figures in at_once[0].currencies.values())


async def test_positions_are_grouped_by_a_label_and_those_without_it_come_last(book: Book) -> None:
    book.now = datetime(2026, 6, 1, tzinfo=UTC)
    fills = random_trips(11)
    await book.record(*fills)
    await labelled(book)
    results = {of: theirs.completed([position]) for of, position in oracle(fills).items()}
    read = (await book.performance.over(question(grouping=Grouping.LABEL, label_name="strategy"))).value
    assert [group.name for group in read.groups] == ["carry", "trend", None]
    for group in read.groups:
        members = [
            result
            for of, of_key in results.items()
            for result in of_key
            if LABELS.get(PositionKey(*of)) == group.name  # type: ignore[arg-type] # the parts of a key
        ]
        for currency, figures in group.currencies.items():
            assert_same(figures, theirs.performance(members)[currency])


async def test_scopes_narrow_what_is_measured(book: Book) -> None:
    book.now = datetime(2026, 6, 1, tzinfo=UTC)
    fills = random_trips(5)
    await book.record(*fills)
    await labelled(book)

    async def keys_of(scope: TripScope) -> int:
        read = (await book.performance.over(question(scope=scope))).value
        return sum(figures.plain.total for figures in read.currencies.values())

    def count(*keys: PositionKey) -> int:
        return sum(len(theirs.completed([oracle(fills)[tuple(map(str, of))]])) for of in keys)

    assert await keys_of(TripScope(accounts=[DESK])) == count(*(of for of in KEYS if of.account == DESK))
    assert await keys_of(TripScope(books=[BookName("swing")])) == count(KEYS[2], KEYS[4])
    assert await keys_of(TripScope(instruments=[InstrumentName("BTCUSDT")])) == count(KEYS[0], KEYS[3])
    assert await keys_of(TripScope(labels={"strategy": "trend"})) == count(KEYS[0], KEYS[1])
    assert await keys_of(TripScope(labels={"strategy": "trend", "size": "none"})) == 0


async def test_by_gross_a_trip_wins_or_loses_by_price_alone(book: Book) -> None:
    book.now = datetime(2026, 6, 1, tzinfo=UTC)
    await book.record(fill("a", "1", "100", fee="3"), fill("b", "-1", "102", fee="3", minute=1))
    await book.adjust(funding("0.5", minute=0.5))
    net = (await book.performance.over(question())).value.currencies["USDT"]
    gross = (await book.performance.over(question(scope=TripScope(basis=Basis.GROSS)))).value.currencies["USDT"]
    assert (net.plain.winning, net.plain.losing, gross.plain.winning, gross.plain.losing) == (0, 1, 1, 0)
    assert (net.plain.net, net.plain.gross) == (gross.plain.net, gross.plain.gross) == (Decimal("-3.5"), Decimal(2))
    assert (net.expectancy.value, gross.expectancy.value) == (Decimal("-3.5"), Decimal(2))
    assert (net.max_drawdown.value, gross.max_drawdown.value) == (Decimal("3.5"), Decimal(0))


async def test_the_curve_by_trips_runs_through_every_trip_in_order_of_closing(book: Book) -> None:
    book.now = datetime(2026, 6, 1, tzinfo=UTC)
    fills = random_trips(3, count=60)
    await book.record(*fills)
    read = (await book.performance.over(question(curve=CurvePoints.TRIP))).value
    results = theirs.group(theirs.completed(oracle(fills).values()), lambda result: result.settle_currency)
    assert list(read.curves) == sorted(results)
    for currency, curve in read.curves.items():
        assert curve.trips_per_point == 1
        running = peak = Fraction(0)
        ordered = sorted(results[currency], key=lambda result: result.closed_at)
        for place, (point, result) in enumerate(zip(curve.points, ordered, strict=True), 1):
            running += result.net
            peak = max(peak, running)
            assert same(point.equity, running)
            assert same(point.drawdown, peak - running)
            assert point.total == place
        assert curve.points[-1].equity == read.currencies[currency].plain.net


async def test_a_long_curve_has_one_point_for_every_so_many_trips_and_the_last(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steelyard.storage.performance_ranges.CURVE_POINTS_MAX", 4)
    pairs = [
        (fill(f"in-{n}", "1", "10", minute=2 * n), fill(f"out-{n}", "-1", "11", minute=2 * n + 1)) for n in range(10)
    ]
    await book.record(*(each for pair in pairs for each in pair))
    curve = (await book.performance.over(question(curve=CurvePoints.TRIP))).value.curves["USDT"]
    assert curve.trips_per_point == 3
    assert [(point.total, int(point.equity)) for point in curve.points] == [(3, 3), (6, 6), (9, 9), (10, 10)]


async def test_the_curve_by_groups_has_the_end_of_each_group(book: Book) -> None:
    book.now = datetime(2026, 6, 1, tzinfo=UTC)
    fills = random_trips(13, count=80)
    await book.record(*fills)
    read = (await book.performance.over(question(grouping=Grouping.WEEK, curve=CurvePoints.GROUP))).value
    for currency, curve in read.curves.items():
        sums, total = [], Fraction(0)
        for group in read.groups:
            if currency in group.currencies:
                total += Fraction(group.currencies[currency].plain.net)
                sums.append(total)
        assert [Fraction(point.equity) for point in curve.points] == sums
        assert curve.trips_per_point == 0


async def test_a_range_of_days_is_cut_by_the_day_rule(book: Book) -> None:
    days = (date(2026, 3, 7), date(2026, 3, 9))
    read = (await book.performance.over(question(days=days, instants=None))).value
    assert (read.started_at, read.ended_at) == (
        datetime(2026, 3, 7, 6, tzinfo=UTC),
        datetime(2026, 3, 9, 5, tzinfo=UTC),
    )
    assert (read.currencies, read.groups, read.curves) == ({}, [], {})
    assert read.day_rule == Calendar()


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"instants": (SPAN[1], SPAN[0])}, "closed_before"),
        ({"instants": (SPAN[0], SPAN[0] + timedelta(days=3_701))}, "closed_before"),
        ({"instants": None, "days": (date(2026, 3, 2), date(2026, 3, 1))}, "day_before"),
        ({"instants": None, "days": (date(2026, 3, 2), date(9999, 3, 1))}, "date"),
        ({"instants": (SPAN[0], SPAN[0] + timedelta(days=1_001)), "grouping": Grouping.DAY}, "grouping"),
        ({"day_rule": Calendar("Mars/Olympus")}, "day_rule.time_zone"),
    ],
)
async def test_ranges_beyond_what_is_answered_are_refused(book: Book, more: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        await book.performance.over(question(**more))
    assert refused.value.field == field


async def test_more_groups_than_may_be_answered_are_refused(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    book.now = datetime(2026, 6, 1, tzinfo=UTC)
    await book.record(*random_trips(2, count=30))
    monkeypatch.setattr(performance_ranges, "GROUPS_MAX", 2)
    with pytest.raises(InvalidField) as refused:
        await book.performance.over(question(grouping=Grouping.INSTRUMENT))
    assert refused.value.field == "grouping"


async def test_an_empty_range_has_nothing(book: Book) -> None:
    at = SPAN[0]
    for grouping in Grouping:
        label = "x" if grouping is Grouping.LABEL else ""
        asked = question(instants=(at, at), grouping=grouping, label_name=label)
        assert (await book.performance.over(asked)).value.groups == []
