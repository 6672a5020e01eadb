"""Figures of completed round trips: the worked examples, and the oracle's second opinion on random days."""

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.accounting.performance import (
    CompletedTrip,
    closing_day,
    closing_hour,
    closing_weekday,
    completed_trip,
    measure,
    measure_by,
    measure_extended,
    performance_of_sums,
    win_rate,
)
from steelyard.accounting.round_trips import CostMethod
from steelyard.accounting.trading_calendar import Calendar, Session
from tests.accounting.cases import D, exact
from tests.accounting.histories import NAME, Terms, fold_all, steps
from tests.oracle import half_even, microseconds
from tests.oracle import performance as oracle

NINE = datetime(2025, 6, 20, 9, tzinfo=UTC)


def trip(net: str, *, minute: int = 0, fees: str = "1", **more: Any) -> CompletedTrip:
    """A long trip of five minutes that closes `minute` minutes after nine."""
    closed_at = NINE + timedelta(minutes=minute)
    base = CompletedTrip(
        closed_at=closed_at,
        opened_at=closed_at - timedelta(minutes=5),
        first_entry_id=f"f{minute}",
        gross=D(net) + D(fees),
        net=D(net),
        fees=D(fees),
        direction="LONG",
        instrument="MNQ SEP25",
        book="main",
        currency="USD",
    )
    return base._replace(**more)


def test_the_worked_example_of_a_day() -> None:
    figures = measure([trip("150.25"), trip("-75.50", minute=1), trip("200.00", minute=2)])["USD"]
    assert (figures.net, figures.gross, figures.fees) == (D("274.75"), D("277.75"), D(3))
    assert (figures.total, figures.winning, figures.losing, figures.scratch) == (3, 2, 1, 0)
    assert figures.win_rate == D("0.667")
    assert figures.fees_complete


@pytest.mark.parametrize(
    "winning, total, rate",
    [(3, 8, "0.375"), (15, 35, "0.429"), (0, 0, "0"), (0, 3, "0"), (1, 1, "1"), (1, 16, "0.062")],
)
def test_win_rate_is_over_all_trips_with_three_places_half_even(winning: int, total: int, rate: str) -> None:
    assert win_rate(winning, total) == D(rate)


def test_a_scratch_counts_as_neither_and_lowers_the_win_rate() -> None:
    figures = measure([trip("1"), trip("0", minute=1)])["USD"]
    assert (figures.winning, figures.losing, figures.scratch, figures.win_rate) == (1, 0, 1, D("0.5"))


def test_currencies_are_never_summed() -> None:
    figures = measure([trip("1"), trip("2", currency="USDT")])
    assert {name: each.net for name, each in figures.items()} == {"USD": D(1), "USDT": D(2)}


def test_without_trips_there_are_no_currencies_and_the_zeros_of_one_can_be_asked_for() -> None:
    assert measure([]) == {} == measure_extended([])
    assert performance_of_sums("USD").win_rate == 0


def test_an_unvalued_fee_makes_the_figures_incomplete() -> None:
    assert not measure([trip("1"), trip("2", fees_complete=False)])["USD"].fees_complete


def test_the_extended_figures_name_their_samples() -> None:
    nets = ["10", "20", "0", "-5", "-15", "-1", "40"]
    trips = [trip(net, minute=10 * at, direction="SHORT" if at % 2 else "LONG") for at, net in enumerate(nets)]
    trips[1] = trips[1]._replace(opened_at=trips[1].closed_at - timedelta(minutes=60))
    figures = measure_extended(reversed(trips))["USD"]
    assert (figures.profit_factor.value, figures.profit_factor.sample) == (D("3.333333333333333333"), 6)
    assert (figures.expectancy.value, figures.expectancy.sample) == (D(7), 7)
    assert (figures.average_win.value, figures.average_win.sample) == (D("23.333333333333333333"), 3)
    assert (figures.average_loss.value, figures.average_loss.sample) == (D(-7), 3)
    assert (figures.largest_win.value, figures.largest_loss.value) == (D(40), D(-15))
    assert (figures.longest_winning_streak.length, figures.longest_losing_streak.length) == (2, 3)
    assert (figures.max_drawdown.value, figures.max_drawdown.sample) == (D(21), 7)
    assert (figures.long.net, figures.long.total, figures.short.net, figures.short.total) == (D(35), 4, D(14), 3)
    assert (figures.hold_time.shortest, figures.hold_time.longest) == (timedelta(minutes=5), timedelta(minutes=60))
    assert figures.hold_time.average == timedelta(minutes=90) / 7
    assert (figures.winning_hold_time.sample, figures.losing_hold_time.sample) == (3, 3)


def test_what_has_no_sample_has_no_value() -> None:
    figures = measure_extended([trip("0")])["USD"]
    for each in (figures.profit_factor, figures.average_win, figures.average_loss, figures.largest_win):
        assert (each.value, each.sample) == (None, 0)
    assert (figures.winning_hold_time.average, figures.winning_hold_time.sample) == (None, 0)
    assert figures.max_drawdown.value == 0
    assert measure_extended([trip("5")])["USD"].profit_factor.value is None


def test_trips_are_grouped_by_the_day_weekday_and_hour_of_their_close() -> None:
    chicago = Calendar("America/Chicago")
    friday = trip("1", closed_at=datetime(2025, 6, 21, 4, 59, tzinfo=UTC))
    saturday = trip("2", closed_at=datetime(2025, 6, 21, 5, 0, tzinfo=UTC))
    trips = [friday, saturday]
    assert {name: each.net for name, each in measure_by(trips, closing_day(chicago)).items()} == {
        ("USD", date(2025, 6, 20)): D(1),
        ("USD", date(2025, 6, 21)): D(2),
    }
    assert set(measure_by(trips, closing_weekday(chicago))) == {("USD", 5), ("USD", 6)}
    assert set(measure_by(trips, closing_weekday(Session(weekdays_only=True)))) == {("USD", 1)}
    assert set(measure_by(trips, closing_hour(chicago))) == {("USD", 23), ("USD", 0)}
    assert measure_by(trips, lambda each: each.instrument)["USD", "MNQ SEP25"].total == 2


def test_a_trip_counts_once_it_is_closed_by_the_figures_of_its_method() -> None:
    terms = Terms(multiplier="2")
    fills = steps("BUY 2 @100 fee 1", "BUY 1 @106 fee 1", "SELL 1 @110 fee 1", "SELL 2 @108", "SELL 1 @1")
    closed, current = fold_all(fills, terms).trips
    assert completed_trip(current, terms.key, instrument=terms.instrument, method=CostMethod.LOTS) is None
    counted = completed_trip(closed, terms.key, instrument=terms.instrument, method=CostMethod.LOTS)
    assert counted is not None
    assert exact(counted.gross, counted.net, counted.fees) == exact(40, 37, 3)
    assert (counted.direction, counted.instrument, counted.book, counted.currency) == ("LONG", NAME, "main", "USD")
    assert (counted.closed_at, counted.opened_at) == (closed.closed_at, closed.opened_at)
    assert (counted.first_entry_id, counted.fees_complete) == ("f0", True)


MONEY = st.one_of(st.just(D(0)), st.decimals(-100, 100, places=2), st.decimals(-10, 10, places=18))
TRIPS = st.lists(
    st.builds(
        lambda net, fees, closed, held, direction, currency: CompletedTrip(
            closed_at=NINE + timedelta(seconds=closed),
            opened_at=NINE + timedelta(seconds=closed - held),
            first_entry_id=f"{closed}",
            gross=net + fees,
            net=net,
            fees=fees,
            direction=direction,
            instrument="MNQ SEP25",
            book="main",
            currency=currency,
        ),
        MONEY,
        MONEY,
        st.integers(0, 10**6),
        st.integers(0, 10**5),
        st.sampled_from(["LONG", "SHORT"]),
        st.sampled_from(["USD", "USDT"]),
    ),
    max_size=30,
    unique_by=lambda each: each.closed_at,
)


@given(TRIPS)
def test_the_oracle_agrees(trips: list[CompletedTrip]) -> None:
    opinions = oracle.performance(
        oracle.OracleResult(
            net=Fraction(each.net),
            gross=Fraction(each.gross),
            closed_at=microseconds(each.closed_at),
            opened_at=microseconds(each.opened_at),
            settle_currency=each.currency,
        )
        for each in trips
    )
    plain, extended = measure(trips), measure_extended(trips)
    assert set(plain) == set(extended) == set(opinions)
    for currency, opinion in opinions.items():
        figures, more = plain[currency], extended[currency]
        assert more.plain == figures
        assert exact(figures.net, figures.gross) == exact(opinion.net, opinion.gross)
        assert figures.win_rate == opinion.win_rate
        assert (figures.total, figures.winning) == (opinion.total_trades, opinion.winning)
        assert (figures.losing, figures.scratch) == (opinion.losing, opinion.scratch)
        assert more.profit_factor.value == opinion.profit_factor
        assert more.expectancy.value == opinion.expectancy
        assert (more.average_win.value, more.average_loss.value) == (opinion.average_win, opinion.average_loss)
        assert (more.largest_win.value, more.largest_loss.value) == (opinion.largest_win, opinion.largest_loss)
        assert more.longest_winning_streak.length == opinion.longest_winning_streak
        assert more.longest_losing_streak.length == opinion.longest_losing_streak
        assert more.max_drawdown.value == opinion.max_drawdown
        assert more.hold_time.average is not None
        assert opinion.average_hold_us is not None
        assert more.hold_time.average // timedelta(microseconds=1) == half_even(opinion.average_hold_us, 0)


@given(TRIPS, st.randoms())
def test_the_order_of_the_stream_decides_nothing(trips: list[CompletedTrip], random: Random) -> None:
    shuffled = list(trips)
    random.shuffle(shuffled)
    assert measure(shuffled) == measure(trips)
    assert measure_extended(shuffled) == measure_extended(trips)


@given(st.integers(0, 2**50), st.sampled_from(["UTC", "America/New_York", "Asia/Kathmandu"]), st.booleans())
def test_the_oracle_agrees_on_the_trading_day(at: int, zone: str, weekdays_only: bool) -> None:
    instant = datetime(1971, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)
    named = trip("1", closed_at=instant)
    calendar, session = Calendar(zone), Session(zone=zone, weekdays_only=weekdays_only)
    assert closing_day(calendar)(named) == oracle.trading_day(microseconds(instant), oracle.CalendarDays(zone))
    opinion = oracle.trading_day(microseconds(instant), oracle.SessionDays(zone=zone, weekdays_only=weekdays_only))
    assert closing_day(session)(named) == opinion
