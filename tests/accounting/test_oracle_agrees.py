"""Every figure of random histories against the oracle's replay with exact fractions, and the laws that both obey."""

from decimal import Decimal
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.accounting.checkpoints import start_at_checkpoint
from steelyard.accounting.instruments import InstrumentKind
from steelyard.accounting.keys import Leg
from steelyard.accounting.lots import LotMethod
from steelyard.accounting.position import assert_identity, assert_leg, average_entry, cost, unrealized
from steelyard.accounting.round_trips import CostMethod, RoundTrip, points_of
from steelyard.accounting.units import decimal_text
from tests.accounting.cases import D, exact
from tests.accounting.histories import (
    Folded,
    Step,
    Terms,
    entries_from,
    fold_all,
    folded,
    histories,
    in_order,
    opinion_on,
)
from tests.oracle import OraclePosition, OracleTrip, half_even, microseconds

TOLERANCE = Fraction(1, 10**30)
METHODS = st.sampled_from(LotMethod)


def near(ours: Decimal | None, theirs: Fraction | None, terms: Terms) -> bool:
    """Equal; for inverse contracts to 1e-30."""
    if ours is None or theirs is None:
        return ours is None and theirs is None
    difference = abs(Fraction(ours) - theirs)
    return difference == 0 if terms.kind is InstrumentKind.LINEAR else difference < TOLERANCE


def compare_position(ours: Folded, theirs: OraclePosition, terms: Terms, *, lots: LotMethod) -> None:
    state, instrument, lifetime = ours.state, terms.instrument, ours.state.lifetime
    assert state.quantity == theirs.quantity
    for method, name in ((CostMethod.AVERAGE, "AVERAGE"), (CostMethod.LOTS, lots.value)):
        figures = theirs.figures[name]
        assert near(cost(state, instrument, method), figures.cost, terms)
        assert near(average_entry(state, instrument, method), figures.average, terms)
        assert near(lifetime.gross(method), figures.gross_realized_pnl, terms)
        assert near(lifetime.realized(method), figures.realized_pnl, terms)
        assert near(lifetime.net(method), figures.net_realized_pnl, terms)
        cash = lifetime.cash_average if method is CostMethod.AVERAGE else lifetime.cash_lots
        assert near(cash, figures.cash_flow, terms)
        for mark in ("7", "20000.5"):
            at_mark = unrealized(state, instrument, mark=D(mark), method=method)
            assert near(at_mark, theirs.unrealized(Fraction(mark), method=name), terms)
    assert lifetime.unmatched == theirs.unmatched_quantity
    assert exact(lifetime.fees, lifetime.funding) == [theirs.fees, theirs.funding]
    assert dict(lifetime.unvalued_fees) == {name: fee for name, fee in theirs.unvalued_fees.items() if fee}
    assert lifetime.fill_count == theirs.fill_count
    times = [None if at is None else microseconds(at) for at in (state.opened_at, state.closed_at)]
    assert times == [theirs.opened_at, theirs.closed_at]
    found = [exact(lot.opened.entry_id, lot.quantity, lot.price) for lot in state.lots]
    assert found == [[lot.entry_id, abs(lot.quantity), lot.price] for lot in theirs.lots[lots.value]]


def compare_trip(ours: RoundTrip, theirs: OracleTrip, terms: Terms, *, lots: LotMethod, is_matched: bool) -> None:
    instrument = terms.instrument
    assert (ours.opened.entry_id, ours.direction) == (theirs.first_entry_id, theirs.direction)
    assert ours.entered_quantity == theirs.entered_quantity
    assert ours.exited_quantity == theirs.exited_quantity
    assert exact(ours.open_quantity, ours.max_quantity) == [theirs.open_quantity, theirs.max_quantity]
    assert near(ours.average_entry_price(instrument), theirs.average_entry, terms)
    assert near(ours.average_exit_price(instrument), theirs.average_exit, terms)
    assert (ours.is_adjusted, ours.is_open) == (theirs.adjusted, theirs.closed_at is None)
    assert microseconds(ours.opened_at) == theirs.opened_at
    assert (None if ours.closed_at is None else microseconds(ours.closed_at)) == theirs.closed_at
    assert ours.sums.funding == theirs.funding
    for method, name in ((CostMethod.AVERAGE, "AVERAGE"), (CostMethod.LOTS, lots.value)):
        assert near(ours.sums.gross(method), theirs.gross_pnl[name], terms)
        if is_matched:  # what an excess on a leg costs stands with the trip it exceeds; the oracle keeps it apart
            assert near(ours.sums.realized(method), theirs.realized_pnl[name], terms)
            assert near(ours.sums.net(method), theirs.net_pnl[name], terms)
    if is_matched:
        assert ours.sums.fees == theirs.fees
        assert ours.fill_count == theirs.fill_count
        assert dict(ours.sums.unvalued_fees) == {name: fee for name, fee in theirs.unvalued_fees.items() if fee}
    if terms.kind is InstrumentKind.LINEAR and theirs.points_weighted is not None and not theirs.adjusted:
        assert theirs.points_per_contract is not None
        weighted, per_contract = points_of(ours, instrument, CostMethod.LOTS)
        assert weighted == half_even(theirs.points_weighted, 18)
        assert per_contract == half_even(theirs.points_per_contract, 18)


@given(histories(), METHODS)
def test_the_oracle_agrees_with_every_figure(history: tuple[Terms, list[Step]], lots: LotMethod) -> None:
    terms, steps = history
    ours, theirs = fold_all(steps, terms, lot_method=lots), opinion_on(steps, terms)
    compare_position(ours, theirs, terms, lots=lots)
    assert len(ours.trips) == len(theirs.trips)
    for mine, other in zip(ours.trips, theirs.trips, strict=True):
        compare_trip(mine, other, terms, lots=lots, is_matched=not theirs.unmatched_quantity)


@given(histories(), METHODS)
def test_gross_plus_unrealized_is_cash_flow_plus_value(history: tuple[Terms, list[Step]], lots: LotMethod) -> None:
    terms, steps = history
    state = fold_all(steps, terms, lot_method=lots).state
    assert_identity(state, terms.instrument)
    assert_leg(state, terms.leg)


@given(histories(), METHODS, st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_the_same_state(
    history: tuple[Terms, list[Step]], lots: LotMethod, random: Random
) -> None:
    terms, steps = history
    shuffled = list(steps)
    random.shuffle(shuffled)
    assert fold_all(shuffled, terms, lot_method=lots) == fold_all(steps, terms, lot_method=lots)


@given(histories(only_fills=True), METHODS)
def test_mirrored_sides_negate_the_result(history: tuple[Terms, list[Step]], lots: LotMethod) -> None:
    terms, steps = history
    mirrored_leg = {Leg.LONG: Leg.SHORT, Leg.SHORT: Leg.LONG}.get(terms.leg, Leg.NET)
    mirrored = Terms(kind=terms.kind, multiplier=terms.multiplier, leg=mirrored_leg)
    swap = {"BUY": "SELL", "SELL": "BUY"}
    turned = [
        Step(**{name: getattr(step, name) for name in Step.__slots__} | {"what": swap[step.what]}) for step in steps
    ]
    ours, other = fold_all(steps, terms, lot_method=lots), fold_all(turned, mirrored, lot_method=lots)
    assert ours.state.quantity == other.state.quantity.copy_negate()
    assert ours.state.average == other.state.average
    ours_sums, other_sums = ours.state.lifetime, other.state.lifetime
    assert ours_sums.gross_average == other_sums.gross_average.copy_negate()
    assert len(ours.trips) == len(other.trips)
    assert (ours_sums.fees, ours_sums.unmatched) == (other_sums.fees, other_sums.unmatched)
    if lots is not LotMethod.HIFO:  # highest first for longs, lowest for shorts, at the same prices: no mirror
        assert ours_sums.gross_lots == other_sums.gross_lots.copy_negate()


@given(histories(only_fills=True), METHODS)
def test_methods_agree_when_flat(history: tuple[Terms, list[Step]], lots: LotMethod) -> None:
    terms, steps = history
    for trip in fold_all(steps, terms, lot_method=lots).trips:
        if not trip.is_open:
            assert near(trip.sums.gross_average, Fraction(trip.sums.gross_lots), terms)


@given(histories(only_fills=True, longest=10), METHODS, st.integers(0, 9))
def test_splitting_a_fill_in_two_changes_nothing_beyond_stated_rounding(
    history: tuple[Terms, list[Step]], lots: LotMethod, which: int
) -> None:
    terms, steps = history
    if not steps:
        return
    # Parts stay neighbours: all entries get a minute of their own.
    spread = [
        Step(**{name: getattr(step, name) for name in Step.__slots__} | {"minute": place, "sequence": 0})
        for place, step in enumerate(steps)
    ]
    step = spread[which % len(spread)]
    fields = {name: getattr(step, name) for name in Step.__slots__}
    half = {"quantity": str(D(step.quantity or "0") / 2), "fee": str(D(step.fee) / 2)}
    if len(half["quantity"].partition(".")[2]) > 18 or len(half["fee"].partition(".")[2]) > 18 or "E" in half["fee"]:
        return
    parts = [Step(**fields | half | {"name": step.name + part}) for part in ("a", "b")]
    whole = fold_all(spread, terms, lot_method=lots).state
    split = fold_all([each for each in spread if each is not step] + parts, terms, lot_method=lots).state
    assert whole.quantity == split.quantity
    assert abs(whole.lifetime.fees - split.lifetime.fees) <= D("1e-17")
    for method in CostMethod:
        # An average of 18 places is rounded once more where a split increase is followed by a reduction.
        assert abs(whole.lifetime.gross(method) - split.lifetime.gross(method)) <= D("1e-12")
        values = [cost(state, terms.instrument, method) for state in (whole, split)]
        assert abs(values[0] - values[1]) <= D("1e-12")


@pytest.mark.parametrize("kind", InstrumentKind)
@pytest.mark.parametrize("lots", LotMethod)
def test_the_oracle_agrees_with_a_long_history(kind: InstrumentKind, lots: LotMethod) -> None:
    terms, chance, held = Terms(kind=kind, multiplier="0.5"), Random(7), D(0)
    fills = []
    for minute in range(400):
        # Held between long and short stretches, so that trips of many fills, flips and exact closes all come up.
        bound = D(chance.choice([1, 5, 60]))
        is_buy = held < 0 if abs(held) > bound else chance.random() < 0.5
        size = abs(held) if held and chance.random() < 0.1 else D(chance.randint(1, 9_999)).scaleb(-3)
        is_buy = held < 0 if size == abs(held) else is_buy
        held += size if is_buy else -size
        price = D(chance.randint(2_000_000, 2_100_000)).scaleb(-2)
        fee = D(chance.randint(-5, 99)).scaleb(-4)
        fills.append(
            Step(
                what="BUY" if is_buy else "SELL",
                name=f"f{minute}",
                minute=minute,
                quantity=decimal_text(size),
                price=decimal_text(price),
                fee=decimal_text(fee),
            )
        )
    ours, theirs = fold_all(fills, terms, lot_method=lots, checkpoint_every=10), opinion_on(fills, terms)
    compare_position(ours, theirs, terms, lots=lots)
    for mine, other in zip(ours.trips, theirs.trips, strict=True):
        compare_trip(mine, other, terms, lots=lots, is_matched=True)
    assert len(ours.trips) > 20
    assert ours.checkpoints
    rules = terms.rules(lots)
    entries = in_order(fills, terms)
    for checkpoint in ours.checkpoints:
        inside = checkpoint.state.trip
        assert inside is not None
        first = [trip.opened for trip in ours.trips].index(inside.opened)
        start = start_at_checkpoint(ours.state, checkpoint, trips_from=ours.trips[first:])
        again = folded(start.fold(rules), entries_from(start, entries))
        assert again.state == ours.state
        assert again.trips == ours.trips[first:]
