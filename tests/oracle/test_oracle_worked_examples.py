"""Every worked figure of the domain law against the oracle itself."""

from datetime import UTC, date, datetime, time
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest

from . import (
    LOT_METHODS,
    METHODS,
    OracleAdjustment,
    OracleEntry,
    OracleFill,
    OracleFunding,
    OracleInstrument,
    OraclePosition,
    OracleRevision,
    fold_key,
    number,
    replay,
    wire,
)
from .entries import key_of
from .performance import (
    CalendarDays,
    OracleResult,
    SessionDays,
    by_day,
    completed,
    measure,
    net_of_fills_by_day,
    performance,
    trading_day,
    trading_week,
)
from .portfolio import (
    OracleHolding,
    limit_exceeded,
    portfolio,
    position_size_norm,
    time_held_minutes,
    unrealized_pnl_pct,
)

START = 1_756_000_000_000_000
LINEAR = OracleInstrument(name="BTCUSDT")
MNQ = OracleInstrument(name="MNQ SEP25", multiplier="2", settle_currency="USD")
INVERSE = OracleInstrument(name="BTCUSD", kind="inverse", settle_currency="BTC")
PACIFIC = ZoneInfo("America/Los_Angeles")


def fills_of(text: str, *, instrument: OracleInstrument, leg: str = "NET") -> list[OracleEntry]:
    """`B 2 25000 1.5, S 1 25010`: side, quantity, price, optional fee; one second apart."""
    rows = [row.split() for row in text.split(",")]
    return [
        OracleFill(
            fill_id=f"f{place:03}",
            account="A",
            instrument=instrument.name,
            leg=leg,
            side="BUY" if row[0] == "B" else "SELL",
            quantity=row[1],
            price=row[2],
            fee=row[3] if len(row) > 3 else "0",
            executed_at=START + place * 1_000_000,
        )
        for place, row in enumerate(rows)
    ]


def these(*values: object) -> tuple[object, ...]:
    """Fractions beside plain numbers, compared by value."""
    return values


def fold(text: str, *, instrument: OracleInstrument = LINEAR, leg: str = "NET") -> OraclePosition:
    return fold_entries(fills_of(text, instrument=instrument, leg=leg), instrument=instrument)


def fold_entries(entries: list[OracleEntry], *, instrument: OracleInstrument = LINEAR) -> OraclePosition:
    return fold_key(key_of(entries[0]), entries, instrument=instrument)


@pytest.mark.parametrize(
    ("fills", "quantity", "average", "gross", "realized"),
    [
        ("B 1 48000, B 0.5 50000 25", "1.5", "48666.666666666666666667", "0", "0"),
        ("B 2 50000, S 0.5 51000 25.50", "1.5", "50000", "500", "474.5"),
        ("B 1 50000, S 3 51000 15", "-2", "51000", "1000", "995"),
        ("S 1 50000, S 1 51000", "-2", "50500", "0", "0"),
        ("B 33 1.1, B 33 1.3, B 34 1.7, S 1 9", "99", "1.37", "7.63", "7.63"),
    ],
)
def test_average_method_figures_of_the_law(fills: str, quantity: str, average: str, gross: str, realized: str) -> None:
    position = fold(fills)
    figures = position.figures["AVERAGE"]
    assert figures.average is not None
    found = [position.quantity, figures.average, figures.gross_realized_pnl, figures.realized_pnl]
    assert [wire(each) for each in found] == [quantity, average, gross, realized]


def test_flip_splits_its_fee_and_stands_in_both_trips() -> None:
    closed, opened = fold("B 1 50000, S 3 51000 15").trips
    assert these(closed.fees, opened.fees) == (5, 10)
    assert closed.relations == (("f000", "opened"), ("f001", "reversed"))
    assert opened.relations == (("f001", "opened"),)
    assert closed.closed_at == opened.opened_at
    assert these(opened.direction, opened.first_entry_id, opened.closed_at) == ("SHORT", "f001", None)


def test_average_and_lots_stand_side_by_side() -> None:
    position = fold("B 2 25000, B 3 25010, S 2 25030", instrument=MNQ)
    figures = position.figures
    assert position.quantity == 3
    assert these(figures["FIFO"].gross_realized_pnl, figures["FIFO"].average) == (120, 25010)
    assert these(figures["AVERAGE"].gross_realized_pnl, figures["AVERAGE"].average) == (96, 25006)
    assert these(figures["LIFO"].gross_realized_pnl, figures["HIFO"].gross_realized_pnl) == (80, 80)
    assert [these(lot.entry_id, lot.quantity) for lot in position.lots["LIFO"]] == [("f000", 2), ("f001", 1)]


def test_hifo_takes_highest_of_a_long_and_lowest_of_a_short_ties_first() -> None:
    long = fold("B 1 10, B 1 30, B 1 30, B 1 20, S 1 40")
    assert [lot.entry_id for lot in long.lots["HIFO"]] == ["f000", "f002", "f003"]
    short = fold("S 1 30, S 1 10, S 1 20, B 1 5")
    assert [lot.entry_id for lot in short.lots["HIFO"]] == ["f000", "f002"]


def test_reversal_gives_a_long_of_five_and_a_short_of_six() -> None:
    fills = "B 5 25000 2.50, S 8 25050 4.00, S 3 25040 1.50, B 6 25030 3.00"
    long, short = fold(fills, instrument=MNQ).trips
    assert these(long.direction, long.entered_quantity, long.fees) == ("LONG", 5, 5)
    assert these(short.direction, short.entered_quantity, short.fees) == ("SHORT", 6, 6)
    assert these(short.average_entry, short.average_exit) == (25045, 25030)
    assert these(short.points_per_contract, short.points_weighted) == (15, 90)
    for method in METHODS:
        assert these(long.gross_pnl[method], short.gross_pnl[method]) == (500, 180)
        assert these(long.net_pnl[method], short.net_pnl[method]) == (495, 174)


def test_two_trips_of_six_are_never_one_of_twelve() -> None:
    position = fold("B 6 10, S 1 10, S 1 10, S 2 10, S 2 10, B 6 10, S 6 10")
    assert [these(trip.entered_quantity, trip.max_quantity, trip.fill_count) for trip in position.trips] == [
        (6, 6, 5),
        (6, 6, 2),
    ]


def test_same_second_keeps_sequence_in_any_order_of_arrival() -> None:
    base = fills_of("B 1 25000, S 1 25001, B 1 25002", instrument=MNQ)
    tied: list[OracleEntry] = [
        OracleFill(
            fill_id=f"z{9 - place}",
            account="A",
            instrument=MNQ.name,
            side=fill.side,
            quantity=fill.quantity,
            price=fill.price,
            executed_at=START,
            source_sequence=place,
        )
        for place, fill in enumerate(base)
        if isinstance(fill, OracleFill)
    ]
    positions = [fold_entries(order, instrument=MNQ) for order in (tied, tied[::-1], tied[1:] + tied[:1])]
    assert positions[0] == positions[1] == positions[2]
    closed, opened = positions[0].trips
    assert these(closed.direction, closed.points_per_contract, opened.average_entry) == ("LONG", 1, 25002)


def test_inverse_average_is_harmonic_and_unrealized_is_in_coin() -> None:
    position = fold("B 10000 10000, B 10000 20000", instrument=INVERSE)
    figures = position.figures["AVERAGE"]
    assert figures.cost == Fraction(3, 2)
    assert figures.average is not None
    assert wire(figures.average) == "13333.333333333333333333"
    assert position.unrealized(number("16000")) == Fraction(1, 4)


def test_leg_excess_is_kept_unmatched_and_vanishes_when_earlier_fills_come() -> None:
    late, *known = fills_of("B 2 100, B 1 100, S 3 110 3, B 1 120", instrument=LINEAR, leg="LONG")
    position = fold_entries(known)
    assert these(position.quantity, position.unmatched_quantity) == (1, 2)
    assert these(position.figures["AVERAGE"].realized_pnl, position.fees) == (9, 3)
    assert position.trips[0].relations[-1] == ("f002", "closed")
    whole = fold_entries([*known, late])
    assert these(whole.quantity, whole.unmatched_quantity) == (1, 0)
    assert whole.figures["AVERAGE"].gross_realized_pnl == 30


def adjustment(place: int, *, quantity: str | None, average: str | None) -> OracleAdjustment:
    return OracleAdjustment(
        adjustment_id=f"a{place}",
        account="A",
        instrument=LINEAR.name,
        kind="CORRECTION",
        executed_at=START + place * 1_000_000 + 1,
        quantity=quantity,
        average=average,
    )


def test_adjustment_leaves_one_lot_and_no_realized_figure() -> None:
    fills = fills_of("B 2 100 2, B 3 110 3, S 1 120, S 6 130", instrument=LINEAR)
    position = fold_entries([*fills[:3], adjustment(2, quantity="6", average="105")])
    for method in METHODS:
        figures = position.figures[method]
        assert these(figures.cost, figures.average) == (630, 105)
        assert figures.gross_realized_pnl == fold_entries(fills[:3]).figures[method].gross_realized_pnl
        assert position.identity_gap(number("99"), method=method) == 0
    assert all(len(lots) == 1 for lots in position.lots.values())
    (trip,) = position.trips
    assert these(trip.adjusted, trip.entered_quantity, trip.open_quantity, trip.fill_count) == (True, 7, 6, 3)
    (done,) = fold_entries([*fills, adjustment(2, quantity="6", average="105")]).trips
    assert sum(pair.entry_fee + pair.exit_fee for pair in done.pairs["FIFO"]) == done.fees == 5


@pytest.mark.parametrize(
    ("quantity", "directions", "is_open"),
    [("0", ["LONG"], False), ("-2", ["LONG", "SHORT"], True)],
)
def test_adjustment_to_zero_closes_and_sign_change_opens_another(
    quantity: str, directions: list[str], *, is_open: bool
) -> None:
    entries = [*fills_of("B 2 100", instrument=LINEAR), adjustment(5, quantity=quantity, average="90")]
    position = fold_entries(entries)
    assert [trip.direction for trip in position.trips] == directions
    assert position.trips[0].closed_at == START + 5_000_001
    assert (position.trips[-1].closed_at is None) == is_open
    assert all(trip.adjusted for trip in position.trips)
    assert position.figures["FIFO"].gross_realized_pnl == 0


def test_funding_goes_to_the_open_trip_else_to_the_last() -> None:
    entries = fills_of("B 1 100, S 1 110, B 1 100", instrument=LINEAR)
    paid = [
        OracleFunding(
            funding_id=f"u{at}",
            account="A",
            instrument=LINEAR.name,
            amount=amount,
            executed_at=START + at,
        )
        for at, amount in ((-1, "7"), (500_000, "-1"), (1_500_000, "-2"), (2_500_000, "4"))
    ]
    position = fold_entries([*entries, *paid])
    assert [trip.funding for trip in position.trips] == [-3, 4]
    assert these(position.funding, position.figures["AVERAGE"].net_realized_pnl) == (8, 18)


def test_fee_in_another_currency_needs_its_rate() -> None:
    def position(rate: str | None) -> OraclePosition:
        fill = OracleFill(
            fill_id="x",
            account="A",
            instrument=LINEAR.name,
            side="BUY",
            quantity="1",
            price="100",
            fee="0.01",
            fee_currency="BNB",
            fee_rate=rate,
            executed_at=START,
        )
        return fold_entries([fill])

    assert these(position("600").fees, position("600").fees_complete) == (6, True)
    assert these(position(None).fees, position(None).fees_complete) == (0, False)
    assert position(None).unvalued_fees == {"BNB": Fraction(1, 100)}


def test_amend_and_bust_leave_what_a_history_without_them_would() -> None:
    fills = fills_of("B 2 100, S 1 110, S 1 120", instrument=LINEAR)
    amended = fills_of("B 2 100, S 1 115, S 1 120", instrument=LINEAR)
    key, book = key_of(fills[0]), {LINEAR.name: LINEAR}
    assert isinstance(amended[1], OracleFill)
    change = OracleRevision(account="A", fill_id="f001", revision=2, content=amended[1], recorded_at=50)
    bust = OracleRevision(account="A", fill_id="f001", revision=3, content=None, recorded_at=60)
    plain = replay(amended, instruments=book)[key]
    assert replay(fills, instruments=book, revisions=[change])[key] == plain
    busted = replay([*fills, fills[1]], instruments=book, revisions=[bust, change])[key]
    assert busted == fold_entries([fills[0], fills[2]])
    assert replay(fills, instruments=book, revisions=[bust, change], known_at=59)[key] == plain
    assert replay(fills, instruments=book, as_of=START)[key].quantity == 2
    before = replay(fills, instruments=book, as_of=START - 1)[key]
    assert these(before.quantity, before.figures["AVERAGE"].average, before.opened_at) == (0, None, None)


def held(instrument: str, *, quantity: str, mark: str | None, unrealized: str, realized: str) -> OracleHolding:
    return OracleHolding(
        instrument=instrument,
        settle_currency="USDT",
        quantity=number(quantity),
        realized=number(realized),
        notional=None if mark is None else number(quantity) * number(mark),
        unrealized=None if mark is None else number(unrealized),
    )


def test_portfolio_vector_of_the_law() -> None:
    rows = [
        held("BTC", quantity="1", mark="100", unrealized="5", realized="2"),
        held("ETH", quantity="-0.5", mark="200", unrealized="3", realized="-1"),
        held("XRP", quantity="2", mark=None, unrealized="0", realized="0"),
    ]
    found = portfolio(rows)["USDT"]
    assert these(found.gross_exposure, found.net_exposure) == (200, 0)
    assert these(found.unrealized, found.realized, found.total) == (8, 1, 9)
    assert these(found.open_count, found.long_count, found.short_count) == (3, 2, 1)
    assert these(found.complete, found.missing_prices) == (False, ("XRP",))
    norms = [position_size_norm(row.notional, gross_exposure=found.gross_exposure) for row in rows]
    assert norms == [Fraction(1, 2), Fraction(1, 2), None]
    assert portfolio([], currencies=["USD"])["USD"].gross_exposure == 0
    assert limit_exceeded(Fraction(200), limit=Fraction(200), complete=True) is False
    assert limit_exceeded(Fraction(200), limit=Fraction(100), complete=False) is None


def test_features_of_the_law() -> None:
    position = fold("B 1.5 50000")
    assert unrealized_pnl_pct(position, mark=number("50100")) == Fraction(1, 5)
    assert time_held_minutes(position, now=START + 119_999_999) == 1
    assert time_held_minutes(fold("B 1 1, S 1 1"), now=START + 10**12) == 0


def result(net: str, *, closed_at: int = START) -> OracleResult:
    return OracleResult(net=number(net), gross=number(net), closed_at=closed_at, opened_at=closed_at)


def test_performance_vector_and_rounding_of_the_win_rate() -> None:
    found = measure([result("150.25"), result("-75.50"), result("200.00")])
    assert these(wire(found.net), found.total_trades, found.winning, found.losing) == ("274.75", 3, 2, 1)
    assert wire(found.win_rate) == "0.667"
    for wins, total, rate in ((3, 8, "0.375"), (15, 35, "0.429")):
        results = [result("1")] * wins + [result("0")] * (total - wins)
        assert wire(measure(results).win_rate) == rate
    nothing = measure([])
    assert these(nothing.win_rate, nothing.profit_factor, nothing.max_drawdown) == (0, None, 0)


def test_drawdown_and_streaks_follow_the_closing_order() -> None:
    nets = ["5", "-3", "-4", "0", "-1", "10", "2"]
    found = measure(result(net, closed_at=START + place) for place, net in enumerate(nets))
    assert these(found.max_drawdown, found.longest_losing_streak, found.longest_winning_streak) == (8, 2, 2)
    assert these(found.scratch, found.profit_factor) == (1, Fraction(17, 8))


@pytest.mark.parametrize(
    ("local", "day"),
    [
        (datetime(2025, 9, 7, 16, 0, tzinfo=PACIFIC), date(2025, 9, 8)),
        (datetime(2025, 9, 10, 14, 30, tzinfo=PACIFIC), date(2025, 9, 10)),
        (datetime(2025, 9, 8, 15, 5, tzinfo=PACIFIC), date(2025, 9, 9)),
        (datetime(2025, 9, 8, 15, 0, tzinfo=PACIFIC), date(2025, 9, 9)),
        (datetime(2025, 9, 12, 15, 30, tzinfo=PACIFIC), date(2025, 9, 15)),
        (datetime(2025, 9, 13, 9, 0, tzinfo=PACIFIC), date(2025, 9, 15)),
        (datetime(2025, 3, 9, 1, 59, tzinfo=PACIFIC), date(2025, 3, 10)),
    ],
)
def test_session_day_of_a_pacific_close(local: datetime, day: date) -> None:
    at = int(local.timestamp()) * 1_000_000
    assert trading_day(at, SessionDays()) == day


def test_calendar_days_follow_the_clock_change() -> None:
    def utc(month: int, day: int, hour: int) -> int:
        return int(datetime(2025, month, day, hour, tzinfo=UTC).timestamp()) * 1_000_000

    chicago = CalendarDays()
    assert trading_day(utc(3, 9, 6) - 1, chicago) == date(2025, 3, 8)
    assert trading_day(utc(3, 9, 6), chicago) == date(2025, 3, 9)
    assert trading_day(utc(3, 10, 5), chicago) == date(2025, 3, 10)
    assert trading_day(utc(11, 3, 6) - 1, chicago) == date(2025, 11, 2)
    assert trading_week(utc(11, 3, 6) - 1, chicago) == date(2025, 10, 27)
    late = SessionDays(closes_at=time(17, 0), zone="America/Chicago", weekdays_only=False)
    assert trading_day(utc(11, 1, 22), late) == date(2025, 11, 2)
    assert trading_day(utc(11, 3, 23) - 1, late) == date(2025, 11, 3)
    assert trading_day(utc(11, 3, 23), late) == date(2025, 11, 4)


def test_trips_become_results_of_their_closing_day() -> None:
    position = fold("B 1 25000 1, S 1 25010 1, B 1 25000 1", instrument=MNQ)
    results, days = completed([position]), CalendarDays()
    (found,) = by_day(results, days).values()
    assert these(found.net, found.gross, found.total_trades) == (18, 20, 1)
    assert performance(results)["USD"] == found
    assert list(net_of_fills_by_day([position], days).values()) == [17]
    assert set(LOT_METHODS) < set(METHODS)
