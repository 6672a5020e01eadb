"""Questions as clients ask them: through a real channel, with the contract's texts, tokens and reasons."""

from typing import Any
from uuid import uuid4

import pytest
from google.type.date_pb2 import Date

from steelyard.accounting.keys import trip_id
from steelyard.rpc import encode
from steelyard.rpc.position_servicer import PositionServicer
from steelyard.v1 import (
    admin_pb2,
    common_pb2,
    market_pb2,
    position_pb2,
    round_trip_pb2,
)
from steelyard.v1 import (
    performance_service_pb2 as performance,
)
from steelyard.v1 import (
    portfolio_service_pb2 as portfolio,
)
from steelyard.v1 import (
    position_service_pb2 as position,
)
from tests.questions.books import NOW, Book, fill, key
from tests.questions.wire import DAY, Wire, refused, services


async def test_a_position_is_told_in_canonical_text(wire: Wire) -> None:
    answer = await wire.positions.GetPosition(position.GetPositionRequest(account="desk", instrument="BTCUSDT"))
    told = answer.position
    assert told.name == "accounts/desk/books/main/instruments/BTCUSDT/legs/NET"
    assert (told.mode, told.side) == (position_pb2.POSITION_MODE_ONE_WAY, position_pb2.POSITION_SIDE_LONG)
    assert (told.quantity, told.average_price) == ("1.5", "48666.666666666666666667")
    assert (told.cost, told.notional) == ("73000", "75000")
    assert (told.unrealized_pnl, told.funding, told.net_realized_pnl) == ("2000", "-0.75", "-0.75")
    assert (told.mark.price, told.mark.source, told.mark.state) == ("50000", "test", market_pb2.MARK_STATE_FRESH)
    assert (told.version, told.etag, told.fill_count, told.settle_currency) == (2, '"v2"', 1, "USDT")
    assert told.HasField("cycle")
    assert told.cycle.trip_id == str(trip_id(key(), "e"))
    assert told.average.average_price == told.lots.average_price
    assert told.features.position_size_norm == "0.928217821782178218"
    assert told.figures_state == position_pb2.FIGURES_STATE_CURRENT
    assert not told.HasField("closed_at")
    assert [(commit.account, commit.seq) for commit in answer.header.commits] == [("desk", 2)]
    assert answer.header.served_from == common_pb2.SERVED_FROM_STORE
    assert answer.header.read_at == encode.timestamp(NOW)


async def test_the_basic_view_leaves_out_what_the_full_one_adds(wire: Wire) -> None:
    request = position.GetPositionRequest(account="desk", instrument="MNQ MAR26", view=position_pb2.POSITION_VIEW_BASIC)
    told = (await wire.positions.GetPosition(request)).position
    assert (told.side, told.quantity, told.HasField("average_price")) == (position_pb2.POSITION_SIDE_FLAT, "0", False)
    assert (told.gross_realized_pnl, told.fees, told.realized_pnl, told.net_realized_pnl) == (
        "680",
        "11",
        "674.5",
        "669",
    )
    assert not any(told.HasField(name) for name in ("average", "lots", "cycle", "features", "venue"))
    assert (told.unrealized_pnl, told.total_pnl, told.notional) == ("0", "674.5", "0")


async def test_pages_of_positions_are_bound_to_their_question(wire: Wire) -> None:
    request = position.ListPositionsRequest(page_size=2, view=position_pb2.POSITION_VIEW_FULL)
    first = await wire.positions.ListPositions(request)
    assert [each.instrument for each in first.positions] == ["BTCUSDT", "MNQ MAR26"]
    assert first.positions[0].HasField("features")
    request.page_token = first.next_page_token
    second = await wire.positions.ListPositions(request)
    assert [each.instrument for each in second.positions] == ["ETHUSDT"]
    assert second.next_page_token == ""
    request.open_only = True
    assert await refused(wire.positions.ListPositions(request)) == ("PAGE_TOKEN_INVALID", [])


@pytest.mark.parametrize(
    ("request_fields", "field"),
    [
        ({"accounts": [" desk"]}, "accounts[0]"),
        ({"instrument": "btc"}, "instrument"),
        ({"size_min": "1e3"}, "size_min"),
        ({"size_min": "-1"}, "size_min"),
        ({"size_min": "2", "size_max": "1"}, "size_max"),
        ({"page_size": -1}, "page_size"),
        ({"labels": ["team"]}, "labels[0]"),
        ({"mode": 9}, "mode"),
        ({"side": 9}, "side"),
        ({"mode": position_pb2.POSITION_MODE_HEDGE, "leg": common_pb2.LEG_NET}, "leg"),
        ({"view": 9}, "view"),
        ({"min_commit": [common_pb2.Commit(account="", seq=1)]}, "min_commit[0].account"),
    ],
)
async def test_a_wrong_field_is_named_by_its_path(wire: Wire, request_fields: dict[str, Any], field: str) -> None:
    assert await refused(wire.positions.ListPositions(position.ListPositionsRequest(**request_fields))) == (
        "INVALID_FIELD",
        [field],
    )


async def test_filters_reach_the_store(wire: Wire) -> None:
    for fields, names in (
        ({"side": position_pb2.POSITION_SIDE_SHORT}, ["ETHUSDT"]),
        ({"side": position_pb2.POSITION_SIDE_FLAT}, ["MNQ MAR26"]),
        ({"book": "swing"}, ["ETHUSDT"]),
        ({"size_min": "1.6"}, ["ETHUSDT"]),
        ({"size_max": "1.6", "open_only": True}, ["BTCUSDT"]),
        ({"mode": position_pb2.POSITION_MODE_HEDGE}, []),
        ({"leg": common_pb2.LEG_NET, "instrument": "BTCUSDT", "accounts": ["desk"]}, ["BTCUSDT"]),
        ({"labels": ["team=red"]}, []),
    ):
        answer = await wire.positions.ListPositions(position.ListPositionsRequest(**fields))
        assert [each.instrument for each in answer.positions] == names


async def test_a_batch_names_what_is_missing(wire: Wire) -> None:
    keys = [
        common_pb2.PositionKey(account="desk", instrument="XRPUSDT"),
        common_pb2.PositionKey(account="desk", instrument="ETHUSDT", book="swing"),
    ]
    answer = await wire.positions.BatchGetPositions(position.BatchGetPositionsRequest(keys=keys))
    assert [each.quantity for each in answer.positions] == ["-2"]
    assert [each.instrument for each in answer.missing] == ["XRPUSDT"]
    assert await refused(wire.positions.BatchGetPositions(position.BatchGetPositionsRequest())) == (
        "INVALID_FIELD",
        ["keys"],
    )


async def test_lots_versions_and_unknown_positions(wire: Wire) -> None:
    lots = await wire.positions.ListLots(position.ListLotsRequest(account="desk", instrument="BTCUSDT"))
    assert [(lot.fill_id, lot.quantity, lot.original_quantity) for lot in lots.lots] == [("e", "1.5", "1.5")]
    request = position.ListPositionEventsRequest(account="desk", instrument="BTCUSDT", page_size=1)
    events = await wire.positions.ListPositionEvents(request)
    assert [(event.version, event.cause) for event in events.events] == [
        (2, position_pb2.POSITION_EVENT_CAUSE_ADJUSTMENT)
    ]
    request.page_token = events.next_page_token
    first = (await wire.positions.ListPositionEvents(request)).events[0]
    assert (first.version, first.seq, list(first.fill_ids), first.fill_count) == (1, 1, ["e"], 1)
    assert (first.position.quantity, first.position.funding) == ("1.5", "0")
    assert not first.position.HasField("unrealized_pnl")
    for call in (
        wire.positions.GetPosition(position.GetPositionRequest(account="desk", instrument="XRPUSDT")),
        wire.positions.ListLots(position.ListLotsRequest(account="desk", instrument="XRPUSDT")),
        wire.positions.ListPositionEvents(position.ListPositionEventsRequest(account="desk", instrument="XRPUSDT")),
        wire.positions.GetRoundTrip(position.GetRoundTripRequest(account="desk", trip_id=str(uuid4()))),
    ):
        assert await refused(call) == ("NOT_FOUND", [])
    wrong = position.ListPositionEventsRequest(account="desk", instrument="BTCUSDT", version_from=-1)
    assert await refused(wire.positions.ListPositionEvents(wrong)) == ("INVALID_FIELD", ["version_from"])


async def test_round_trips_are_told_with_fills_and_pairs(wire: Wire) -> None:
    request = position.ListRoundTripsRequest(account="desk", instrument="MNQ MAR26")
    trips = (await wire.positions.ListRoundTrips(request)).round_trips
    short, long = trips
    assert (short.direction, short.state) == (round_trip_pb2.DIRECTION_SHORT, round_trip_pb2.ROUND_TRIP_STATE_CLOSED)
    assert (short.entered_quantity, short.max_quantity, short.fill_count) == ("6", "6", 3)
    assert (short.average_entry_price, short.average_exit_price) == ("25045", "25030")
    assert (short.gross_realized_pnl, short.fees, short.net_realized_pnl) == ("180", "6", "174")
    assert (short.points_per_contract, short.points_weighted) == ("15", "90")
    assert (long.gross_realized_pnl, long.fees) == ("500", "5")
    detail = await wire.positions.GetRoundTrip(position.GetRoundTripRequest(account="desk", trip_id=long.trip_id))
    assert detail.round_trip == long
    assert [(each.fill_id, each.relation, each.quantity, each.fee) for each in detail.relations] == [
        ("a", round_trip_pb2.FILL_RELATION_OPENED, "5", "2.5"),
        ("b", round_trip_pb2.FILL_RELATION_REVERSED, "5", "2.5"),
    ]
    (pair,) = detail.execution_pairs
    assert (pair.entry_fill_id, pair.exit_fill_id, pair.quantity, pair.gross_pnl) == ("a", "b", "5", "500")
    assert (pair.entry_fee, pair.exit_fee, detail.truncated) == ("2.5", "2.5", False)


async def test_trip_filters_and_their_refusals(wire: Wire) -> None:
    for fields, count in (
        ({"state": round_trip_pb2.ROUND_TRIP_STATE_OPEN}, 2),
        ({"state": round_trip_pb2.ROUND_TRIP_STATE_CLOSED}, 2),
        ({"direction": round_trip_pb2.DIRECTION_LONG}, 2),
        ({"closed_from": encode.timestamp(DAY[3].executed_at)}, 1),
        ({"closed_before": encode.timestamp(DAY[3].executed_at)}, 1),
    ):
        answer = await wire.positions.ListRoundTrips(position.ListRoundTripsRequest(account="desk", **fields))
        assert len(answer.round_trips) == count
    backwards = position.ListRoundTripsRequest(
        account="desk", closed_from=encode.timestamp(NOW), closed_before=encode.timestamp(DAY[0].executed_at)
    )
    assert await refused(wire.positions.ListRoundTrips(backwards)) == ("INVALID_FIELD", ["closed_before"])
    unknown = position.ListRoundTripsRequest(account="desk", state=7)  # type: ignore[arg-type] # no value of the enum
    assert await refused(wire.positions.ListRoundTrips(unknown)) == ("INVALID_FIELD", ["state"])
    wrong = position.GetRoundTripRequest(account="desk", trip_id="trip")
    assert await refused(wire.positions.GetRoundTrip(wrong)) == ("INVALID_FIELD", ["trip_id"])


async def test_portfolio_exposure_and_pnl_tell_the_same_figures(wire: Wire) -> None:
    whole = await wire.portfolio.GetPortfolio(portfolio.GetPortfolioRequest(accounts=["desk"], include_positions=True))
    usd, usdt = whole.currencies
    assert (usd.settle_currency, usd.realized_pnl, usd.open_count) == ("USD", "674.5", 0)
    assert (usdt.gross_exposure, usdt.net_exposure, usdt.value) == ("80800", "69200", "69200")
    assert (usdt.unrealized_pnl, usdt.total_pnl, usdt.complete) == ("2200", "2200", True)
    assert [(group.name, group.exposure, group.open_count) for group in usdt.by_instrument] == [
        ("BTCUSDT", "75000", 1),
        ("ETHUSDT", "5800", 1),
    ]
    assert [each.instrument for each in whole.positions] == ["BTCUSDT", "ETHUSDT"]
    exposure = await wire.portfolio.GetExposure(portfolio.GetExposureRequest(accounts=["desk"]))
    assert [each.gross_exposure for each in exposure.currencies] == ["0", "80800"]
    pnl = await wire.portfolio.GetPnl(portfolio.GetPnlRequest(instruments=["MNQ MAR26"]))
    assert [(each.net_realized_pnl, each.fees) for each in pnl.currencies] == [("669", "11")]
    nobody = await wire.portfolio.GetPortfolio(portfolio.GetPortfolioRequest(accounts=["nobody"]))
    assert list(nobody.currencies) == []


async def test_days_and_weeks_are_told_with_the_rule_that_was_used(wire: Wire) -> None:
    day = Date(year=2026, month=3, day=2)
    daily = await wire.performance.GetDailyPerformance(
        performance.GetDailyPerformanceRequest(day=day, accounts=["desk"])
    )
    (usd,) = daily.currencies
    assert (usd.net_pnl, usd.gross_pnl, usd.fees, usd.funding) == ("669", "680", "11", "0")
    assert (usd.total_trades, usd.winning_trades, usd.win_rate) == (2, 2, "1")
    assert daily.day_rule.calendar.time_zone == "America/Chicago"
    assert daily.interval_end_at.seconds - daily.interval_start_at.seconds == 86_400
    rule = admin_pb2.DayRule(session=admin_pb2.SessionDay(close_time="08:32", time_zone="America/Chicago"))
    session = await wire.performance.GetDailyPerformance(
        performance.GetDailyPerformanceRequest(day=day, day_rule=rule, instrument="MNQ MAR26", book="main")
    )
    assert [each.total_trades for each in session.currencies] == [1]
    assert session.day_rule.session.weekdays_only
    weekly = await wire.performance.GetWeeklyPerformance(performance.GetWeeklyPerformanceRequest())
    assert (weekly.week_start_day, weekly.currencies[0].total_trades) == (day, 2)


def closing(close_time: str) -> admin_pb2.DayRule:
    return admin_pb2.DayRule(session=admin_pb2.SessionDay(close_time=close_time))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"day": Date(year=2026)}, "day"),
        (
            {"day_rule": admin_pb2.DayRule(calendar=admin_pb2.CalendarDay(time_zone="Mars"))},
            "day_rule.calendar.time_zone",
        ),
        (
            {"day_rule": admin_pb2.DayRule(session=admin_pb2.SessionDay(close_time="25:00"))},
            "day_rule.session.close_time",
        ),
        (
            {"day_rule": admin_pb2.DayRule(session=admin_pb2.SessionDay(close_time="9am"))},
            "day_rule.session.close_time",
        ),
    ],
)
async def test_a_wrong_day_or_rule_is_refused(wire: Wire, fields: dict[str, Any], field: str) -> None:
    request = performance.GetDailyPerformanceRequest(**fields)
    assert await refused(wire.performance.GetDailyPerformance(request)) == ("INVALID_FIELD", [field])


async def test_a_commit_that_never_comes_is_not_yet_visible_at_the_deadline(wire: Wire) -> None:
    later = [common_pb2.Commit(account="desk", seq=99)]
    request = position.GetPositionRequest(account="desk", instrument="BTCUSDT", min_commit=later)
    assert await refused(wire.positions.GetPosition(request, timeout=0.3)) == ("NOT_YET_VISIBLE", [])


async def test_a_write_may_be_answered_with_its_position(book: Book) -> None:
    await book.record(*DAY)
    servicer = services(book).positions
    assert isinstance(servicer, PositionServicer)
    told = await servicer.tell(key())
    assert told is not None
    assert (told.quantity, told.HasField("features")) == ("1.5", True)
    assert await servicer.tell(key("XRPUSDT")) is None


async def test_an_unstated_rule_is_the_default_and_a_trip_that_waits_is_told_cut(book: Book, wire: Wire) -> None:
    request = performance.GetDailyPerformanceRequest(day_rule=admin_pb2.DayRule())
    daily = await wire.performance.GetDailyPerformance(request)
    assert daily.day_rule.calendar.time_zone == "America/Chicago"
    tokyo = admin_pb2.DayRule(calendar=admin_pb2.CalendarDay(time_zone="Asia/Tokyo"))
    daily = await wire.performance.GetDailyPerformance(performance.GetDailyPerformanceRequest(day_rule=tokyo))
    assert daily.day_rule == tokyo
    await book.store_only(fill("z", "1", "10", minute=9))
    trip = position.GetRoundTripRequest(account="desk", trip_id=str(trip_id(key(), "e")))
    assert (await wire.positions.GetRoundTrip(trip)).truncated
