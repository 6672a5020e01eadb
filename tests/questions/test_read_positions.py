"""What is held: one position, many, and lists of them, with figures that the oracle confirms."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import pytest

from steelyard.accounting.errors import InvalidField, NotFound, NotYetVisible, StoreUnavailable
from steelyard.accounting.keys import Account, InstrumentName, Leg
from steelyard.accounting.keys import Book as BookName
from steelyard.accounting.lots import LotMethod
from steelyard.accounting.marks import MarkState
from steelyard.accounting.round_trips import CostMethod
from steelyard.operations.ports import AccountRules
from steelyard.operations.position_view import Detail
from steelyard.operations.read_positions import PositionFilter, PositionSide
from steelyard.operations.reading import Freshness
from tests.oracle import microseconds, number
from tests.oracle.portfolio import position_size_norm, time_held_minutes, unrealized_pnl_pct
from tests.questions.books import NOW, Book, fill, funding, key, oracle, same

MNQ = key("MNQ MAR26")
SCALPS = (
    fill("a", "2", "25000", of=MNQ, fee="1.55", minute=0),
    fill("b", "3", "25010", of=MNQ, fee="2.33", minute=1),
    fill("c", "-2", "25030", of=MNQ, fee="1.55", minute=2),
)
TWO = AccountRules(Account("desk"), cost_method=CostMethod.LOTS, lot_method=LotMethod.LIFO)


async def test_a_position_that_never_was_is_not_found(book: Book) -> None:
    with pytest.raises(NotFound):
        await book.positions.get(key())


@pytest.mark.parametrize("rules", [AccountRules(Account("desk")), TWO], ids=["average", "lots"])
async def test_both_methods_figures_are_those_of_the_oracle(book: Book, rules: AccountRules) -> None:
    await book.record(*SCALPS, rules=rules)
    await book.mark(**{"MNQ MAR26": "25040"})
    view = (await book.positions.get(MNQ)).value
    expected = oracle(SCALPS)[MNQ]
    assert view.figures() == view.figures(rules.cost_method)
    for method, name in ((CostMethod.AVERAGE, "AVERAGE"), (CostMethod.LOTS, rules.lot_method.value)):
        ours, theirs = view.figures(method), expected.figures[name]
        assert same(ours.average_price, theirs.average)
        assert same(ours.cost, theirs.cost)
        assert same(ours.gross_realized_pnl, theirs.gross_realized_pnl)
        assert same(ours.realized_pnl, theirs.realized_pnl)
        assert same(ours.net_realized_pnl, theirs.net_realized_pnl)
        assert same(ours.unrealized_pnl, expected.unrealized(number("25040"), method=name))
    assert view.quantity == 3
    assert (view.fill_count, view.row.version, view.fees) == (3, 1, Decimal("5.43"))
    assert view.notional == 3 * 25040 * 2


async def test_features_come_from_the_same_read_and_equal_the_oracle(book: Book) -> None:
    fills = (
        fill("a", "1.5", "50000", minute=0),
        fill("b", "-2", "3000", of=key("ETHUSDT"), minute=1),
        fill("c", "7", "1", of=key("XRPUSDT"), minute=1),
        fill("d", "10000", "10000", of=key("BTCUSD"), minute=1),
    )
    await book.record(*fills)
    await book.mark(BTCUSDT="50100", ETHUSDT="2900", BTCUSD="16000")
    held = oracle(fills)
    gross = number("1.5") * 50100 + 2 * 2900
    features = (await book.positions.get(key())).value.features()
    expected = held[key()]
    assert same(features.unrealized_pnl_pct, unrealized_pnl_pct(expected, mark=number("50100")))
    assert features.unrealized_pnl_pct == Decimal("0.2")
    assert features.time_held_minutes == time_held_minutes(expected, now=microseconds(NOW))
    assert same(features.position_size_norm, position_size_norm(number("75150"), gross_exposure=gross))
    inverse = (await book.positions.get(key("BTCUSD"))).value
    assert same(inverse.features().unrealized_pnl_pct, unrealized_pnl_pct(held[key("BTCUSD")], mark=number("16000")))
    assert inverse.features().position_size_norm == 1
    unmarked = (await book.positions.get(key("XRPUSDT"))).value
    assert unmarked.mark_state is MarkState.MISSING
    assert (unmarked.features().unrealized_pnl_pct, unmarked.features().position_size_norm) == (None, None)
    assert (unmarked.notional, unmarked.figures().unrealized_pnl, unmarked.figures().total_pnl) == (None, None, None)


async def test_a_mark_is_stale_after_300_seconds_and_still_counts(book: Book) -> None:
    await book.record(fill("a", "1", "50000"))
    await book.mark(BTCUSDT="50100")
    book.now = NOW + timedelta(seconds=300)
    assert (await book.positions.get(key())).value.mark_state is MarkState.FRESH
    book.now += timedelta(microseconds=1)
    view = (await book.positions.get(key())).value
    assert view.mark_state is MarkState.STALE
    assert view.figures().unrealized_pnl == 100


async def test_basic_detail_leaves_out_the_trip_and_full_brings_the_last_one(book: Book) -> None:
    await book.record(fill("a", "1", "10"), fill("b", "-1", "11", minute=1))
    await book.adjust(funding("0.5", minute=2))
    basic = (await book.positions.get(key(), detail=Detail.BASIC)).value
    full = (await book.positions.get(key())).value
    assert basic.row.trip is None
    assert full.row.trip is not None
    assert full.row.trip.sums.funding == Decimal("0.5")
    assert full.row.closed_at is not None
    assert basic.figures() == full.figures()
    assert full.figures().unrealized_pnl == 0
    assert (full.row.version, full.figures().net_realized_pnl) == (2, Decimal("1.5"))


async def test_an_answer_names_the_commits_it_has_seen(book: Book) -> None:
    first = await book.record(fill("a", "1", "10"))
    second = await book.record(fill("b", "1", "10", minute=1))
    answer = await book.positions.get(key())
    assert [commit.seq for commit in (*first, *second)] == [1, 2]
    assert answer.seen.commits == tuple(second)
    assert answer.seen.read_at == NOW


async def test_a_commit_that_is_not_there_yet_is_waited_for_until_the_deadline(book: Book) -> None:
    await book.record(fill("a", "1", "10"))
    with pytest.raises(NotYetVisible):
        await book.positions.get(key(), freshness=Freshness({Account("desk"): 2}, wait_s=0.05))
    asking = asyncio.create_task(book.positions.get(key(), freshness=Freshness({Account("desk"): 2}, wait_s=5)))
    await asyncio.sleep(0.03)
    await book.record(fill("b", "1", "10", minute=1))
    answer = await asking
    assert answer.value.quantity == 2
    assert [commit.seq for commit in answer.seen.commits] == [2]


async def test_a_position_born_in_the_commit_asked_for_is_waited_for_too(book: Book) -> None:
    asking = asyncio.create_task(book.positions.get(key(), freshness=Freshness({Account("desk"): 1}, wait_s=5)))
    await asyncio.sleep(0.03)
    await book.record(fill("a", "1", "10"))
    assert (await asking).value.quantity == 1


async def test_a_batch_comes_from_one_snapshot_in_the_order_of_the_keys(book: Book) -> None:
    other = key("ETHUSDT", account="other", book="swing")
    await book.record(fill("a", "1", "10"), fill("b", "2", "20", of=other))
    await book.mark(BTCUSDT="10", ETHUSDT="20")
    for detail in (Detail.BASIC, Detail.FULL):
        answer = await book.positions.batch([other, key("XRPUSDT"), key()], detail=detail)
        assert list(answer.value) == [other, key()]
        assert [commit.account for commit in answer.seen.commits] == ["desk", "other"]
        norm = None if detail is Detail.BASIC else 1
        assert all(view.features().position_size_norm == norm for view in answer.value.values())
    nothing = await book.positions.batch([key("XRPUSDT")])
    assert nothing.value == {}


@pytest.mark.parametrize("keys", [[], [key(), key()], [key(account=f"a{number}") for number in range(1001)]])
async def test_a_batch_takes_one_to_a_thousand_keys_each_once(book: Book, keys: list[object]) -> None:
    with pytest.raises(InvalidField):
        await book.positions.batch(keys)  # type: ignore[arg-type] # keys of any length


ZOO = (
    fill("1", "1", "10", of=key("BTCUSDT")),
    fill("2", "-2.5", "10", of=key("ETHUSDT")),
    fill("3", "4", "10", of=key("XRPUSDT", book="swing")),
    fill("4", "3", "10", of=key("BTCUSDT", account="hedge", leg="LONG")),
    fill("5", "-3", "10", of=key("BTCUSDT", account="hedge", leg="SHORT")),
    fill("6", "1", "10", of=key("ETHUSDT", account="hedge")),
    fill("7", "-1", "11", of=key("ETHUSDT", account="hedge"), minute=1),
)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (PositionFilter(), "desk BTC, desk ETH, desk XRP, hedge BTC L, hedge BTC S, hedge ETH"),
        (PositionFilter(accounts=[Account("desk")]), "desk BTC, desk ETH, desk XRP"),
        (PositionFilter(accounts=[Account("nobody")]), ""),
        (PositionFilter(book=BookName("swing")), "desk XRP"),
        (PositionFilter(instruments=[InstrumentName("BTCUSDT")]), "desk BTC, hedge BTC L, hedge BTC S"),
        (PositionFilter(legs=[Leg.LONG, Leg.SHORT]), "hedge BTC L, hedge BTC S"),
        (PositionFilter(side=PositionSide.LONG), "desk BTC, desk XRP, hedge BTC L"),
        (PositionFilter(side=PositionSide.SHORT), "desk ETH, hedge BTC S"),
        (PositionFilter(side=PositionSide.FLAT), "hedge ETH"),
        (PositionFilter(is_open_only=True), "desk BTC, desk ETH, desk XRP, hedge BTC L, hedge BTC S"),
        (PositionFilter(size_min=Decimal("2.5"), size_max=Decimal(3)), "desk ETH, hedge BTC L, hedge BTC S"),
        (PositionFilter(size_min=Decimal("2.6")), "desk XRP, hedge BTC L, hedge BTC S"),
        (PositionFilter(size_max=Decimal(1)), "desk BTC, hedge ETH"),
        (PositionFilter(labels={"team": "red"}), "desk ETH"),
        (PositionFilter(labels={"team": "red", "seat": "9"}), ""),
        (PositionFilter(accounts=[Account("hedge")], side=PositionSide.LONG, size_min=Decimal(3)), "hedge BTC L"),
    ],
)
async def test_filters_are_joined_by_and_and_pages_follow_the_key(
    book: Book, wanted: PositionFilter, names: str
) -> None:
    await book.record(*ZOO)
    async with book.database.write() as connection:
        await connection.execute("""UPDATE positions SET labels = '{"team": "red"}' WHERE quantity = -2.5""")
    for size, detail in ((1, Detail.FULL), (2, Detail.BASIC), (10, Detail.FULL)):
        found, after = [], None
        while True:
            page = (await book.positions.page(wanted, size=size, after=after, detail=detail)).value
            assert len(page.rows) <= size
            found += [view.row.key for view in page.rows]
            after = page.next_after
            if after is None:
                break
        legs = {Leg.NET: "", Leg.LONG: " L", Leg.SHORT: " S"}
        assert ", ".join(f"{of.account} {of.instrument[:3]}{legs[of.leg]}" for of in found) == names


async def test_a_list_brings_the_exposure_of_each_account_in_full_detail(book: Book) -> None:
    await book.record(*ZOO)
    await book.mark(BTCUSDT="10", ETHUSDT="10")
    page = (await book.positions.page(PositionFilter(), size=10, detail=Detail.FULL)).value
    norms = [view.features().position_size_norm for view in page.rows]
    assert norms[0] == (Decimal(10) / 35).quantize(Decimal(1).scaleb(-18))
    assert norms[2] is None
    assert [norm and round(norm, 6) for norm in norms[3:]] == [Decimal("0.5"), Decimal("0.5"), 0]


async def test_what_waits_for_a_refold_counts_in_quantity_and_fees_only(book: Book) -> None:
    await book.record(fill("a", "1", "10", fee="1"))
    await book.mark(BTCUSDT="12")
    async with book.database.write() as connection:
        await connection.execute(
            "UPDATE positions SET pending_quantity = 2, pending_fees = 0.25, pending_fills = 1, "
            "figures_state = 'REFOLDING'"
        )
    view = (await book.positions.get(key())).value
    assert (view.quantity, view.fees, view.notional) == (Decimal(3), Decimal("1.25"), Decimal(36))
    assert view.fill_count == 2
    assert (view.figures().unrealized_pnl, view.figures().net_realized_pnl) == (Decimal(2), Decimal("-1.25"))
    assert view.portfolio_row().quantity == 3


async def test_a_store_that_is_away_is_said_to_be_away(book: Book) -> None:
    from steelyard.operations.read_positions import ReadPositions
    from steelyard.operations.reading import Reading
    from steelyard.storage.database import Database
    from steelyard.storage.heads import HeadReads
    from steelyard.storage.position_reads import PositionReads

    away = Database("postgresql://nobody@127.0.0.1:1/nothing")
    positions = ReadPositions(PositionReads(away), Reading(HeadReads(away), book.clock), clock=book.clock)
    with pytest.raises(StoreUnavailable):
        await positions.get(key())
    with pytest.raises(StoreUnavailable):
        await positions.page(PositionFilter(), size=1)
    await away.close()
