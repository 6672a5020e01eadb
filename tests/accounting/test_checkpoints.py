"""A refold from any legal start, stopping early or not, equals the fold from the start, digit for digit."""

from collections.abc import Iterator, Sequence
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.accounting.checkpoints import (
    RefoldStart,
    choose_start,
    finish,
    start_at_checkpoint,
    start_at_trip,
    start_from_nothing,
    stop_points,
)
from steelyard.accounting.entries import Entry
from steelyard.accounting.errors import InvariantBroken
from steelyard.accounting.fold import Checkpoint, Fold
from steelyard.accounting.keys import Leg, OrderKey
from steelyard.accounting.lots import LotMethod
from steelyard.accounting.position import EMPTY
from tests.accounting.histories import (
    Folded,
    Step,
    Terms,
    entries_from,
    fill_steps,
    fold_all,
    folded,
    histories,
    in_order,
    other_steps,
    rename,
    steps,
)

EVERY = 3


@st.composite
def corrections(draw: st.DrawFn) -> tuple[Terms, list[Step], list[Step]]:
    """A history, and the same after entries were removed, changed and inserted."""
    terms, steps = draw(histories(longest=20))
    fates = draw(st.lists(st.sampled_from(["keep"] * 12 + ["drop", "change"]), min_size=20, max_size=20))
    new = st.one_of(fill_steps(), fill_steps(), other_steps(terms.leg))
    changed = []
    for step, fate in zip(steps, fates, strict=False):
        if fate == "keep":
            changed.append(step)
        elif fate == "change":
            changed.append(rename(draw(new), step.name))
    late = draw(st.lists(new, min_size=0 if changed != steps else 1, max_size=2))
    return terms, steps, changed + [rename(each, f"a{place}") for place, each in enumerate(late)]


def changed_orders(before: Sequence[Entry], after: Sequence[Entry]) -> list[OrderKey]:
    return [entry.order for entry in set(before) ^ set(after)]


def last_fill_before(entries: Sequence[Entry], order: OrderKey) -> datetime | None:
    return max((each.executed_at for each in entries if each.kind == "FILL" and each.order < order), default=None)


def newest_before(checkpoints: Sequence[Checkpoint], order: OrderKey) -> Checkpoint | None:
    return max((each for each in checkpoints if each.order < order), key=lambda each: each.order, default=None)


def legal_starts(stored: Folded, before: Sequence[Entry], first_change: OrderKey) -> Iterator[RefoldStart]:
    yield start_from_nothing()
    for place, trip in enumerate(stored.trips):
        if trip.opened < first_change:
            previous = stored.trips[place - 1] if place else None
            known = last_fill_before(before, trip.opened)
            yield start_at_trip(stored.state, stored.trips[place:], previous=previous, last_fill_at=known)
    for checkpoint in stored.checkpoints:
        if checkpoint.order < first_change:
            inside = checkpoint.state.trip
            assert inside is not None
            place = [trip.opened for trip in stored.trips].index(inside.opened)
            yield start_at_checkpoint(stored.state, checkpoint, trips_from=stored.trips[place:])


def refold(start: RefoldStart, stored: Folded, after: Sequence[Entry], fold: Fold) -> Folded:
    """What is stored after the refold: trips outside of the replaced stretch, and those that the fold gives."""
    again = folded(fold, entries_from(start, after))
    state = finish(stored.state, fold, trips_from=stored.trips)
    first = start.replaces_from
    kept = [trip for trip in stored.trips if first is not None and trip.opened < first]
    rest = []
    if fold.stopped_at is not None:
        rest = [trip for trip in stored.trips if trip.opened >= fold.stopped_at[0]]
        assert state.trip == rest[-1]
    return Folded(state, kept + again.trips + rest, [])


@given(corrections(), st.sampled_from(LotMethod))
def test_a_refold_from_any_start_equals_the_fold_from_the_start(
    correction: tuple[Terms, list[Step], list[Step]], lots: LotMethod
) -> None:
    terms, old, new = correction
    before, after = in_order(old, terms), in_order(new, terms)
    orders = changed_orders(before, after)
    if not orders:
        return
    stored = fold_all(old, terms, lot_method=lots, checkpoint_every=EVERY)
    expected = fold_all(new, terms, lot_method=lots)
    points = stop_points(stored.trips, after=max(orders))
    for start in legal_starts(stored, before, min(orders)):
        for stops in (frozenset(), points):
            again = refold(start, stored, after, start.fold(terms.rules(lots), stop_at=stops))
            assert again.state == expected.state
            assert again.trips == expected.trips


@given(corrections(), st.sampled_from(LotMethod))
def test_the_chosen_start_is_legal_and_the_latest(
    correction: tuple[Terms, list[Step], list[Step]], lots: LotMethod
) -> None:
    terms, old, new = correction
    before, after = in_order(old, terms), in_order(new, terms)
    orders = changed_orders(before, after)
    if not orders:
        return
    first, last = min(orders), max(orders)
    stored = fold_all(old, terms, lot_method=lots, checkpoint_every=EVERY)
    place = max((at for at, trip in enumerate(stored.trips) if trip.opened < first), default=None)
    start = choose_start(
        stored.state,
        first_change=first,
        trips_from=[] if place is None else stored.trips[place:],
        previous=stored.trips[place - 1] if place else None,
        checkpoint=max(
            (each for each in stored.checkpoints if each.order < first), key=lambda c: c.order, default=None
        ),
        last_fill_at=last_fill_before(before, first if place is None else stored.trips[place].opened),
    )
    again = refold(start, stored, after, start.fold(terms.rules(lots), stop_at=stop_points(stored.trips, after=last)))
    expected = fold_all(new, terms, lot_method=lots)
    assert again.state == expected.state
    assert again.trips == expected.trips
    starts = [each.from_order for each in legal_starts(stored, before, first) if each.from_order is not None]
    assert start.from_order == max(starts, default=None)


@given(histories(longest=20), st.sampled_from(LotMethod), st.integers(0, 20))
def test_going_on_from_a_stored_state_equals_the_fold_from_the_start(
    history: tuple[Terms, list[Step]], lots: LotMethod, cut: int
) -> None:
    terms, steps = history
    entries = in_order(steps, terms)
    begun = Fold(terms.rules(lots), checkpoint_every=EVERY)
    first = folded(begun, entries[:cut])
    again = Fold(terms.rules(lots), first.state, checkpoint_every=EVERY, since_checkpoint=begun.since_checkpoint)
    second = folded(again, entries[cut:])
    whole = fold_all(steps, terms, lot_method=lots, checkpoint_every=EVERY)
    assert second.state == whole.state
    kept = first.trips[:-1] if first.state.trip is not None else first.trips
    assert kept + second.trips == whole.trips
    assert first.checkpoints + second.checkpoints == whole.checkpoints
    assert again.since_checkpoint == begun.since_checkpoint or cut < len(entries)


NET = Terms()
THREE_TRIPS = steps("BUY 1 @100", "SELL 1 @110", "BUY 1 @120", "SELL 3 @130", "BUY 2 @125", "BUY 1 @90")


def test_a_fill_between_two_trips_starts_at_the_trip_before_and_stops_at_the_next_flat_point() -> None:
    stored = fold_all(THREE_TRIPS, NET)
    late = [
        Step(what="BUY", name="late0", minute=1, sequence=5, quantity="1", price="1"),
        Step(what="SELL", name="late1", minute=1, sequence=6, quantity="1", price="2"),
    ]
    after = in_order(THREE_TRIPS + late, NET)
    start = start_at_trip(stored.state, stored.trips, previous=None)
    fold = start.fold(NET.rules(), stop_at=stop_points(stored.trips, after=late[1].entry(NET).order))
    fold.feed(entries_from(start, after))
    assert fold.stopped_at == stored.trips[1].flat_point
    assert fold.count == 4
    state = finish(stored.state, fold, trips_from=stored.trips)
    assert state == fold_all(THREE_TRIPS + late, NET).state
    assert state.lifetime.gross_average == stored.state.lifetime.gross_average + 2


def test_a_flip_is_split_again_where_a_refold_begins_inside_it() -> None:
    stored = fold_all(THREE_TRIPS, NET)
    flipped = stored.trips[2]
    assert flipped.is_flip
    start = start_at_trip(stored.state, stored.trips[2:], previous=stored.trips[1])
    assert start.flip_part == flipped.opening_quantity == -2
    fold = start.fold(NET.rules())
    assert not fold.feed([])
    assert folded(fold, entries_from(start, in_order(THREE_TRIPS, NET))).state == stored.state


def test_checkpoints_are_taken_inside_long_trips_and_less_often_where_lots_are_many() -> None:
    many = steps(*["BUY 1 @100"] * 20)
    checkpoints = fold_all(many, NET, checkpoint_every=4).checkpoints
    assert [len(each.state.lots) for each in checkpoints] == [4, 8, 16]
    assert all(each.state.settled == EMPTY.settled for each in checkpoints)


def test_starts_that_do_not_fit_are_refused_or_passed_over() -> None:
    stored = fold_all(THREE_TRIPS, NET, checkpoint_every=1)
    first, last = stored.trips[0], stored.trips[-1]
    inside = stored.checkpoints[0]
    with pytest.raises(InvariantBroken, match="checkpoint"):
        start_at_checkpoint(stored.state, inside, trips_from=[last])
    with pytest.raises(InvariantBroken, match="last of the stored trips"):
        start_at_trip(stored.state, [first], previous=None)
    late = in_order(THREE_TRIPS, NET)[-1].order
    start = choose_start(stored.state, first_change=late, trips_from=stored.trips[2:], checkpoint=inside)
    assert start.from_order == stored.trips[2].opened
    assert choose_start(stored.state, first_change=first.opened, trips_from=stored.trips) == start_from_nothing()


def test_a_stop_at_an_unknown_flat_point_is_refused() -> None:
    stored = fold_all(THREE_TRIPS, NET)
    fold = start_from_nothing().fold(NET.rules(), stop_at=frozenset([stored.trips[1].flat_point]))
    assert fold.feed(in_order(THREE_TRIPS, NET))
    with pytest.raises(InvariantBroken, match="flat point"):
        finish(stored.state, fold, trips_from=stored.trips[2:])


def test_removing_everything_leaves_an_empty_state() -> None:
    assert Fold(Terms(leg=Leg.LONG).rules()).state() == EMPTY
