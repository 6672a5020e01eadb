"""Execution pairs and relations of fills: worked examples, the oracle's pairs, and sums that must be exact."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.accounting.entries import Entry
from steelyard.accounting.errors import InvariantBroken
from steelyard.accounting.execution_pairs import Relation, TripExplanation, explain_trip
from steelyard.accounting.fold import Fold
from steelyard.accounting.instruments import InstrumentKind
from steelyard.accounting.keys import Leg
from steelyard.accounting.lots import LotMethod
from tests.accounting.cases import D, exact
from tests.accounting.histories import NINE, Step, Terms, fold_all, histories, in_order, opinion_on
from tests.accounting.histories import steps as fills

POINTS = Terms(multiplier="1")


def explain(
    steps: list[Step], *, trip: int = 0, terms: Terms = POINTS, lots: LotMethod = LotMethod.FIFO
) -> TripExplanation:
    chosen = fold_all(steps, terms, lot_method=lots).trips[trip]
    entries = [entry for entry in in_order(steps, terms) if entry.order >= chosen.opened]
    return explain_trip(chosen, entries, terms.rules(lots))


def told(found: TripExplanation) -> list[tuple[str, str, str]]:
    return [(pair.entry_id, pair.exit_id, f"{pair.quantity} {pair.gross}") for pair in found.pairs]


@pytest.mark.parametrize(
    "lots, pairs",
    [
        (LotMethod.FIFO, [("f0", "f3", "1 20"), ("f1", "f3", "1 10"), ("f1", "f4", "1 5"), ("f2", "f4", "2 20")]),
        (LotMethod.LIFO, [("f2", "f3", "2 30"), ("f1", "f4", "2 10"), ("f0", "f4", "1 15")]),
        (LotMethod.HIFO, [("f1", "f3", "2 20"), ("f2", "f4", "2 20"), ("f0", "f4", "1 15")]),
    ],
)
def test_an_exit_is_paired_with_lots_in_the_order_of_the_method(
    lots: LotMethod, pairs: list[tuple[str, str, str]]
) -> None:
    steps = fills("BUY 1 @100", "BUY 2 @110", "BUY 2 @105", "SELL 2 @120", "SELL 3 @115")
    assert told(explain(steps, lots=lots)) == pairs


def test_fees_are_shared_by_quantity_and_the_rest_stays_with_the_other_part() -> None:
    found = explain(fills("BUY 3 @100 fee 1", "SELL 1 @110 fee 0.5", "SELL 2 @110 fee 0.25"))
    third, rest = D("0.333333333333333333"), D("0.666666666666666667")
    assert [(pair.entry_fee, pair.exit_fee) for pair in found.pairs] == [(third, D("0.5")), (rest, D("0.25"))]
    assert found.pairs[0].net == 10 - third - D("0.5")
    assert exact(found.open_fees, found.unpaired_fees) == exact(0, 0)


def test_a_flip_is_in_both_trips_with_its_part_of_quantity_and_fee() -> None:
    steps = fills("BUY 1 @50000 fee 1", "SELL 3 @51000 fee 15", "BUY 2 @50500 fee 2")
    first, second = explain(steps), explain(steps, trip=1)
    assert [(fill.relation, fill.quantity, fill.fee) for fill in first.fills] == [
        (Relation.OPENED, D(1), D(1)),
        (Relation.REVERSED, D(-1), D(5)),
    ]
    assert [(fill.relation, fill.quantity, fill.fee) for fill in second.fills] == [
        (Relation.OPENED, D(-2), D(10)),
        (Relation.CLOSED, D(2), D(2)),
    ]
    assert told(first) == [("f0", "f1", "1 1000")]
    assert told(second) == [("f1", "f2", "2 1000")]


def test_each_fill_has_a_relation_and_open_lots_keep_their_fees() -> None:
    found = explain(fills("SELL 2 @100 fee 2", "SELL 2 @101 fee 3", "BUY 1 @99 fee 1"))
    assert [fill.relation for fill in found.fills] == [Relation.OPENED, Relation.INCREASED, Relation.DECREASED]
    assert (found.open_fees, told(found)) == (D(4), [("f0", "f2", "1 1")])


def test_what_an_adjustment_leaves_without_a_partner_is_told() -> None:
    steps = fills("BUY 2 @100 fee 2", "BUY 2 @110 fee 4")
    steps.append(Step(what="SET", name="a", minute=2, quantity="3", price="90"))
    steps.append(Step(what="SELL", name="s", minute=3, quantity="1", price="95", fee="1"))
    steps.append(Step(what="SET", name="b", minute=4, quantity="0"))
    found = explain(steps)
    assert told(found) == [("a", "s", "1 5")]
    assert found.pairs[0].entry_fee == 2
    assert found.unpaired_fees == 4


def test_the_excess_of_a_leg_stands_beside_the_pairs() -> None:
    terms = Terms(multiplier="1", leg=Leg.LONG)
    steps = fills("BUY 1 @100", "SELL 3 @110 fee 3", "SELL 1 @120 fee 7", "BUY 1 @100")
    found = explain(steps, terms=terms)
    assert [fill.relation for fill in found.fills] == [Relation.OPENED, Relation.CLOSED]
    assert (found.pairs[0].exit_fee, found.unpaired_fees) == (D(1), D(9))


def venue(minute: int, quantity: str, average: str) -> Entry:
    return Entry(Step(what="X", name="", minute=minute).at, 0, f"v{minute}", "VENUE", D(quantity), D(average), D(0))


def test_a_report_of_a_venue_moves_lots_only_where_it_differs() -> None:
    steps = fills("BUY 2 @100", "SELL 1 @110")
    bought, sold = in_order(steps, POINTS)
    for report, entry_price in ((venue(0, "2", "100.1"), 100), (venue(0, "2", "100.2"), D("100.2"))):
        entries = [bought, report, sold]
        fold = Fold(POINTS.rules())
        fold.feed(entries)
        trip = fold.state().trip
        assert trip is not None
        assert explain_trip(trip, entries, POINTS.rules()).pairs[0].entry_price == entry_price
        assert trip.is_adjusted is (entry_price != 100)


def test_entries_that_do_not_give_the_stored_trip_are_refused() -> None:
    steps = fills("BUY 1 @100", "SELL 1 @110")
    trip = fold_all(steps, POINTS).trips[0]
    other = replace(trip, sums=replace(trip.sums, gross_lots=D(11)))
    with pytest.raises(InvariantBroken, match="gross 10"):
        explain_trip(other, in_order(steps, POINTS), POINTS.rules())


@given(histories(), st.sampled_from(LotMethod))
def test_pairs_are_those_of_the_oracle_and_add_up(history: tuple[Terms, list[Step]], lots: LotMethod) -> None:
    terms, steps = history
    entries = in_order(steps, terms)
    trips = fold_all(steps, terms, lot_method=lots).trips
    for trip, opinion in zip(trips, opinion_on(steps, terms).trips, strict=True):
        found = explain_trip(trip, [entry for entry in entries if entry.order >= trip.opened], terms.rules(lots))
        assert [(fill.entry_id, fill.relation.lower()) for fill in found.fills] == list(opinion.relations)
        assert len(found.pairs) == len(opinion.pairs[lots.value])
        for pair, other in zip(found.pairs, opinion.pairs[lots.value], strict=True):
            assert (pair.entry_id, pair.exit_id) == (other.entry_id, other.exit_id)
            assert exact(pair.quantity, pair.entry_price, pair.exit_price) == exact(
                other.quantity, other.entry_price, other.exit_price
            )
            assert exact(pair.entry_fee, pair.exit_fee) == exact(other.entry_fee, other.exit_fee)
            gap = abs(Fraction(pair.gross) - other.gross_pnl)
            assert gap == 0 if terms.kind is InstrumentKind.LINEAR else gap < Fraction(1, 10**30)
        assert trip.opened_at >= NINE
