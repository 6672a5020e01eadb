"""Every question of the contract, asked through the client: what was recorded comes back as figures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from steelyard.client import (
    Account,
    CalendarDay,
    CostMethod,
    DayRule,
    Direction,
    FillRelation,
    Instrument,
    InstrumentInUse,
    InstrumentKind,
    InvalidField,
    LotMethod,
    Mark,
    MarkState,
    NotFound,
    PositionEventCause,
    PositionKey,
    PositionSide,
    PositionView,
    RoundTripState,
    SessionDay,
    Side,
    Steelyard,
    VersionMismatch,
)
from tests.client.desk import START, make_fill, now

MNQ = "MNQ SEP25"
REQUEST = "00000000-0000-4000-8000-000000000001"


def plain(*values: object) -> list[object]:
    """Values side by side, so that decimals may be compared with whole numbers."""
    return list(values)


async def trade(desk: Steelyard) -> None:
    """A closed long trip of MNQ (+80 gross, fees 2) and an open short of ES."""
    await desk.batch_record_fills(
        [
            make_fill(1, quantity="2", price="25000", fee=Decimal(1)),
            make_fill(2, Side.SELL, quantity="2", price="25020", fee=Decimal(1)),
            make_fill(3, Side.SELL, quantity="1", price="6000", instrument="ES SEP25"),
        ]
    )


async def test_a_position_is_told_in_full(desk: Steelyard) -> None:
    await trade(desk)
    flat = await desk.get_position("desk", MNQ)
    assert plain(flat.quantity, flat.side, flat.average_price) == [0, PositionSide.FLAT, None]
    assert plain(flat.gross_realized_pnl, flat.fees, flat.realized_pnl, flat.net_realized_pnl) == [80, 2, 79, 78]
    assert flat.cycle is not None
    assert (flat.cycle.direction, flat.cycle.closed_at) == (Direction.LONG, START + timedelta(seconds=2))
    short = await desk.get_position("desk", "ES SEP25")
    assert short.mark is not None
    assert plain(short.quantity, short.unrealized_pnl, short.mark.state) == [-1, None, MarkState.MISSING]
    with pytest.raises(NotFound):
        await desk.get_position("desk", "CL SEP25")


async def test_positions_are_listed_filtered_and_paged(desk: Steelyard) -> None:
    await trade(desk)
    assert [one.instrument async for one in desk.list_positions(page_size=1)] == ["ES SEP25", MNQ]
    assert [one.instrument async for one in desk.list_positions(["desk"], open_only=True)] == ["ES SEP25"]
    assert [one.instrument async for one in desk.list_positions(side=PositionSide.SHORT, size_min=Decimal(1))] == [
        "ES SEP25"
    ]
    (basic,) = [one async for one in desk.list_positions(instrument=MNQ)]
    (full,) = [one async for one in desk.list_positions(instrument=MNQ, view=PositionView.FULL)]
    assert (basic.lots, full.lots is None) == (None, False)


async def test_positions_are_had_by_their_keys_in_one_snapshot(desk: Steelyard) -> None:
    await trade(desk)
    keys = [PositionKey("desk", MNQ), PositionKey("desk", "CL SEP25"), PositionKey("desk", "ES SEP25")]
    found = await desk.batch_get_positions(keys)
    assert [one.instrument for one in found.positions] == [MNQ, "ES SEP25"]
    assert found.missing == (keys[1],)


async def test_lots_trips_and_versions_explain_a_position(desk: Steelyard) -> None:
    await trade(desk)
    (lot,) = [one async for one in desk.list_lots("desk", "ES SEP25")]
    assert plain(lot.fill_id, lot.quantity, lot.price) == ["f0003", 1, 6000]
    trips = [one async for one in desk.list_round_trips("desk")]
    assert [plain(trip.state, trip.net_realized_pnl) for trip in trips] == [
        [RoundTripState.OPEN, 0],
        [RoundTripState.CLOSED, 78],
    ]
    assert [one async for one in desk.list_round_trips("desk", closed_from=now())] == []
    detail = await desk.get_round_trip("desk", trips[1].trip_id)
    assert [one.relation for one in detail.relations] == [FillRelation.OPENED, FillRelation.CLOSED]
    (pair,) = detail.execution_pairs
    assert plain(pair.entry_fill_id, pair.exit_fill_id, pair.gross_pnl) == ["f0001", "f0002", 80]
    (event,) = [one async for one in desk.list_position_events("desk", MNQ)]
    assert (event.version, event.cause, event.fill_ids) == (1, PositionEventCause.FILL, ("f0001", "f0002"))


async def test_marks_make_exposure_and_profit(desk: Steelyard) -> None:
    await trade(desk)
    at = now()
    report = await desk.report_marks(
        [Mark("ES SEP25", Decimal(5990), at, "test"), Mark("ES SEP25", Decimal(1), at - timedelta(days=1), "test")]
    )
    assert (report.accepted, report.superseded, report.rejected) == (1, 1, 0)
    (mark,) = [one async for one in desk.list_marks(["ES SEP25"])]
    assert plain(mark.price, mark.state) == [5990, MarkState.FRESH]
    (currency,) = (await desk.get_portfolio(["desk"], include_positions=True)).currencies
    assert plain(currency.gross_exposure, currency.unrealized_pnl, currency.realized_pnl) == [299_500, 500, 79]
    (exposure,) = await desk.get_exposure()
    assert plain(exposure.net_exposure, exposure.short_count) == [-299_500, 1]
    (pnl,) = await desk.get_pnl(["desk"], instruments=[MNQ])
    assert plain(pnl.gross_realized_pnl, pnl.net_realized_pnl, pnl.complete) == [80, 78, True]


async def test_a_portfolio_is_told_in_the_currencies_asked_for_and_in_zeros_where_one_does_not_occur(
    desk: Steelyard,
) -> None:
    await trade(desk)
    eur, usd = (await desk.get_portfolio(["desk"], settle_currencies=["USD", "EUR"])).currencies
    assert plain(eur.settle_currency, eur.gross_exposure, eur.open_count, eur.complete) == ["EUR", 0, 0, True]
    assert plain(usd.settle_currency, usd.realized_pnl, usd.open_count) == ["USD", 79, 1]
    only = await desk.get_portfolio(["desk"], settle_currencies=["EUR"], include_positions=True)
    assert plain(len(only.currencies), only.positions) == [1, ()]
    (exposure,) = await desk.get_exposure(["nobody"], settle_currencies=["EUR"])
    (pnl,) = await desk.get_pnl(["nobody"], settle_currencies=["EUR"])
    assert plain(exposure.gross_exposure, pnl.total_pnl, pnl.fees_complete) == [0, 0, True]
    with pytest.raises(InvalidField) as refusal:
        await desk.get_pnl(settle_currencies=["EUR", "euro"])
    assert refusal.value.violations[0].field == "settle_currencies[1]"


async def test_a_price_that_cannot_be_taken_is_named(desk: Steelyard) -> None:
    report = await desk.report_marks([Mark("ES SEP25", Decimal(-1), now() + timedelta(hours=1), "test")])
    assert (report.accepted, report.rejected) == (0, 1)
    assert report.rejections[0].instrument == "ES SEP25"


async def test_a_price_that_cannot_be_sent_is_the_callers_error_not_a_cancellation(desk: Steelyard) -> None:
    with pytest.raises(ValueError, match="time zone"):
        await desk.report_marks([Mark("ES SEP25", Decimal(1), datetime(2025, 6, 20))])  # noqa: DTZ001 - that is it


async def test_prices_of_a_live_feed_are_sent_as_they_come(desk: Steelyard) -> None:
    async def feed() -> AsyncIterator[Mark]:
        for price in (5990, 5991):
            yield Mark("ES SEP25", Decimal(price), now(), "feed")

    assert (await desk.report_marks(feed())).accepted == 2


async def test_days_and_weeks_of_trading_are_told_by_either_rule(desk: Steelyard) -> None:
    await trade(desk)
    day = await desk.get_daily_performance(["desk"], day=date(2025, 6, 20))
    (usd,) = day.currencies
    assert plain(usd.net_pnl, usd.total_trades, usd.win_rate) == [78, 1, 1]
    assert day.interval_start_at == datetime(2025, 6, 20, 5, tzinfo=UTC)
    rule = DayRule(session=SessionDay(close_time="06:00", time_zone="America/Los_Angeles"))
    assert (await desk.get_daily_performance(day=date(2025, 6, 20), day_rule=rule)).currencies == ()
    tokyo = DayRule(calendar=CalendarDay(time_zone="Asia/Tokyo"))
    week = await desk.get_weekly_performance(day=date(2025, 6, 22), day_rule=tokyo)
    assert (week.week_start_day, len(week.currencies)) == (date(2025, 6, 16), 1)


async def test_an_instrument_is_made_listed_and_kept_once_it_has_fills(desk: Steelyard) -> None:
    btc = Instrument(instrument="BTCUSDT", kind=InstrumentKind.LINEAR, multiplier=Decimal(1), quote_currency="USDT")
    made = await desk.upsert_instrument(btc, request_id=REQUEST)
    assert (made.instrument.settle_currency, made.instrument.version, made.replayed) == ("USDT", 1, False)
    assert (await desk.upsert_instrument(btc, request_id=REQUEST)).replayed
    assert (await desk.get_instrument("BTCUSDT")).kind is InstrumentKind.LINEAR
    assert (await desk.get_instrument(MNQ)).multiplier == 2
    assert "BTCUSDT" in [one.instrument async for one in desk.list_instruments(settle_currency="USDT")]
    await desk.record_fill(make_fill(1, instrument="BTCUSDT"))
    changed = Instrument(
        instrument="BTCUSDT", kind=InstrumentKind.LINEAR, multiplier=Decimal(10), quote_currency="USDT"
    )
    with pytest.raises(InstrumentInUse):
        await desk.upsert_instrument(changed)


async def test_an_account_is_made_changed_and_listed(desk: Steelyard) -> None:
    made = await desk.upsert_account(Account(account="A1", lot_method=LotMethod.HIFO), expected_version=0)
    assert (made.account.cost_method, made.account.lot_method) == (CostMethod.AVERAGE, LotMethod.HIFO)
    changed = await desk.upsert_account(Account(account="A1", cost_method=CostMethod.LOTS))
    assert (changed.account.cost_method, changed.account.lot_method) == (CostMethod.LOTS, LotMethod.HIFO)
    with pytest.raises(VersionMismatch):
        await desk.upsert_account(Account(account="A1"), expected_version=1)
    assert (await desk.get_account("A1")).version == 2
    assert [one.account async for one in desk.list_accounts()] == ["A1"]


async def test_a_wrong_question_is_refused_by_the_field_at_fault(desk: Steelyard) -> None:
    with pytest.raises(InvalidField) as caught:
        await desk.get_position("desk", "mnq")
    assert caught.value.violations[0].field == "instrument"
    with pytest.raises(InvalidField) as caught:
        _ = [one async for one in desk.list_positions(page_size=-1)]
    assert caught.value.violations[0].field == "page_size"
