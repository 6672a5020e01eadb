"""What a venue says of positions, through client, channel, server and database."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from steelyard.client import (
    Account,
    InvalidField,
    Leg,
    NumericLimit,
    PositionEventCause,
    PositionKey,
    RequestIdReused,
    Side,
    SizeAuthority,
    Steelyard,
    UnknownInstrument,
    VenueReport,
    VenueReportOutcome,
)
from tests.client.desk import START, make_fill, now

KEY = PositionKey("desk", "MNQ SEP25")
LATER = START + timedelta(hours=1)


def plain(*values: object) -> list[object]:
    """Values side by side, so that decimals may be compared with whole numbers."""
    return list(values)


def said(quantity: str, **more: Any) -> VenueReport:
    whole: dict[str, Any] = {"key": KEY, "quantity": Decimal(quantity), "reported_at": LATER}
    return VenueReport(**{**whole, **more})


async def under(desk: Steelyard, authority: SizeAuthority) -> None:
    """An account under this authority, long 2 at 25,000."""
    await desk.upsert_account(Account(account="desk", size_authority=authority))
    await desk.record_fill(make_fill(1, quantity="2"))


async def test_under_fills_a_report_is_only_compared_and_kept_beside_the_figures(desk: Steelyard) -> None:
    await under(desk, SizeAuthority.FILLS)
    answer = await desk.report_venue_position(
        said("3", average_price=Decimal(25_010), unrealized_pnl=Decimal(12), realized_pnl=Decimal(0), source="gateway")
    )
    assert plain(answer.outcome, answer.version) == [VenueReportOutcome.UNCHANGED, None]
    assert plain(answer.size_differs, answer.average_differs) == [True, False]
    position = await desk.get_position("desk", "MNQ SEP25")
    assert plain(position.quantity, position.version, position.realized_pnl) == [2, 1, 0]
    assert position.venue is not None
    told = position.venue
    assert plain(told.quantity, told.average_price, told.unrealized_pnl, told.realized_pnl) == [3, 25_010, 12, 0]
    assert plain(told.reported_at, told.source) == [LATER, "gateway"]


@pytest.mark.parametrize(("average", "differs"), [("25025", False), ("25025.01", True)])
async def test_averages_differ_only_strictly_beyond_a_thousandth(desk: Steelyard, average: str, differs: bool) -> None:
    await under(desk, SizeAuthority.FILLS)
    answer = await desk.report_venue_position(said("2", average_price=Decimal(average)))
    assert plain(answer.size_differs, answer.average_differs) == [False, differs]


async def test_under_latest_a_newer_report_sets_the_position_and_an_older_one_nothing(desk: Steelyard) -> None:
    await under(desk, SizeAuthority.LATEST)
    answer = await desk.report_venue_position(said("-5", average_price=Decimal(25_100)))
    assert plain(answer.outcome, answer.version) == [VenueReportOutcome.APPLIED, 2]
    position = await desk.get_position("desk", "MNQ SEP25")
    assert plain(position.quantity, position.average_price, position.realized_pnl) == [-5, 25_100, 0]
    events = [event async for event in desk.list_position_events("desk", "MNQ SEP25")]
    assert events[0].cause is PositionEventCause.ADJUSTMENT
    older = await desk.report_venue_position(said("9", reported_at=LATER - timedelta(minutes=1)))
    assert older.outcome is VenueReportOutcome.OUTDATED
    assert (await desk.report_venue_position(said("0", reported_at=LATER + timedelta(seconds=1)))).version == 3
    assert (await desk.get_position("desk", "MNQ SEP25")).quantity == 0


async def test_a_fill_executed_before_a_report_and_recorded_after_it_is_counted_once(desk: Steelyard) -> None:
    await under(desk, SizeAuthority.LATEST)
    await desk.report_venue_position(said("3", average_price=Decimal(25_000)))
    await desk.record_fill(make_fill(2, quantity="1"))
    assert (await desk.get_position("desk", "MNQ SEP25")).quantity == 3
    after = LATER + timedelta(seconds=1)
    await desk.record_fill(make_fill(3, Side.SELL, quantity="1", executed_at=after))
    assert (await desk.get_position("desk", "MNQ SEP25")).quantity == 2


async def test_a_report_without_a_time_changes_nothing(desk: Steelyard) -> None:
    await under(desk, SizeAuthority.VENUE)
    answer = await desk.report_venue_position(said("7", reported_at=None))
    assert plain(answer.outcome, answer.size_differs) == [VenueReportOutcome.UNCHANGED, True]
    assert (await desk.get_position("desk", "MNQ SEP25")).quantity == 2


async def test_a_venues_mark_price_is_a_mark(desk: Steelyard) -> None:
    await under(desk, SizeAuthority.FILLS)
    await desk.report_venue_position(said("2", mark_price=Decimal(25_010), reported_at=now()))
    position = await desk.get_position("desk", "MNQ SEP25")
    assert plain(position.unrealized_pnl, position.mark and position.mark.price) == [40, 25_010]


async def test_a_repeat_is_answered_as_before_and_another_body_under_its_id_refused(desk: Steelyard) -> None:
    await under(desk, SizeAuthority.LATEST)
    request = str(uuid4())
    first = await desk.report_venue_position(said("4"), request_id=request)
    again = await desk.report_venue_position(said("4"), request_id=request)
    assert plain(first.version, again.version, first.replayed, again.replayed) == [2, 2, False, True]
    with pytest.raises(RequestIdReused):
        await desk.report_venue_position(said("5"), request_id=request)
    assert (await desk.get_position("desk", "MNQ SEP25")).quantity == 4


async def test_hedge_legs_are_reported_each_by_itself(desk: Steelyard) -> None:
    await desk.upsert_account(Account(account="desk", size_authority=SizeAuthority.VENUE))
    for leg, quantity in ((Leg.LONG, "2"), (Leg.SHORT, "-3")):
        key = PositionKey("desk", "MNQ SEP25", leg=leg)
        answer = await desk.report_venue_position(said(quantity, key=key, average_price=Decimal(25_000)))
        assert answer.version == 1
        assert (await desk.get_position("desk", "MNQ SEP25", leg=leg)).quantity == Decimal(quantity)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("quantity", {"key": PositionKey("desk", "MNQ SEP25", leg=Leg.SHORT)}),
        ("quantity", {"key": PositionKey("desk", "MNQ SEP25", leg=Leg.LONG), "quantity": Decimal(-1)}),
        ("average_price", {"average_price": Decimal(0)}),
        ("average_price", {"quantity": Decimal(0), "average_price": Decimal(1)}),
        ("mark_price", {"mark_price": Decimal(-1)}),
        ("reported_at", {"reported_at": START.replace(year=2200)}),
        ("key.account", {"key": PositionKey("", "MNQ SEP25")}),
        ("source", {"source": "s" * 65}),
    ],
)
async def test_reports_that_cannot_be_are_refused_by_the_field_sent(
    desk: Steelyard, field: str, change: Mapping[str, Any]
) -> None:
    await under(desk, SizeAuthority.LATEST)
    with pytest.raises(InvalidField) as refusal:
        await desk.report_venue_position(said(**{"quantity": "1", **change}))
    assert refusal.value.violations[0].field == field


async def test_an_unknown_instrument_and_an_amount_beyond_keeping_are_refused(desk: Steelyard) -> None:
    with pytest.raises(UnknownInstrument):
        await desk.report_venue_position(said("1", key=PositionKey("desk", "NOPE")))
    with pytest.raises(NumericLimit):
        await desk.report_venue_position(said("9999999999999999", average_price=Decimal(25_000)))
