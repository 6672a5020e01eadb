"""Portfolio, features and marks: the worked examples and the oracle's opinion."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.accounting.errors import InvalidField
from steelyard.accounting.features import position_size_norm, time_held_minutes, unrealized_pnl_pct
from steelyard.accounting.instruments import Instrument, InstrumentKind, PriceRule
from steelyard.accounting.keys import Account, Book, InstrumentName, Leg, PositionKey
from steelyard.accounting.marks import Mark, MarkState, check_mark, mark_state, newer_mark
from steelyard.accounting.portfolio import PortfolioRow, portfolio_of
from tests.accounting.cases import D, exact
from tests.oracle import half_even
from tests.oracle.entries import Terms
from tests.oracle.portfolio import OracleHolding, portfolio

NOW = datetime(2025, 6, 20, 9, tzinfo=UTC)
INVERSE = InstrumentKind.INVERSE
LINEAR = InstrumentKind.LINEAR


def instrument(
    name: str = "BTCUSDT", *, kind: InstrumentKind = LINEAR, multiplier: str = "1", currency: str = "USDT"
) -> Instrument:
    return Instrument(InstrumentName(name), kind, D(multiplier), "USDT", currency)


def row(what: Instrument, quantity: str, *, book: str = "main", mark: str | None = None, **more: Any) -> PortfolioRow:
    known = None if mark is None else Mark(D(mark), NOW, "test")
    state = MarkState.MISSING if mark is None else MarkState.FRESH
    key = PositionKey(Account("a"), Book(book), what.name, Leg.NET)
    fields = {"mark": known, "mark_state": state} | more
    return PortfolioRow(key=key, instrument=what, quantity=D(quantity), **fields)


def test_the_worked_example_of_a_portfolio() -> None:
    rows = [
        row(instrument("BTCUSDT"), "1", mark="100", cost=D(95), realized_pnl=D(2)),
        row(instrument("ETHUSDT"), "-0.5", mark="200", cost=D(-103), realized_pnl=D(-1)),
        row(instrument("XRPUSDT"), "2", cost=D(1)),
    ]
    answer = portfolio_of(rows, now=NOW)
    figures = answer.currencies["USDT"]
    assert [each.unrealized_pnl for each in rows] == [D(5), D(3), None]
    assert figures.gross_exposure == 200
    assert figures.value == figures.net_exposure == 0
    assert exact(figures.long_exposure, figures.short_exposure) == exact(100, 100)
    assert exact(figures.unrealized_pnl, figures.realized_pnl, figures.total_pnl) == exact(8, 1, 9)
    assert exact(figures.open_count, figures.long_count, figures.short_count) == exact(3, 2, 1)
    assert exact(figures.missing_prices, figures.stale_prices) == exact(("XRPUSDT",), ())
    assert not figures.complete
    assert not answer.complete
    assert answer.calculated_at == NOW


def test_no_positions_are_zeros_and_no_error() -> None:
    assert portfolio_of([], now=NOW).currencies == {}
    figures = portfolio_of([], now=NOW, currencies=["USD"]).currencies["USD"]
    assert exact(figures.gross_exposure, figures.total_pnl, figures.open_count) == exact(0, 0, 0)
    assert figures.complete


def test_currencies_stay_apart_and_closed_rows_count_as_realized() -> None:
    usd = instrument("MNQ SEP25", multiplier="2", currency="USD")
    closed = row(usd, "0", realized_pnl=D(7), gross_realized_pnl=D(9), net_realized_pnl=D(5), fees=D(4), funding=D(1))
    answer = portfolio_of([closed, row(instrument(), "1", mark="100", cost=D(100))], now=NOW)
    figures = answer.currencies["USD"]
    assert exact(figures.realized_pnl, figures.gross_realized_pnl, figures.net_realized_pnl) == exact(7, 9, 5)
    assert exact(figures.fees, figures.funding, figures.open_count, figures.complete) == exact(4, 1, 0, True)
    assert answer.currencies["USDT"].gross_exposure == 100


def test_a_stale_mark_counts_and_is_named_and_an_unvalued_fee_is_told() -> None:
    stale = row(instrument(), "1", mark="100", mark_state=MarkState.STALE, fees_complete=False)
    figures = portfolio_of([stale, row(instrument("FLATUSDT"), "0", mark_state=MarkState.STALE)], now=NOW).currencies[
        "USDT"
    ]
    assert figures.stale_prices == ("BTCUSDT",)
    assert exact(figures.gross_exposure, figures.complete, figures.fees_complete) == exact(100, True, False)


def test_an_inverse_position_is_worth_its_coin() -> None:
    held = row(instrument("BTCUSD", kind=INVERSE, currency="BTC"), "20000", mark="16000", cost=D("1.5"))
    assert (held.notional, held.unrealized_pnl) == (D("1.25"), D("0.25"))


COMPARED = (
    *("gross_exposure", "net_exposure", "long_exposure", "short_exposure", "open_count", "long_count"),
    *("short_count", "stale_prices", "missing_prices", "complete"),
)
HOLDINGS = st.lists(
    st.builds(
        lambda name, quantity, price, cost, realized, book, kind, stale: row(
            instrument(name, kind=kind, multiplier="2"),
            str(quantity),
            book=book,
            mark=price,
            cost=cost if quantity else D(0),
            realized_pnl=realized,
            mark_state=MarkState.MISSING if price is None else MarkState.STALE if stale else MarkState.FRESH,
        ),
        st.sampled_from(["AUSDT", "BUSDT", "CUSDT"]),
        st.decimals(-5, 5, places=1),
        st.sampled_from([None, "1", "2.5", "7"]),
        st.decimals(-50, 50, places=2),
        st.decimals(-50, 50, places=2),
        st.sampled_from(["main", "desk"]),
        st.sampled_from(list(InstrumentKind)),
        st.booleans(),
    ),
    max_size=8,
)


@given(HOLDINGS)
def test_the_oracle_agrees(rows: list[PortfolioRow]) -> None:
    holdings = []
    for each in rows:
        terms = Terms(each.instrument.kind is INVERSE, Fraction(each.instrument.multiplier), "USDT")
        mark = None if each.mark is None else Fraction(each.mark.price)
        unrealized = None if mark is None else terms.unrealized(Fraction(each.quantity), Fraction(each.cost), mark)
        holdings.append(
            OracleHolding(
                instrument=each.key.instrument,
                settle_currency="USDT",
                quantity=Fraction(each.quantity),
                realized=Fraction(each.realized_pnl),
                notional=None if mark is None else terms.value(Fraction(each.quantity), mark),
                unrealized=unrealized,
                book=each.key.book,
                stale=each.mark_state is MarkState.STALE,
            )
        )
    opinion = portfolio(holdings, currencies=["USDT"])["USDT"]
    figures = portfolio_of(rows, now=NOW, currencies=["USDT"]).currencies["USDT"]
    for name in COMPARED:
        assert getattr(figures, name) == getattr(opinion, name), name
    assert figures.unrealized_pnl == opinion.unrealized
    assert exact(figures.realized_pnl, figures.total_pnl) == exact(opinion.realized, opinion.total)
    for ours, theirs in ((figures.by_instrument, opinion.by_instrument), (figures.by_book, opinion.by_book)):
        assert set(ours) == set(theirs)
        for name, group in ours.items():
            expected = theirs[name]
            assert exact(group.exposure, group.quantity) == exact(expected.exposure, expected.quantity)
            assert exact(group.unrealized_pnl, group.realized_pnl) == exact(expected.unrealized, expected.realized)


@given(HOLDINGS)
def test_sizes_of_marked_positions_add_up_to_one(rows: list[PortfolioRow]) -> None:
    gross = portfolio_of(rows, now=NOW, currencies=["USDT"]).currencies["USDT"].gross_exposure
    sizes = [position_size_norm(each.notional, gross_exposure=gross) for each in rows]
    if gross:
        assert abs(sum((size for size in sizes if size is not None), D(0)) - 1) <= D("1e-17")
    else:
        assert set(sizes) <= {None}


@pytest.mark.parametrize(
    "kind, quantity, average, unrealized, percent",
    [
        (LINEAR, "1.5", "50000", "150", "0.2"),
        (LINEAR, "-1.5", "50000", "-150", "-0.2"),
        (LINEAR, "0", None, "0", None),
        (LINEAR, "1", "50000", None, None),
        (LINEAR, "1", "0", "5", None),
        (INVERSE, "20000", "13333.333333333333333333", "0.25", "16.666666666666666667"),
    ],
)
def test_unrealized_percent_is_of_the_cost_at_the_average(
    kind: InstrumentKind, quantity: str, average: str | None, unrealized: str | None, percent: str | None
) -> None:
    answer = unrealized_pnl_pct(
        instrument(kind=kind),
        quantity=D(quantity),
        average_price=None if average is None else D(average),
        unrealized_pnl=None if unrealized is None else D(unrealized),
    )
    assert answer == (None if percent is None else D(percent))
    if kind is INVERSE:
        assert answer == half_even(Fraction("0.25") * 100 * Fraction("13333.333333333333333333") / 20000, 18)


def test_time_held_is_whole_minutes_until_now_or_until_the_close() -> None:
    opened = NOW - timedelta(minutes=7, seconds=59)
    assert time_held_minutes(opened_at=opened, closed_at=None, now=NOW) == 7
    assert time_held_minutes(opened_at=opened, closed_at=opened + timedelta(seconds=60), now=NOW) == 1
    assert time_held_minutes(opened_at=None, closed_at=None, now=NOW) is None


def test_a_mark_is_stale_once_it_is_older_than_five_minutes() -> None:
    mark = Mark(D(1), NOW, "test")
    assert mark_state(mark, now=NOW + timedelta(seconds=300)) is MarkState.FRESH
    assert mark_state(mark, now=NOW + timedelta(seconds=300, microseconds=1)) is MarkState.STALE
    assert mark_state(mark, now=NOW + timedelta(seconds=2), stale_after=timedelta(seconds=1)) is MarkState.STALE
    assert mark_state(None, now=NOW) is MarkState.MISSING


def test_the_newer_price_time_wins_whatever_the_order_of_arrival() -> None:
    old, new = Mark(D(1), NOW, "a"), Mark(D(2), NOW + timedelta(seconds=1), "b")
    assert newer_mark(None, old) == old
    assert newer_mark(old, new) == new == newer_mark(new, old)
    assert newer_mark(old, Mark(D(3), NOW, "c")) == old


def test_marks_from_the_future_or_of_impossible_price_are_refused() -> None:
    check_mark(Mark(D(1), NOW + timedelta(seconds=5), "test"), instrument(), now=NOW)
    spread = Instrument(InstrumentName("SPREAD"), LINEAR, D(1), "USD", "USD", PriceRule.ANY)
    check_mark(Mark(D(-1), NOW, "test"), spread, now=NOW)
    for mark in (
        Mark(D(1), NOW + timedelta(seconds=5, microseconds=1), "test"),
        Mark(D(0), NOW, "test"),
        Mark(D(1), datetime(1969, 12, 31, tzinfo=UTC), "test"),
    ):
        with pytest.raises(InvalidField):
            check_mark(mark, instrument(), now=NOW)
