"""What was traded: round trips, lots and versions, with figures that the oracle confirms."""

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from steelyard.accounting.errors import NotFound
from steelyard.accounting.keys import Account, FillId, InstrumentName, Leg, trip_id
from steelyard.accounting.keys import Book as BookName
from steelyard.accounting.lots import Lot, LotMethod
from steelyard.accounting.round_trips import CostMethod, Direction
from steelyard.operations.ports import AccountRules
from steelyard.operations.read_trips import TripFilter
from tests.questions.books import START, Book, fill, funding, key, oracle, same

DESK = Account("desk")
MNQ = key("MNQ MAR26")
FLIPS = (
    fill("a", "5", "25000", of=MNQ, fee="2.50", minute=0),
    fill("b", "-8", "25050", of=MNQ, fee="4.00", minute=1),
    fill("c", "-3", "25040", of=MNQ, fee="1.50", minute=2),
    fill("d", "6", "25030", of=MNQ, fee="3.00", minute=3),
    fill("e", "2", "25000", of=MNQ, minute=4),
    fill("f", "1", "25010", of=MNQ, minute=5),
    fill("g", "-1", "25020", of=MNQ, minute=6),
)


@pytest.mark.parametrize("cost", list(CostMethod))
async def test_a_trips_figures_are_those_of_the_oracle(book: Book, cost: CostMethod) -> None:
    await book.record(*FLIPS, rules=AccountRules(DESK, cost_method=cost, lot_method=LotMethod.HIFO))
    page = (await book.trips.page(TripFilter(account=DESK), size=10)).value
    method = "AVERAGE" if cost is CostMethod.AVERAGE else "HIFO"
    theirs = {trip.first_entry_id: trip for trip in oracle(FLIPS)[MNQ].trips}
    assert [view.trip.opened.entry_id for view in page.rows] == ["e", "b", "a"]
    for view in page.rows:
        expected = theirs[view.trip.opened.entry_id]
        assert view.trip_id == trip_id(MNQ, expected.first_entry_id)
        assert view.trip.direction == expected.direction
        assert same(view.average_entry_price, expected.average_entry)
        assert same(view.average_exit_price, expected.average_exit)
        assert same(view.gross_realized_pnl, expected.gross_pnl[method])
        assert same(view.realized_pnl, expected.realized_pnl[method])
        assert same(view.net_realized_pnl, expected.net_pnl[method])
        assert same(view.trip.sums.fees, expected.fees)
        assert same(view.trip.max_quantity, expected.max_quantity)
        assert view.trip.fill_count == expected.fill_count
        if view.closed_at is not None:
            weighted, per_contract = view.points
            assert same(weighted, expected.points_weighted)
            assert per_contract is not None
            assert same(per_contract, expected.points_per_contract)


MANY = (
    *(fill(f"btc-{n}", "1" if n % 2 == 0 else "-1", "100", minute=n) for n in range(7)),
    *(
        fill(f"eth-{n}", "-1" if n % 2 == 0 else "1", "100", of=key("ETHUSDT", book="swing"), minute=n)
        for n in range(5)
    ),
    fill("long", "1", "100", of=key(leg="LONG"), minute=30),
    fill("elsewhere", "1", "100", of=key(account="other"), minute=1),
)
OPEN, LAST = ["long", "btc-6", "eth-4"], ["btc-4", "eth-2", "btc-2", "eth-0", "btc-0"]
MINUTE = timedelta(minutes=1)
FIVE = START + 5 * MINUTE
BTC = InstrumentName("BTCUSDT")


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (TripFilter(account=DESK), [*OPEN, *LAST]),
        (TripFilter(account=DESK, is_open=True), OPEN),
        (TripFilter(account=DESK, is_open=False), LAST),
        (TripFilter(account=DESK, book=BookName("swing")), ["eth-4", "eth-2", "eth-0"]),
        (
            TripFilter(account=DESK, instrument=InstrumentName("BTCUSDT"), leg=Leg.NET),
            ["btc-6", "btc-4", "btc-2", "btc-0"],
        ),
        (TripFilter(account=DESK, direction=Direction.SHORT), ["eth-4", "eth-2", "eth-0"]),
        (
            TripFilter(account=DESK, closed_from=START + 3 * MINUTE, closed_before=FIVE),
            ["btc-2", "eth-2"],
        ),
        (TripFilter(account=DESK, closed_from=START + 4 * MINUTE), ["btc-4"]),
        (TripFilter(account=Account("nobody")), []),
    ],
)
async def test_open_trips_come_first_then_the_latest_closed(book: Book, wanted: TripFilter, names: list[str]) -> None:
    await book.record(*MANY)
    for size in (1, 2, 3, 10):
        found: list[str] = []
        after = None
        while True:
            page = (await book.trips.page(wanted, size=size, after=after)).value
            assert len(page.rows) <= size
            found += [view.trip.opened.entry_id for view in page.rows]
            after = page.next_after
            if after is None:
                break
        # Trips that close at one instant have no order of their own.
        assert sorted(found) == sorted(names)
        closed = [name for name in found if name not in OPEN]
        assert found[: len(found) - len(closed)] == [name for name in names if name in OPEN]
        assert sorted(closed, key=lambda name: -int(name[-1])) == closed


async def test_one_trip_is_explained_by_its_fills_and_execution_pairs(book: Book) -> None:
    await book.record(*FLIPS, rules=AccountRules(DESK, lot_method=LotMethod.LIFO))
    await book.adjust(funding("3", of=MNQ, minute=2.5))
    for theirs in oracle(FLIPS)[MNQ].trips:
        detail = (await book.trips.get(DESK, trip_id(MNQ, theirs.first_entry_id))).value
        found = detail.explanation
        assert found is not None
        assert [(each.entry_id, each.relation.lower()) for each in found.fills] == [
            (entry_id, relation.lower()) for entry_id, relation in theirs.relations
        ]
        pairs = theirs.pairs["LIFO"]
        assert [(pair.entry_id, pair.exit_id) for pair in found.pairs] == [(p.entry_id, p.exit_id) for p in pairs]
        for ours, expected in zip(found.pairs, pairs, strict=True):
            assert same(ours.quantity, expected.quantity)
            assert same(ours.gross, expected.gross_pnl)
            assert same(ours.entry_fee, expected.entry_fee)
            assert same(ours.exit_fee, expected.exit_fee)
    with pytest.raises(NotFound):
        await book.trips.get(DESK, UUID(int=0))


async def test_a_leg_trip_with_an_excess_after_its_end_is_explained_too(book: Book) -> None:
    long = key(leg="LONG")
    fills = (
        fill("a", "2", "10", of=long, fee="1"),
        fill("b", "-3", "11", of=long, fee="0.3", minute=1),
        fill("c", "-1", "12", of=long, fee="0.4", minute=2),
        fill("d", "1", "12", of=long, minute=3),
    )
    await book.record(*fills)
    explanation = (await book.trips.get(DESK, trip_id(long, "a"))).value.explanation
    assert explanation is not None
    assert [each.entry_id for each in explanation.fills] == ["a", "b"]


async def test_a_long_trip_is_explained_off_the_event_loop(book: Book) -> None:
    await book.record(*(fill(f"f{n:04}", "1" if n % 3 else "-1", "10", minute=n) for n in range(1, 1100)))
    opening = (await book.trips.page(TripFilter(account=DESK), size=1)).value.rows[0]
    explanation = (await book.trips.get(DESK, opening.trip_id)).value.explanation
    assert explanation is not None
    assert len(explanation.fills) == opening.trip.fill_count > 1000


async def test_a_trip_whose_key_waits_to_be_folded_is_told_without_explanation(book: Book) -> None:
    await book.record(fill("a", "1", "10"))
    await book.store_only(fill("b", "1", "11", minute=1))
    detail = (await book.trips.get(DESK, trip_id(key(), "a"))).value
    assert detail.explanation is None
    assert detail.view.trip.entered_quantity == 1


async def test_lots_come_in_fold_order_page_by_page(book: Book) -> None:
    buys = [fill(f"buy-{n}", "2", str(100 + n), minute=n) for n in range(5)]
    await book.record(*buys, fill("sell", "-3", "110", minute=9))
    expected = oracle([*buys, fill("sell", "-3", "110", minute=9)])[key()].lots["FIFO"]
    for size in (1, 3, 10):
        found: list[Lot] = []
        after = None
        while True:
            page = (await book.trips.lots(key(), size=size, after=after)).value
            found += page.rows
            after = page.next_after
            if after is None:
                break
        assert [lot.opened.entry_id for lot in found] == [lot.entry_id for lot in expected]
        assert all(same(lot.quantity, theirs.quantity) for lot, theirs in zip(found, expected, strict=True))
        assert found[0].original_quantity == 2


async def test_lots_of_a_flat_position_are_none_and_of_an_unknown_one_not_found(book: Book) -> None:
    await book.record(fill("a", "1", "1"), fill("b", "-1", "1", minute=1))
    assert (await book.trips.lots(key(), size=5)).value.rows == []
    with pytest.raises(NotFound):
        await book.trips.lots(key("ETHUSDT"), size=5)


async def test_versions_come_newest_first_with_the_state_they_had(book: Book) -> None:
    await book.record(fill("a", "2", "10", fee="1"))
    await book.record(fill("b", "-2", "11", minute=1), fill("c", "-1", "12", minute=2))
    await book.adjust(funding("0.5", minute=3))
    await book.mark(BTCUSDT="20")
    page = (await book.events.page(key(), size=2)).value
    assert [(event.version, event.seq, event.cause, event.change) for event in page.rows] == [
        (3, 3, "adjustment", "UPDATED"),
        (2, 2, "fill", "UPDATED"),
    ]
    second = page.rows[1]
    assert (second.fill_ids, second.fill_count, second.cause_id) == (("b", "c"), 2, "b")
    assert (second.view().quantity, second.row.mark, second.row.version) == (Decimal(-1), None, 2)
    assert second.view().figures().gross_realized_pnl == 2
    rest = (await book.events.page(key(), size=2, after=page.next_after)).value
    assert [event.version for event in rest.rows] == [1]
    assert rest.next_after is None
    assert rest.rows[0].change == "ADDED"
    assert (rest.rows[0].row.lifetime.fees, rest.rows[0].row.average_price) == (Decimal(1), Decimal(10))


@pytest.mark.parametrize(
    ("first", "before", "versions"), [(2, None, [3, 2]), (0, 3, [2, 1]), (2, 3, [2]), (9, None, [])]
)
async def test_versions_can_be_narrowed(book: Book, first: int, before: int | None, versions: list[int]) -> None:
    for number in range(3):
        await book.record(fill(f"f{number}", "1", "1", minute=number))
    page = (await book.events.page(key(), version_from=first, version_before=before, size=9)).value
    assert [event.version for event in page.rows] == versions
    with pytest.raises(NotFound):
        await book.events.page(key("ETHUSDT"), size=1)


async def test_the_fill_ids_of_trips_are_found_by_their_first_fill(book: Book) -> None:
    await book.record(fill("only", "1", "1"))
    view = (await book.trips.page(TripFilter(account=DESK), size=1)).value.rows[0]
    assert view.trip_id == trip_id(key(), FillId("only"))
    assert view.average_exit_price is None
    assert view.points == (Decimal(0), None)
