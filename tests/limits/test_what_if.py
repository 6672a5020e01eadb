"""Orders before they are sent: the position they would make, and exposures in the worst case over what is working."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import chain, combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.accounting.entries import Entry, Side
from steelyard.accounting.errors import InvalidField, NumericLimit
from steelyard.accounting.fold import Fold, FoldRules
from steelyard.accounting.instruments import Instrument, InstrumentKind
from steelyard.accounting.keys import Account, Book, InstrumentName, Leg, PositionKey
from steelyard.accounting.limits import NO_RESULT, DayResult, LimitKind, LimitSet, RiskFigures, risk_figures
from steelyard.accounting.marks import Mark, MarkState
from steelyard.accounting.portfolio import PortfolioRow, portfolio_of
from steelyard.accounting.position import FoldState, cost
from steelyard.accounting.round_trips import CostMethod
from steelyard.accounting.what_if import Holding, Methods, Order, WhatIf, check_order, fill_order, what_if
from tests.accounting.cases import D, exact

NOW = datetime(2025, 6, 20, 9, tzinfo=UTC)
AVERAGE = Methods()
LOTS = Methods(CostMethod.LOTS)
NO_LIMITS = LimitSet(currency="USDT")


def instrument(
    name: str = "BTCUSDT", kind: InstrumentKind = InstrumentKind.LINEAR, multiplier: str = "1"
) -> Instrument:
    return Instrument(InstrumentName(name), kind, D(multiplier), "USDT", "USDT")


def key(name: str = "BTCUSDT", *, book: str = "main", leg: Leg = Leg.NET) -> PositionKey:
    return PositionKey(Account("a"), Book(book), InstrumentName(name), leg)


def entry(number: int, quantity: str | Decimal, price: str | Decimal, fee: str = "0") -> Entry:
    return Entry(NOW + timedelta(seconds=number), 0, f"f{number}", "FILL", Decimal(quantity), Decimal(price), D(fee))


def holding(
    *fills: tuple[str, str],
    of: PositionKey | None = None,
    mark: str | None = "100",
    what: Instrument | None = None,
) -> Holding:
    of = of or key()
    what = what or instrument(of.instrument)
    fold = Fold(FoldRules(what, of.leg))
    fold.feed([entry(number, quantity, price) for number, (quantity, price) in enumerate(fills)])
    known = None if mark is None else Mark(D(mark), NOW, "test")
    return Holding(key=of, instrument=what, state=fold.state(), mark=known)


def order(quantity: str, price: str | None = None, *, of: PositionKey | None = None, fee: str = "0") -> Order:
    delta = D(quantity)
    side = Side.BUY if delta > 0 else Side.SELL
    return Order(key=of or key(), side=side, quantity=abs(delta), price=None if price is None else D(price), fee=D(fee))


def held(*holdings: Holding, day: DayResult = NO_RESULT) -> RiskFigures:
    rows = [
        PortfolioRow(
            key=each.key,
            instrument=each.instrument,
            quantity=each.quantity,
            cost=cost(each.state, each.instrument, CostMethod.AVERAGE),
            mark=each.mark,
            mark_state=MarkState.FRESH,
        )
        for each in holdings
    ]
    return risk_figures(portfolio_of(rows, now=NOW, currencies=["USDT"]).currencies["USDT"], day)


def asked(
    of: Order, *holdings: Holding, working: tuple[Order, ...] = (), limits: LimitSet = NO_LIMITS, day: str = "0"
) -> WhatIf:
    known = {each.key: each for each in holdings}
    mine = known[of.key]
    assert mine.mark is not None
    price = mine.mark.price if of.price is None else of.price
    outcome = fill_order(mine, of, price=price, methods=AVERAGE, at=NOW)
    now = held(*holdings, day=DayResult(D(day)))
    return what_if(of, outcome=outcome, holdings=known, working=working, now=now, limits=limits)


@pytest.mark.parametrize(
    "before, quantity, price, fee, after, average, realized, why",
    [
        ((), "2", "90", "1", "2", "90", "0", "an opening fee is not realized"),
        ((("1", "48000"),), "0.5", "50000", "25", "1.5", "48666.666666666666666667", "0", "DOMAIN: increase"),
        ((("2", "50000"),), "-0.5", "51000", "25.50", "1.5", "50000", "474.50", "DOMAIN: reduce"),
        ((("1", "50000"),), "-3", "51000", "15", "-2", "51000", "995", "DOMAIN: flip, a third of the fee"),
        ((("1", "50000"),), "-1", "51000", "15", "0", None, "985", "close"),
    ],
)
def test_the_position_that_an_order_would_make(
    before: tuple[tuple[str, str], ...],
    quantity: str,
    price: str,
    fee: str,
    after: str,
    average: str | None,
    realized: str,
    why: str,
) -> None:
    mine = holding(*before)
    done = fill_order(mine, order(quantity, price, fee=fee), price=D(price), methods=AVERAGE, at=NOW)
    assert done.quantity_after == D(after), why
    assert done.average_price_after == (None if average is None else D(average)), why
    assert done.realized_pnl == D(realized), why
    assert done.gross_realized_pnl - done.net_realized_pnl == D(fee)


def test_without_lots_the_average_method_is_exact_and_with_them_both_are() -> None:
    mine = holding(("2", "100"), ("3", "110"))
    sale = order("-3", "120", fee="0.3")
    by_average = fill_order(mine, sale, price=D(120), methods=AVERAGE, at=NOW)
    bare = replace(mine, state=replace(mine.state, lots=()))
    without = fill_order(bare, sale, price=D(120), methods=AVERAGE, at=NOW)
    assert replace(without, after=by_average.after) == by_average
    assert exact(by_average.gross_realized_pnl, by_average.average_price_after) == exact(42, 106)
    by_lots = fill_order(mine, sale, price=D(120), methods=LOTS, at=NOW)
    assert exact(by_lots.gross_realized_pnl, by_lots.average_price_after) == exact(50, 110)


def test_an_order_that_closes_more_than_its_leg_holds_says_how_much() -> None:
    leg = key(leg=Leg.LONG)
    done = fill_order(holding(("2", "100"), of=leg), order("-5", "110", of=leg), price=D(110), methods=AVERAGE, at=NOW)
    assert exact(done.quantity_after, done.unmatched_quantity, done.gross_realized_pnl) == exact(0, 3, 20)


def test_the_order_moves_exposure_and_the_loss_of_the_day_and_names_what_it_would_break() -> None:
    limits = LimitSet(
        currency="USDT",
        gross_exposure_max=D(700),
        net_exposure_max=D(100),
        instrument_exposure_max=D(450),
        day_loss_max=D(30),
    )
    btc, eth = holding(("5", "104")), holding(("-2", "100"), of=key("ETHUSDT"))
    found = asked(order("-10", "100", fee="2"), btc, eth, limits=limits, day="-9")
    assert exact(found.now.gross_exposure, found.now.net_exposure) == exact(700, 300)
    assert exact(found.filled.gross_exposure, found.filled.net_exposure) == exact(700, 700)
    assert found.filled == found.worst
    assert found.worst.by_instrument == {"BTCUSDT": 500, "ETHUSDT": 200}
    assert found.worst.day.net_realized == -31
    assert found.worst.unrealized_pnl == 0
    assert [check.kind for check in found.limits_now.exceeded] == [
        LimitKind.NET_EXPOSURE,
        LimitKind.INSTRUMENT_EXPOSURE,
    ]
    assert [(check.kind, check.value) for check in found.newly_exceeded] == [(LimitKind.LOSS_PER_DAY, D(31))]
    assert [(check.kind, check.value) for check in found.worsened] == [(LimitKind.NET_EXPOSURE, D(700))]


def test_an_order_that_brings_a_value_back_breaks_nothing() -> None:
    limits = LimitSet(currency="USDT", gross_exposure_max=D(400))
    found = asked(order("-2"), holding(("5", "100")), limits=limits)
    assert (found.newly_exceeded, found.worsened, found.limits_worst.exceeded) == ((), (), ())


def test_a_leg_is_never_thought_of_beyond_flat() -> None:
    long, short = key(leg=Leg.LONG), key(leg=Leg.SHORT)
    working = (order("-9", of=long), order("9", of=short), order("1", of=short), order("-1", of=short))
    found = asked(
        order("1", of=long), holding(("2", "100"), of=long), holding(("-1", "100"), of=short), working=working
    )
    assert found.worst.gross_exposure == 500
    assert exact(found.worst.net_low, found.worst.net_high) == exact(-200, 300)


def test_orders_whose_numbers_cannot_be_right_are_refused() -> None:
    with pytest.raises(InvalidField, match=r"order\.quantity"):
        check_order(replace(order("1"), quantity=D(0)), instrument(), field="order")
    with pytest.raises(InvalidField, match=r"order\.price"):
        check_order(order("1", "-1"), instrument(), field="order")
    with pytest.raises(NumericLimit):
        check_order(order("10000000000", "10000000000"), instrument(), field="order")
    with pytest.raises(NumericLimit):
        check_order(order("1", fee="100000000000000000000"), instrument(), field="order")


deltas = st.sampled_from(["-7", "-3", "-1", "1", "2", "6"])
names = st.sampled_from(["BTCUSDT", "ETHUSDT"])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(names, deltas), max_size=3),
    st.tuples(names, deltas),
    st.lists(st.tuples(names, deltas), max_size=5),
)
def test_the_worst_case_is_that_over_all_subsets_of_working_orders(
    start: list[tuple[str, str]], mine: tuple[str, str], working: list[tuple[str, str]]
) -> None:
    marks = {"BTCUSDT": "100", "ETHUSDT": "30"}
    holdings = [
        holding(*((quantity, "90") for of, quantity in start if of == name), of=key(name), mark=mark)
        for name, mark in marks.items()
    ]
    orders = tuple(order(quantity, of=key(name)) for name, quantity in working)
    found = asked(order(mine[1], of=key(mine[0])), *holdings, working=orders)
    gross, net = [], []
    for chosen in chain.from_iterable(combinations(working, size) for size in range(len(working) + 1)):
        quantities = {each.key.instrument: Fraction(each.quantity) for each in holdings}
        for name, quantity in (mine, *chosen):
            quantities[InstrumentName(name)] += Fraction(quantity)
        worth = [quantity * Fraction(marks[name]) for name, quantity in quantities.items()]
        gross.append(sum(map(abs, worth)))
        net.append(sum(worth))
    assert Fraction(found.worst.gross_exposure) == max(gross)
    assert (Fraction(found.worst.net_low), Fraction(found.worst.net_high)) == (min(net), max(net))
    assert Fraction(found.filled.gross_exposure) == gross[0]


fills = st.lists(
    st.tuples(deltas, st.integers(90, 110), st.integers(0, 3)).map(lambda of: (of[0], str(of[1]), str(of[2]))),
    min_size=1,
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(fills, st.sampled_from(list(Leg)), st.sampled_from([AVERAGE, LOTS]), st.sampled_from(list(InstrumentKind)))
def test_what_if_equals_folding_the_fill(
    history: list[tuple[str, str, str]], leg: Leg, methods: Methods, kind: InstrumentKind
) -> None:
    what, of = instrument(kind=kind, multiplier="5"), key(leg=leg)
    entries = [entry(number, *each) for number, each in enumerate(history)]
    fold = Fold(FoldRules(what, leg, methods.lots))
    fold.feed(entries[:-1])
    before: FoldState = fold.state()
    fold.feed(entries[-1:])
    after = fold.state()
    quantity, price, fee = history[-1]
    mine = Holding(key=of, instrument=what, state=before, mark=Mark(D(100), NOW, "test"))
    done = fill_order(mine, order(quantity, price, of=of, fee=fee), price=D(price), methods=methods, at=NOW)
    assert done.after.lifetime == after.lifetime
    assert (done.after.quantity, done.after.average, done.after.cost_lots) == (
        after.quantity,
        after.average,
        after.cost_lots,
    )
    gained = after.lifetime.minus(before.lifetime)
    assert done.realized_pnl == gained.realized(methods.cost)
