"""Limits against figures: every state of every limit, the worked portfolio, and a naive recomputation."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.accounting.errors import InvalidField
from steelyard.accounting.instruments import Instrument, InstrumentKind
from steelyard.accounting.keys import Account, Book, InstrumentName, Leg, PositionKey
from steelyard.accounting.limits import (
    NO_RESULT,
    DayResult,
    LimitKind,
    LimitSet,
    LimitState,
    RiskFigures,
    RiskRow,
    check_limit_set,
    evaluate_limits,
    figures_of,
    results_since,
    risk_figures,
)
from steelyard.accounting.portfolio import PortfolioRow, portfolio_of
from steelyard.accounting.round_trips import CostMethod, Sums
from tests.accounting.cases import D, exact
from tests.accounting.test_portfolio import NOW, instrument, row

BTC, ETH, XRP = (InstrumentName(name) for name in ("BTCUSDT", "ETHUSDT", "XRPUSDT"))
WITHIN, EXCEEDED, UNKNOWN = LimitState.WITHIN, LimitState.EXCEEDED, LimitState.UNKNOWN


def figures(*, net: str = "0", missing: str = "", unrealized: str = "0", day: DayResult = NO_RESULT) -> RiskFigures:
    """BTC worth 60 and ETH worth 40, with prices missing of what is named."""
    return RiskFigures(
        gross_exposure=D(100),
        net_low=D(net),
        net_high=D(net),
        by_instrument={BTC: D(60), ETH: D(40), **({XRP: D(0)} if missing else {})},
        missing_prices=frozenset(filter(None, [missing])),
        unrealized_pnl=D(unrealized),
        day=day,
    )


def states(limits: LimitSet, of: RiskFigures) -> dict[tuple[LimitKind, str | None], LimitState]:
    return {check.subject: check.state for check in evaluate_limits(limits, of).checks}


@pytest.mark.parametrize(
    "limit, missing, state, why",
    [
        (None, "", None, "a limit that is not set is never exceeded"),
        (None, "XRPUSDT", None, "nor is it unknown"),
        ("100.000000000000000001", "", WITHIN, "below"),
        ("100", "", WITHIN, "equal is not exceeded"),
        ("99.999999999999999999", "", EXCEEDED, "strictly greater"),
        ("0", "", EXCEEDED, "zero is a limit, not the absence of one"),
        ("101", "XRPUSDT", UNKNOWN, "what is missing may exceed it"),
        ("100", "XRPUSDT", UNKNOWN, "any further exposure would"),
        ("99", "XRPUSDT", EXCEEDED, "what is known is enough"),
    ],
)
def test_gross_exposure(limit: str | None, missing: str, state: LimitState | None, why: str) -> None:
    limits = LimitSet(currency="USDT", gross_exposure_max=None if limit is None else D(limit))
    assert states(limits, figures(missing=missing)).get((LimitKind.GROSS_EXPOSURE, None)) is state, why


@pytest.mark.parametrize(
    "limit, net, missing, state, why",
    [
        ("50", "50", "", WITHIN, "equal is not exceeded"),
        ("50", "51", "", EXCEEDED, "long"),
        ("50", "-51", "", EXCEEDED, "short counts by its magnitude"),
        ("50", "-50", "", WITHIN, "short, equal"),
        ("50", "10", "XRPUSDT", UNKNOWN, "what is missing may add to it"),
        ("50", "51", "XRPUSDT", UNKNOWN, "what is missing may offset it"),
    ],
)
def test_net_exposure(limit: str, net: str, missing: str, state: LimitState, why: str) -> None:
    limits = LimitSet(currency="USDT", net_exposure_max=D(limit))
    assert states(limits, figures(net=net, missing=missing)) == {(LimitKind.NET_EXPOSURE, None): state}, why


def test_an_instrument_has_its_own_limit_or_the_common_one() -> None:
    limits = LimitSet(
        currency="USDT",
        instrument_exposure_max=D(50),
        instrument_exposures_max={ETH: D(30), InstrumentName("SOLUSDT"): D(5)},
    )
    kind = LimitKind.INSTRUMENT_EXPOSURE
    assert states(limits, figures(missing="XRPUSDT")) == {
        (kind, "BTCUSDT"): EXCEEDED,
        (kind, "ETHUSDT"): EXCEEDED,
        (kind, "SOLUSDT"): WITHIN,
        (kind, "XRPUSDT"): UNKNOWN,
    }
    only_named = LimitSet(currency="USDT", instrument_exposures_max={ETH: D(40)})
    assert states(only_named, figures(missing="XRPUSDT")) == {(kind, "ETHUSDT"): WITHIN}


UNVALUED_COST = DayResult(D(-101), (("BNB", D(1)),))
UNVALUED_REBATE = DayResult(D(-101), (("BNB", D(-1)),))
UNFOLDED = DayResult(D(-101), is_complete=False)


@pytest.mark.parametrize(
    "day, unrealized, counts, missing, state, why",
    [
        (DayResult(D(-100)), "0", False, "", WITHIN, "equal is not exceeded"),
        (DayResult(D("-100.01")), "0", False, "", EXCEEDED, "strictly more"),
        (DayResult(D(500)), "0", False, "", WITHIN, "a gain is no loss"),
        (DayResult(D(-60)), "-41", False, "", WITHIN, "unrealized counts only if asked"),
        (DayResult(D(-60)), "-41", True, "", EXCEEDED, "unrealized, if asked"),
        (DayResult(D(-160)), "70", True, "", WITHIN, "it may also help"),
        (DayResult(D(-101)), "0", False, "XRPUSDT", EXCEEDED, "prices do not matter without unrealized"),
        (DayResult(D(-101)), "0", True, "XRPUSDT", UNKNOWN, "a missing price may offset the loss"),
        (UNVALUED_COST, "0", False, "", EXCEEDED, "a fee without a rate can only add to the loss"),
        (DayResult(D(-99), (("BNB", D(1)),)), "0", False, "", UNKNOWN, "and may be what exceeds it"),
        (UNVALUED_REBATE, "0", False, "", UNKNOWN, "a rebate without a rate may offset it"),
        (UNFOLDED, "0", False, "", UNKNOWN, "entries that are not folded may be anything"),
    ],
)
def test_loss_per_day(day: DayResult, unrealized: str, counts: bool, missing: str, state: LimitState, why: str) -> None:
    limits = LimitSet(currency="USDT", day_loss_max=D(100), counts_unrealized=counts)
    found = states(limits, figures(missing=missing, unrealized=unrealized, day=day))
    assert found == {(LimitKind.LOSS_PER_DAY, None): state}, why


@pytest.mark.parametrize(
    "gross, net, missing, state",
    [
        (None, None, "XRPUSDT", WITHIN),
        ("100", None, "", WITHIN),
        ("100", "10", "XRPUSDT", UNKNOWN),
        ("99", "10", "XRPUSDT", EXCEEDED),
    ],
)
def test_the_aggregate_is_the_worst_that_is_certain(
    gross: str | None, net: str | None, missing: str, state: LimitState
) -> None:
    limits = LimitSet(
        currency="USDT",
        gross_exposure_max=None if gross is None else D(gross),
        net_exposure_max=None if net is None else D(net),
    )
    assert evaluate_limits(limits, figures(missing=missing)).limit_exceeded is state


def test_the_worked_portfolio_is_incomplete_and_its_known_part_decides() -> None:
    rows = [
        row(instrument("BTCUSDT"), "1", mark="100", cost=D(95), realized_pnl=D(2)),
        row(instrument("ETHUSDT"), "-0.5", mark="200", cost=D(-103), realized_pnl=D(-1)),
        row(instrument("XRPUSDT"), "2", cost=D(1)),
    ]
    held = risk_figures(portfolio_of(rows, now=NOW).currencies["USDT"])
    assert exact(held.gross_exposure, held.net_exposure, held.missing_prices) == exact(200, 0, {"XRPUSDT"})
    assert held.by_instrument == {BTC: 100, ETH: 100, XRP: 0}
    limits = LimitSet(currency="USDT", gross_exposure_max=D(199), net_exposure_max=D(0), instrument_exposure_max=D(100))
    assert list(states(limits, held).values()) == [EXCEEDED, UNKNOWN, WITHIN, WITHIN, UNKNOWN]
    assert evaluate_limits(limits, held).limit_exceeded is EXCEEDED


def test_the_result_of_a_day_is_what_its_fills_added_without_funding() -> None:
    before = Sums(gross_average=D(100), gross_lots=D(90), fees=D(7), funding=D(3), unvalued_fees=(("BNB", D(1)),))
    what = instrument("BTCUSDT")
    one, other = (PositionKey(Account("a"), Book(book), what.name, Leg.NET) for book in ("main", "swing"))
    rest = RiskRow(one, what, D(0), D(0), D(0), D(150), D(9), (("BNB", D(3)), ("OKB", D(5))), 3, NOW, None, None)
    bare = rest._replace(key=other, gross_realized=D(-10), fees=D(1), unvalued_fees=())
    found = results_since({one: before, other: Sums()}, [rest, bare], method=CostMethod.AVERAGE)
    assert found == {"USDT": DayResult(D(37), (("BNB", D(2)), ("OKB", D(5))))}
    by_lots = results_since({one: before, other: before}, [rest, bare], method=CostMethod.LOTS)
    assert by_lots["USDT"] == DayResult(D(-36), (("BNB", D(1)), ("OKB", D(5))))


@pytest.mark.parametrize("bad", ["-0.01", "100000000000000000000"])
def test_a_limit_is_neither_negative_nor_beyond_what_is_kept(bad: str) -> None:
    with pytest.raises(InvalidField):
        check_limit_set(LimitSet(currency="USDT", day_loss_max=D(bad)))
    with pytest.raises(InvalidField):
        check_limit_set(LimitSet(currency="USDT", instrument_exposures_max={BTC: D(bad)}))
    check_limit_set(LimitSet(currency="USDT", gross_exposure_max=D(0)))


amounts = st.decimals(min_value=0, max_value=300, places=1, allow_nan=False)
positions = st.lists(
    st.tuples(
        st.sampled_from(["BTCUSDT", "ETHUSDT", "XRPUSDT"]),
        st.decimals(min_value=-9, max_value=9, places=1),
        st.booleans(),
    ),
    max_size=8,
)


def naive(rows: list[PortfolioRow], limits: LimitSet) -> LimitState:
    """The aggregate, worked out from the rows by definition."""
    held = [each for each in rows if each.quantity]
    worth = {id(each): Fraction(each.quantity) * Fraction(each.mark.price) for each in held if each.mark}
    known = [abs(value) for value in worth.values()]
    is_missing = any(each.mark is None for each in held)
    found = []

    def judge(value: Fraction, limit: Decimal | None, *, missing: bool, grows: bool) -> None:
        if limit is not None:
            over = value > Fraction(limit)
            found.append(EXCEEDED if over and (grows or not missing) else UNKNOWN if missing else WITHIN)

    judge(sum(known, Fraction()), limits.gross_exposure_max, missing=is_missing, grows=True)
    judge(abs(sum(worth.values(), Fraction())), limits.net_exposure_max, missing=is_missing, grows=False)
    for name in {each.key.instrument for each in held}:
        mine = [each for each in held if each.key.instrument == name]
        value = sum((abs(worth[id(each)]) for each in mine if each.mark), Fraction())
        judge(value, limits.of_instrument(name), missing=any(each.mark is None for each in mine), grows=True)
    return EXCEEDED if EXCEEDED in found else UNKNOWN if UNKNOWN in found else WITHIN


@settings(max_examples=300, deadline=None)
@given(positions, st.none() | amounts, st.none() | amounts, st.none() | amounts, st.none() | amounts)
def test_evaluation_equals_a_naive_recomputation(
    held: list[tuple[str, Decimal, bool]],
    gross: Decimal | None,
    net: Decimal | None,
    common: Decimal | None,
    of_btc: Decimal | None,
) -> None:
    marks = {"BTCUSDT": "31.5", "ETHUSDT": "7"}
    if any(not has_mark for name, _, has_mark in held if name == "ETHUSDT"):
        del marks["ETHUSDT"]
    kind = InstrumentKind.LINEAR
    rows = [
        row(Instrument(InstrumentName(name), kind, D(1), "USDT", "USDT"), str(quantity), mark=marks.get(name))
        for name, quantity, _ in held
    ]
    limits = LimitSet(
        currency="USDT",
        gross_exposure_max=gross,
        net_exposure_max=net,
        instrument_exposure_max=common,
        instrument_exposures_max={} if of_btc is None else {BTC: of_btc},
    )
    portfolio = portfolio_of(rows, now=NOW, currencies=["USDT"]).currencies["USDT"]
    assert evaluate_limits(limits, risk_figures(portfolio)).limit_exceeded is naive(rows, limits)
    assert figures_of(map(risk_row, rows)).get("USDT", RiskFigures()) == risk_figures(portfolio)


def risk_row(of: PortfolioRow) -> RiskRow:
    """The same position as limits read it."""
    price = None if of.mark is None else of.mark.price
    return RiskRow(of.key, of.instrument, of.quantity, D(0), of.cost, D(0), D(0), (), 0, None, price, None)
