"""Hedge mode end to end: a long and a short leg open at once beside a one-way account, through every call on positions.

MNQ is 2 USD a point. LONG: bought 3 at 25,000, sold 1 at 25,010: 2 held, gross 20. SHORT: sold 4 at 25,020, bought 1 at
25,000: -3 held, gross 40. One-way: bought 1 at 25,000.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from steelyard.app.assembly import Worker
from steelyard.app.settings import Settings
from steelyard.client import (
    Adjustment,
    AdjustmentKind,
    BuildMode,
    BuildState,
    Fill,
    Leg,
    LegOverrun,
    Mark,
    NotFound,
    Position,
    PositionKey,
    PositionMode,
    PositionSide,
    Side,
    Steelyard,
    VenueReport,
    VenueReportOutcome,
    WatchMode,
)
from steelyard.client.fill_calls import FillReceipt
from steelyard.client.records import Direction, PositionView, RoundTripState
from steelyard.client.risk_records import Order
from steelyard.telemetry.logs import silent_log
from tests.client.desk import START, make_fill, now

MNQ = "MNQ SEP25"
LONG = PositionKey("hedge", MNQ, leg=Leg.LONG)
SHORT = PositionKey("hedge", MNQ, leg=Leg.SHORT)
NET = PositionKey("plain", MNQ)
LATER = START + timedelta(hours=1)


def values(*each: object) -> list[object]:
    """Values side by side, so that decimals may be compared with whole numbers."""
    return list(each)


def leg_fill(number: int, leg: Leg, side: Side, quantity: str, price: str) -> Fill:
    return make_fill(number, side, quantity, price, account="hedge", leg=leg)


FILLS = (
    leg_fill(1, Leg.LONG, Side.BUY, "3", "25000"),
    leg_fill(2, Leg.SHORT, Side.SELL, "4", "25020"),
    leg_fill(3, Leg.LONG, Side.SELL, "1", "25010"),
    leg_fill(4, Leg.SHORT, Side.BUY, "1", "25000"),
    make_fill(5, account="plain"),
)


@pytest.fixture
async def legs(desk: Steelyard) -> Steelyard:
    """The book above; one fill by each way of recording."""
    first = await desk.record_fill(FILLS[0], return_position=True)
    assert first.receipt.key == LONG
    assert first.position is not None
    assert values(first.position.leg, first.position.mode) == [Leg.LONG, PositionMode.HEDGE]
    outcome = await desk.batch_record_fills(FILLS[1:3])
    assert [result.key for result in outcome.results if isinstance(result, FillReceipt)] == [SHORT, LONG]

    async def batches() -> AsyncIterator[tuple[Fill, ...]]:
        yield FILLS[3:]

    assert [answer.recorded async for answer in desk.stream_fills(batches())] == [2]
    return desk


async def held(desk: Steelyard) -> dict[PositionKey, Decimal]:
    keys = [LONG, SHORT, NET]
    found = (await desk.batch_get_positions(keys)).positions
    return {PositionKey(each.account, each.instrument, each.book, each.leg): each.quantity for each in found}


def _timeless(position: Position) -> Position:
    return replace(position, version=0, etag="", updated_at=None, last_snapshot_at=None, features=None)


async def test_each_leg_is_a_position_of_its_own(legs: Steelyard) -> None:
    long = await legs.get_position("hedge", MNQ, leg=Leg.LONG)
    short = await legs.get_position("hedge", MNQ, leg=Leg.SHORT)
    net = await legs.get_position("plain", MNQ)
    assert values(long.quantity, long.average_price, long.gross_realized_pnl) == [2, 25_000, 20]
    assert values(short.quantity, short.average_price, short.gross_realized_pnl) == [-3, 25_020, 40]
    assert values(net.quantity, net.mode) == [1, PositionMode.ONE_WAY]
    assert [each.mode for each in (long, short)] == [PositionMode.HEDGE] * 2
    assert [each.side for each in (long, short)] == [PositionSide.LONG, PositionSide.SHORT]
    assert [each.version for each in (long, short, net)] == [2, 2, 1]
    with pytest.raises(NotFound):
        await legs.get_position("hedge", MNQ)


async def test_lists_hold_legs_and_one_way_positions_side_by_side(legs: Steelyard) -> None:
    async def listed(*accounts: str, leg: Leg | None = None, mode: PositionMode | None = None) -> set[tuple[str, Leg]]:
        found = legs.list_positions(accounts, leg=leg, mode=mode, page_size=1)
        return {(each.account, each.leg) async for each in found}

    both = {("hedge", Leg.LONG), ("hedge", Leg.SHORT)}
    assert await listed() == await listed("hedge", "plain") == both | {("plain", Leg.NET)}
    assert await listed(mode=PositionMode.HEDGE) == both
    assert await listed(mode=PositionMode.ONE_WAY) == {("plain", Leg.NET)}
    assert await listed("hedge", leg=Leg.SHORT) == {("hedge", Leg.SHORT)}
    missing = PositionKey("hedge", MNQ)
    found = await legs.batch_get_positions([SHORT, missing, NET, LONG])
    assert [each.leg for each in found.positions] == [Leg.SHORT, Leg.NET, Leg.LONG]
    assert found.missing == (missing,)
    fills = [fill.fill_id async for fill in legs.list_fills("hedge", leg=Leg.SHORT)]
    assert fills == ["f0004", "f0002"]


async def test_lots_trips_and_versions_are_told_by_leg(legs: Steelyard) -> None:
    lots = {leg: [lot async for lot in legs.list_lots("hedge", MNQ, leg=leg)] for leg in (Leg.LONG, Leg.SHORT)}
    assert {leg: [values(lot.fill_id, abs(lot.quantity)) for lot in of] for leg, of in lots.items()} == {
        Leg.LONG: [["f0001", 2]],
        Leg.SHORT: [["f0002", 3]],
    }
    trips = {trip.key.leg: trip async for trip in legs.list_round_trips("hedge")}
    assert {leg: (trip.direction, trip.state) for leg, trip in trips.items()} == {
        Leg.LONG: (Direction.LONG, RoundTripState.OPEN),
        Leg.SHORT: (Direction.SHORT, RoundTripState.OPEN),
    }
    assert [trip.key async for trip in legs.list_round_trips("hedge", leg=Leg.SHORT)] == [SHORT]
    detail = await legs.get_round_trip("hedge", trips[Leg.SHORT].trip_id)
    assert detail.round_trip.key == SHORT
    assert [relation.fill_id for relation in detail.relations] == ["f0002", "f0004"]
    events = [event async for event in legs.list_position_events("hedge", MNQ, leg=Leg.SHORT)]
    assert [(event.key, event.version, event.fill_ids) for event in events] == [
        (SHORT, 2, ("f0004",)),
        (SHORT, 1, ("f0002",)),
    ]


async def test_sums_count_each_leg_for_itself(legs: Steelyard) -> None:
    await legs.report_marks([Mark(instrument=MNQ, price=Decimal(25_030), at=now(), source="test")])
    portfolio = await legs.get_portfolio(["hedge"], include_positions=True)
    (usd,) = portfolio.currencies
    assert values(usd.gross_exposure, usd.net_exposure) == [5 * 50_060, -50_060]
    assert values(usd.open_count, usd.long_count, usd.short_count) == [2, 1, 1]
    assert values(usd.gross_realized_pnl, usd.unrealized_pnl) == [60, 120 - 60]
    assert {each.leg for each in portfolio.positions} == {Leg.LONG, Leg.SHORT}
    (exposure,) = await legs.get_exposure(["hedge", "plain"])
    assert values(exposure.gross_exposure, exposure.net_exposure) == [6 * 50_060, 0]
    (group,) = exposure.by_instrument
    assert values(group.quantity, group.open_count) == [0, 3]
    (pnl,) = await legs.get_pnl(["hedge", "plain"])
    assert values(pnl.gross_realized_pnl, pnl.unrealized_pnl) == [60, 120]


async def test_an_order_is_checked_against_its_leg(legs: Steelyard) -> None:
    await legs.report_marks([Mark(instrument=MNQ, price=Decimal(25_030), at=now(), source="test")])
    closing = Order(
        account="hedge", instrument=MNQ, side=Side.SELL, quantity=Decimal(2), price=Decimal(25_030), leg=Leg.LONG
    )
    check = await legs.check_order(closing)
    assert values(check.outcome.quantity_before, check.outcome.quantity_after) == [2, 0]
    assert values(check.outcome.gross_realized_pnl, check.position_version) == [120, 2]
    assert check.filled.gross_exposure == 3 * 50_060
    too_much = replace(closing, side=Side.BUY, leg=Leg.SHORT, quantity=Decimal(5))
    outcome = (await legs.check_order(too_much)).outcome
    assert values(outcome.quantity_before, outcome.quantity_after, outcome.unmatched_quantity) == [-3, 0, 2]


async def test_an_excess_is_kept_apart_and_refused_only_on_demand(legs: Steelyard) -> None:
    excess = leg_fill(6, Leg.LONG, Side.SELL, "9", "25000")
    with pytest.raises(LegOverrun):
        await legs.record_fill(excess, reject_overrun=True)
    await legs.record_fill(excess)
    long = await legs.get_position("hedge", MNQ, leg=Leg.LONG)
    assert values(long.quantity, long.unmatched_quantity) == [0, 7]
    assert (await held(legs))[SHORT] == -3


async def test_a_correction_moves_a_fill_from_leg_to_leg(legs: Steelyard) -> None:
    moved = await legs.amend_fill(leg_fill(1, Leg.SHORT, Side.SELL, "3", "25000"), expected_revision=1)
    assert {each.key for each in moved.positions} == {LONG, SHORT}
    assert await held(legs) == {LONG: 0, SHORT: -6, NET: 1}
    busted = await legs.bust_fill("hedge", "f0004", expected_revision=1)
    assert [each.key for each in busted.positions] == [SHORT]
    assert await held(legs) == {LONG: 0, SHORT: -7, NET: 1}


async def test_adjustments_notes_and_reports_reach_one_leg_alone(legs: Steelyard) -> None:
    set_short = Adjustment(
        key=SHORT,
        kind=AdjustmentKind.CORRECTION,
        effective_at=LATER,
        adjustment_id="a1",
        quantity=Decimal(-5),
        average_price=Decimal(25_010),
    )
    receipt = await legs.record_adjustment(set_short, return_position=True)
    assert values(receipt.key, receipt.version) == [SHORT, 3]
    assert await held(legs) == {LONG: 2, SHORT: -5, NET: 1}
    await legs.update_position(LONG, labels={"desk": "a"})
    assert [each.leg async for each in legs.list_positions(labels=["desk=a"])] == [Leg.LONG]
    for quantity, differs in (("-5", False), ("-4", True)):
        at = LATER + timedelta(seconds=1)
        said = await legs.report_venue_position(VenueReport(key=SHORT, quantity=Decimal(quantity), reported_at=at))
        assert values(said.outcome, said.size_differs) == [VenueReportOutcome.UNCHANGED, differs]
    short = await legs.get_position("hedge", MNQ, leg=Leg.SHORT)
    assert short.venue is not None
    assert short.venue.quantity == -4
    assert (await legs.get_position("hedge", MNQ, leg=Leg.LONG)).venue is None


async def test_a_watch_tells_each_leg(legs: Steelyard) -> None:
    async with aclosing(legs.watch_positions("hedge", mode=WatchMode.EVERY_VERSION)) as changes, asyncio.timeout(20):
        assert {(await anext(changes)).position.leg for _ in range(2)} == {Leg.LONG, Leg.SHORT}
        await legs.record_fill(leg_fill(6, Leg.SHORT, Side.BUY, "1", "25000"))
        change = await anext(changes)
    assert values(change.position.leg, change.position.quantity, change.position.version) == [Leg.SHORT, -2, 3]


async def test_a_build_makes_the_same_legs_anew(legs: Steelyard, database_url: str) -> None:
    async def book() -> list[object]:
        found = legs.list_positions(["hedge", "plain"], view=PositionView.FULL)
        return [_timeless(each) async for each in found]

    before, stop = await book(), asyncio.Event()
    worker = Worker(Settings(pool_size=4), url=database_url, log=silent_log())
    working = asyncio.create_task(worker.run(stop))
    try:
        build = await legs.create_build(accounts=["hedge", "plain"], mode=BuildMode.FULL)
        assert (await build.wait(timeout_s=60)).state is BuildState.SUCCEEDED
    finally:
        stop.set()
        await working
        await worker.close()
    assert await book() == before
