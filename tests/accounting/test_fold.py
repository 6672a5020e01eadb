"""Every worked example of the domain, as tables: fills in, position and trips out."""

from itertools import permutations

import pytest

from steelyard.accounting.entries import Entry
from steelyard.accounting.fold import Fold
from steelyard.accounting.instruments import InstrumentKind, notional
from steelyard.accounting.keys import Book, Leg, trip_id
from steelyard.accounting.lots import LotMethod
from steelyard.accounting.position import EMPTY, FoldState, average_entry, cost, exposure, unrealized
from steelyard.accounting.round_trips import CostMethod, Direction
from tests.accounting.cases import D, exact
from tests.accounting.histories import Step, Terms, fold_all, steps

COIN = Terms(multiplier="1")
MNQ = Terms(multiplier="2")
AVERAGE, LOTS = CostMethod.AVERAGE, CostMethod.LOTS


def figures(texts: str, terms: Terms = COIN, method: CostMethod = AVERAGE) -> tuple[FoldState, list[str]]:
    """The state, and [quantity, average, gross, realized, net] as texts, after `;`-separated fills."""
    state = fold_all(steps(*texts.split("; ")), terms).state
    sums = state.lifetime
    numbers = (
        state.quantity,
        average_entry(state, terms.instrument, method),
        sums.gross(method),
        sums.realized(method),
        sums.net(method),
    )
    return state, [str(None if number is None else number.normalize() + 0) for number in numbers]


@pytest.mark.parametrize(
    "fills, quantity, average, gross, realized, net, why",
    [
        ("BUY 1 @48000; BUY 0.5 @50000 fee 25", "1.5", "48666.666666666666666667", 0, 0, -25, "an increase moves only"),
        ("BUY 2 @50000; SELL 0.5 @51000 fee 25.50", "1.5", "50000", 500, "474.5", "474.5", "average untouched"),
        ("BUY 1 @50000; SELL 3 @51000 fee 15", -2, 51000, 1000, 995, 985, "a flip: closing share 5, opening share 10"),
        ("SELL 1 @50000; SELL 1 @51000", -2, 50500, 0, 0, 0, "the average of a short is positive"),
        ("SELL 2 @50500; BUY 2 @50000 fee 1", 0, None, 1000, 999, 999, "a closed short"),
        ("BUY 1 @100 fee 3", 1, 100, 0, 0, -3, "an opening fee leaves realized unchanged"),
        ("BUY 1 @100 fee -3; SELL 1 @100 fee -1", 0, None, 0, 1, 4, "rebates are negative fees"),
        ("BUY 33 @1; BUY 33 @2; BUY 34 @3; SELL 1 @5", 99, "2.01", "2.99", "2.99", "2.99", "the average does not move"),
        ("BUY 1 @1; BUY 2 @2; SELL 1 @3; SELL 2 @3", 0, None, 4, 4, 4, "at the close all remaining cost is relieved"),
        ("BUY 1 @100; FUND -2.5; SELL 1 @101; FUND 1", 0, None, 1, 1, "-0.5", "funding counts in net only"),
        ("SET 2 @100; SELL 1 @110", 1, 100, 10, 10, 10, "an opening balance"),
        ("BUY 2 @100; SET 3 @90; SELL 3 @91", 0, None, 3, 3, 3, "an adjustment realizes nothing"),
        ("BUY 2 @100; SELL 1 @110; SET - @90; SELL 1 @91", 0, None, 11, 11, 11, "an average alone keeps the quantity"),
        ("BUY 2 @100; SET 0; BUY 1 @50", 1, 50, 0, 0, 0, "removed without a fill"),
        ("BUY 2 @100; SET -1 @120; BUY 1 @110", 0, None, 10, 10, 10, "an adjustment may change the sign"),
        ("SET 0; SET - @5; BUY 1 @7", 1, 7, 0, 0, 0, "adjustments that find nothing to set"),
    ],
)
def test_what_fills_make_of_a_position(
    fills: str, quantity: object, average: object, gross: object, realized: object, net: object, why: str
) -> None:
    _, found = figures(fills)
    expected = (quantity, average, gross, realized, net)
    assert found == [str(None if each is None else D(str(each)).normalize() + 0) for each in expected], why


def test_average_and_fifo_lots_stand_side_by_side() -> None:
    fills = "BUY 2 @25000; BUY 3 @25010; SELL 2 @25030"
    assert figures(fills, MNQ, LOTS)[1][:3] == ["3", "25010", "120"]
    assert figures(fills, MNQ, AVERAGE)[1][:3] == ["3", "25006", "96"]
    state, _ = figures(fills, MNQ)
    assert [(lot.opened.entry_id, lot.quantity, lot.original_quantity) for lot in state.lots] == [("f1", D(3), D(3))]


def test_a_flip_splits_the_fill_over_two_trips() -> None:
    fills = (
        "BUY 5 @25000 fee 2.50",
        "SELL 8 @25050 fee 4.00",
        "SELL 3 @25040 fee 1.50",
        "BUY 6 @25030 fee 3.00",
    )
    long, short = fold_all(steps(*fills), MNQ).trips
    assert (long.direction, short.direction) == (Direction.LONG, Direction.SHORT)
    assert exact(long.entered_quantity, long.sums.gross_lots, long.sums.fees) == exact(5, 500, 5)
    assert exact(short.entered_quantity, short.sums.gross_lots, short.sums.fees) == exact(6, 180, 6)
    assert short.average_entry_price(MNQ.instrument) == 25045
    assert short.average_exit_price(MNQ.instrument) == 25030
    assert long.closed_at == short.opened_at
    assert [long.fill_count, short.fill_count] == [2, 3]
    assert [long.is_flip, short.is_flip] == [False, True]


def test_two_trips_of_six_are_never_one_of_twelve() -> None:
    fills = "BUY 6 @1; SELL 1 @1; SELL 1 @1; SELL 2 @1; SELL 2 @1; BUY 6 @1; SELL 6 @1"
    trips = fold_all(steps(*fills.split("; ")), COIN).trips
    assert [exact(trip.max_quantity, trip.entered_quantity, trip.exited_quantity) for trip in trips] == [[6, 6, 6]] * 2
    assert [trip.direction for trip in trips] == [Direction.LONG] * 2


def test_three_fills_of_one_second_give_the_same_in_any_order_of_arrival() -> None:
    fills = [
        Step(what="BUY", name="f1", quantity="1", price="25000"),
        Step(what="SELL", name="f2", quantity="1", price="25001"),
        Step(what="BUY", name="f3", quantity="1", price="25002"),
    ]
    for arrival in permutations(fills):
        closed, current = fold_all(arrival, MNQ).trips
        assert exact(closed.sums.gross_lots, closed.open_quantity) == exact(2, 0)
        assert current.is_open
        assert current.average_entry_price(MNQ.instrument) == 25002


def test_entries_of_one_instant_go_by_sequence_and_then_by_the_bytes_of_their_ids() -> None:
    fills = [
        Step(what="BUY", name="z", sequence=1, quantity="1", price="1"),
        Step(what="SELL", name="b", sequence=2, quantity="1", price="2"),
        Step(what="BUY", name="Z", sequence=2, quantity="1", price="3"),
    ]
    state = fold_all(fills, COIN).state
    assert [lot.opened.entry_id for lot in state.lots] == ["Z"]
    assert state.last is not None
    assert state.last.entry_id == "b"


def test_an_inverse_contract_is_held_at_the_harmonic_average() -> None:
    terms = Terms(kind=InstrumentKind.INVERSE, multiplier="1")
    state = fold_all(steps("BUY 10000 @10000", "BUY 10000 @20000"), terms).state
    assert cost(state, terms.instrument, AVERAGE) == D("1.5")
    assert average_entry(state, terms.instrument, AVERAGE) == D("13333.333333333333333333")
    assert unrealized(state, terms.instrument, mark=D(16000), method=AVERAGE) == D("0.25")
    assert (
        exposure(state, terms.instrument, mark=D(16000)) == D("1.25") == notional(terms.instrument, D(20000), D(16000))
    )


def test_unrealized_is_zero_when_flat_and_unknown_without_a_mark() -> None:
    held = fold_all(steps("BUY 1 @100"), COIN).state
    for method in CostMethod:
        assert unrealized(held, COIN.instrument, mark=D(90), method=method) == -10
        assert unrealized(held, COIN.instrument, mark=None, method=method) is None
        assert unrealized(EMPTY, COIN.instrument, mark=None, method=method) == 0
    assert exposure(held, COIN.instrument, mark=None) is None
    assert exposure(EMPTY, COIN.instrument, mark=None) == 0


@pytest.mark.parametrize(
    "leg, fills, quantity, unmatched, trips",
    [
        (Leg.LONG, "BUY 1 @100; SELL 3 @110", 0, 2, 1),
        (Leg.LONG, "SELL 2 @100; BUY 1 @90", 1, 2, 1),
        (Leg.LONG, "SELL 2 @100", 0, 2, 0),
        (Leg.SHORT, "SELL 1 @100; BUY 3 @90; SELL 1 @95", -1, 2, 2),
        (Leg.SHORT, "BUY 2 @100; FUND 1; SELL 1 @100", -1, 2, 1),
    ],
)
def test_the_excess_on_a_leg_is_kept_as_unmatched(
    leg: Leg, fills: str, quantity: int, unmatched: int, trips: int
) -> None:
    folded = fold_all(steps(*fills.split("; ")), Terms(multiplier="1", leg=leg))
    assert exact(folded.state.quantity, folded.state.lifetime.unmatched) == exact(quantity, unmatched)
    assert len(folded.trips) == trips


def test_earlier_fills_absorb_what_was_unmatched() -> None:
    late = Step(what="BUY", name="late", minute=-1, quantity="2", price="100")
    terms = Terms(multiplier="1", leg=Leg.LONG)
    fills = steps("BUY 1 @100", "SELL 3 @110")
    assert fold_all(fills, terms).state.lifetime.unmatched == 2
    assert fold_all([*fills, late], terms).state.lifetime.unmatched == 0


def test_a_fee_in_another_currency_is_valued_by_its_rate_or_stands_apart() -> None:
    valued = Step(what="BUY", name="a", quantity="1", price="100", fee="0.001", fee_currency="BNB", fee_rate="600.5")
    unknown = Step(what="SELL", name="b", minute=1, quantity="3", price="110", fee="0.003", fee_currency="BNB")
    folded = fold_all([valued, unknown], COIN)
    assert folded.state.lifetime.fees == D("0.6005")
    assert folded.state.lifetime.unvalued_fees == (("BNB", D("0.003")),)
    assert [trip.sums.unvalued_fees for trip in folded.trips] == [(("BNB", D("0.001")),), (("BNB", D("0.002")),)]
    assert [trip.sums.fees_complete for trip in folded.trips] == [False, False]
    again = Step(what="SELL", name="c", minute=-1, quantity="1", price="1", fee="1", fee_currency="BNB")
    on_leg = fold_all([again], Terms(leg=Leg.LONG)).state
    assert (on_leg.lifetime.unvalued_fees, on_leg.trip) == ((("BNB", D(1)),), None)


def test_funding_goes_to_the_trip_open_then_else_to_the_last_else_to_the_position_alone() -> None:
    folded = fold_all(steps("FUND 1", "BUY 1 @100", "FUND 2", "SELL 1 @100", "FUND 4", "BUY 1 @100"), COIN)
    assert [trip.sums.funding for trip in folded.trips] == [6, 0]
    assert folded.state.lifetime.funding == 7
    assert folded.state.settled.funding == 7


def test_adjusted_trips_are_flagged_and_hold_one_lot() -> None:
    folded = fold_all(steps("BUY 1 @100", "BUY 1 @110", "SET 3 @90", "SELL 3 @95", "BUY 1 @1"), COIN)
    assert [trip.is_adjusted for trip in folded.trips] == [True, False]
    assert exact(folded.trips[0].entered_quantity, folded.trips[0].exited_quantity) == exact(3, 3)
    state = fold_all(steps("BUY 1 @100", "BUY 1 @110", "SET 3 @90"), COIN).state
    assert [(lot.opened.entry_id, lot.quantity, lot.price) for lot in state.lots] == [("f2", D(3), D(90))]
    assert [cost(state, COIN.instrument, method) for method in CostMethod] == [270, 270]


def test_what_an_adjustment_takes_away_counts_as_exited_at_the_average_held() -> None:
    (trip,) = fold_all(steps("BUY 1 @100", "BUY 3 @200", "SET 2 @50", "SET 0"), COIN).trips
    assert exact(trip.entered_quantity, trip.exited_quantity, trip.open_quantity) == exact(4, 4, 0)
    assert trip.average_exit_price(COIN.instrument) == D("112.5")
    assert exact(trip.sums.gross_average, trip.sums.cash_average) == exact(0, 0)


@pytest.mark.parametrize(
    "reported, average, is_adjusted",
    [
        ("50050", "50000", False),
        ("50050.01", "50050.01", True),
        ("49950", "50000", False),
        ("49949.99", "49949.99", True),
    ],
)
def test_a_venue_replaces_the_average_only_where_it_differs_by_more_than_a_thousandth(
    reported: str, average: str, is_adjusted: bool
) -> None:
    bought = Step(what="BUY", name="f", quantity="1", price="50000").entry(COIN)
    report = Entry(bought.executed_at, 1, "v", "VENUE", D(1), D(reported), D(0))
    fold = Fold(COIN.rules())
    fold.feed([bought, report])
    state = fold.state()
    assert state.average == fold.average == D(average)
    assert state.trip is not None
    assert state.trip.is_adjusted is is_adjusted


def test_a_venue_sets_the_size_and_each_method_keeps_its_average() -> None:
    bought = [step.entry(COIN) for step in steps("BUY 2 @100", "BUY 2 @110", "SELL 2 @120")]
    report = Entry(bought[-1].executed_at, 1, "v", "VENUE", D(1), D(105), D(0))
    fold = Fold(COIN.rules())
    fold.feed([*bought, report])
    state = fold.state()
    assert [average_entry(state, COIN.instrument, method) for method in (AVERAGE, LOTS)] == [105, 110]
    assert exact(state.lifetime.gross_average, state.lifetime.gross_lots) == exact(30, 40)
    away = Entry(bought[-1].executed_at, 2, "w", "VENUE", D(0), None, D(0))
    fold.feed([away])
    assert fold.state().quantity == 0
    assert fold.average is None


def test_a_trip_is_named_by_its_key_and_first_entry() -> None:
    first, second = fold_all(steps("BUY 1 @100", "SELL 2 @110"), COIN).trips
    assert first.id_under(COIN.key) == trip_id(COIN.key, "f0")
    assert second.id_under(COIN.key) == trip_id(COIN.key, "f1")
    assert first.id_under(COIN.key) != first.id_under(COIN.key._replace(book=Book("desk")))


def test_the_open_trip_has_no_average_exit_and_names_its_newest_entry() -> None:
    trip = fold_all(steps("BUY 2 @100", "SELL 1 @110", "FUND 1"), COIN).trips[0]
    assert trip.average_exit_price(COIN.instrument) is None
    assert (trip.last.entry_id, trip.is_open, trip.open_quantity) == ("f2", True, D(1))


@pytest.mark.parametrize(
    "method, first_taken, left",
    [(LotMethod.FIFO, 100, ["f1", "f2", "f3"]), (LotMethod.LIFO, 105, ["f0", "f1", "f2"])],
)
def test_the_lot_method_chooses_what_is_closed_first(method: LotMethod, first_taken: int, left: list[str]) -> None:
    fills = steps("BUY 1 @100", "BUY 1 @110", "BUY 1 @110", "BUY 1 @105", "SELL 1 @110")
    state = fold_all(fills, COIN, lot_method=method).state
    assert [lot.opened.entry_id for lot in state.lots] == left
    assert state.lifetime.gross_lots == 110 - first_taken


def test_hifo_takes_the_highest_of_a_long_and_the_lowest_of_a_short_and_ties_first_in_first_out() -> None:
    long = steps("BUY 1 @100", "BUY 1 @110", "BUY 1 @110", "BUY 1 @105", "SELL 1 @110")
    assert [lot.opened.entry_id for lot in fold_all(long, COIN, lot_method=LotMethod.HIFO).state.lots] == [
        "f0",
        "f2",
        "f3",
    ]
    short = steps("SELL 1 @100", "SELL 1 @90", "SELL 1 @90", "SELL 1 @95", "BUY 1 @80")
    assert [lot.opened.entry_id for lot in fold_all(short, COIN, lot_method=LotMethod.HIFO).state.lots] == [
        "f0",
        "f2",
        "f3",
    ]
