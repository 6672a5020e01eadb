"""Limits, breaches and orders before they are sent, through client, channel, server and database."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from steelyard.client import (
    InvalidField,
    Leg,
    LimitBreach,
    LimitKind,
    Limits,
    LimitState,
    Mark,
    NumericLimit,
    Order,
    PricesNotFresh,
    RequestIdReused,
    Side,
    Steelyard,
    UnknownInstrument,
    VersionMismatch,
)
from tests.client.desk import make_fill, now

MNQ = "MNQ SEP25"
LIMITS = Limits(account="desk", settle_currency="USD", gross_exposure_max=Decimal(200_000))


def plain(*values: object) -> list[object]:
    """Values side by side, so that decimals may be compared with whole numbers."""
    return list(values)


async def hold(desk: Steelyard, *, quantity: str = "2", price: str = "25000") -> None:
    """Long MNQ (x2), marked at its price."""
    await desk.record_fill(make_fill(1, quantity=quantity, price=price))
    await mark(desk, price)


async def mark(desk: Steelyard, price: str, instrument: str = MNQ) -> None:
    report = await desk.report_marks([Mark(instrument, Decimal(price), now(), "test")])
    assert report.accepted == 1


def order(side: Side = Side.BUY, quantity: str = "1", **more: Any) -> Order:
    whole: dict[str, Any] = {"account": "desk", "instrument": MNQ, "side": side, "quantity": Decimal(quantity)}
    return Order(**{**whole, **more})


async def breaches(desk: Steelyard, count: int, **wanted: Any) -> Sequence[LimitBreach]:
    """The breaches on record, once there are so many; they are written a moment after the commit."""
    found: list[LimitBreach] = []
    for _ in range(100):
        found = [breach async for breach in desk.list_limit_breaches(["desk"], **wanted)]
        if len(found) == count:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(found)


async def test_limits_are_set_told_with_where_they_stand_and_replaced_as_a_whole(desk: Steelyard) -> None:
    await hold(desk)
    whole = Limits(
        account="desk",
        settle_currency="USD",
        gross_exposure_max=Decimal(200_000),
        net_exposure_max=Decimal("99999.5"),
        instrument_exposure_max=Decimal(150_000),
        instrument_exposures_max={"ES SEP25": Decimal(50)},
        day_loss_max=Decimal(1_000),
        counts_unrealized=True,
    )
    written = (await desk.set_limits(whole)).limits
    assert replace(written, created_at=None, updated_at=None, version=0) == whole
    (usd,) = await desk.get_limits("desk")
    assert plain(usd.limits, usd.limit_exceeded) == [written, LimitState.EXCEEDED]
    assert [plain(check.kind, check.instrument, check.limit, check.value, check.state) for check in usd.checks] == [
        [LimitKind.GROSS_EXPOSURE, None, 200_000, 100_000, LimitState.WITHIN],
        [LimitKind.NET_EXPOSURE, None, Decimal("99999.5"), 100_000, LimitState.EXCEEDED],
        [LimitKind.INSTRUMENT_EXPOSURE, "ES SEP25", 50, 0, LimitState.WITHIN],
        [LimitKind.INSTRUMENT_EXPOSURE, MNQ, 150_000, 100_000, LimitState.WITHIN],
        [LimitKind.LOSS_PER_DAY, None, 1_000, 0, LimitState.WITHIN],
    ]
    await desk.set_limits(LIMITS)
    (usd,) = await desk.get_limits("desk")
    assert plain(usd.limits.net_exposure_max, usd.limits.version, len(usd.checks)) == [None, 2, 1]


async def test_an_account_without_limits_has_none_and_may_get_some_before_its_first_fill(desk: Steelyard) -> None:
    assert await desk.get_limits("desk") == ()
    await desk.set_limits(LIMITS)
    (usd,) = await desk.get_limits("desk")
    assert plain(usd.limit_exceeded, usd.checks[0].value) == [LimitState.WITHIN, 0]


async def test_limits_without_a_price_are_unknown(desk: Steelyard) -> None:
    await desk.record_fill(make_fill(1))
    await desk.set_limits(LIMITS)
    (usd,) = await desk.get_limits("desk")
    assert usd.limit_exceeded is LimitState.UNKNOWN


async def test_setting_limits_is_repeatable_by_its_request_id_and_guarded_by_a_version(desk: Steelyard) -> None:
    request = str(uuid4())
    first = await desk.set_limits(LIMITS, request_id=request, expected_version=0)
    again = await desk.set_limits(LIMITS, request_id=request, expected_version=0)
    assert plain(first.replayed, again.replayed, again.limits) == [False, True, first.limits]
    with pytest.raises(RequestIdReused):
        await desk.set_limits(replace(LIMITS, gross_exposure_max=Decimal(1)), request_id=request)
    with pytest.raises(VersionMismatch) as refusal:
        await desk.set_limits(replace(LIMITS, gross_exposure_max=Decimal(1)), expected_version=0)
    assert refusal.value.current_version == 1
    assert (await desk.set_limits(LIMITS)).limits.version == 1


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("limits.gross_exposure_max", {"gross_exposure_max": Decimal(-1)}),
        ("limits.day_loss_max", {"day_loss_max": Decimal("1e20")}),
        ("limits.instrument_exposures_max[b d]", {"instrument_exposures_max": {"b d": Decimal(1)}}),
        ("limits.account", {"account": ""}),
        ("limits.settle_currency", {"settle_currency": "usd"}),
    ],
)
async def test_limits_that_cannot_be_are_named(desk: Steelyard, field: str, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidField) as refusal:
        await desk.set_limits(replace(LIMITS, **change))
    assert refusal.value.violations[0].field == field


async def test_a_breach_is_on_record_from_when_it_began_until_it_ended(desk: Steelyard) -> None:
    await desk.set_limits(replace(LIMITS, instrument_exposure_max=Decimal(120_000)))
    began = now()
    await hold(desk, quantity="5")
    by_instrument, gross = sorted(await breaches(desk, 2), key=lambda breach: breach.limit)
    assert plain(gross.kind, gross.instrument, gross.limit) == [LimitKind.GROSS_EXPOSURE, None, 200_000]
    assert plain(by_instrument.kind, by_instrument.instrument) == [LimitKind.INSTRUMENT_EXPOSURE, MNQ]
    assert plain(gross.opened_value, gross.closed_at, gross.closed_value) == [250_000, None, None]
    await desk.record_fill(make_fill(2, Side.SELL, quantity="2"))
    (ended,) = await breaches(desk, 1, kind=LimitKind.GROSS_EXPOSURE, opened_from=began - timedelta(seconds=1))
    for _ in range(100):
        if ended.closed_at is not None:
            break
        await asyncio.sleep(0.05)
        (ended,) = await breaches(desk, 1, kind=LimitKind.GROSS_EXPOSURE)
    assert plain(ended.breach_id, ended.closed_value) == [gross.breach_id, 150_000]
    (lasting,) = await breaches(desk, 1, open_only=True)
    assert lasting.breach_id == by_instrument.breach_id
    assert len(await breaches(desk, 2, page_size=1, settle_currency="USD")) == 2
    assert await breaches(desk, 0, instrument="ES SEP25") == []
    assert await breaches(desk, 0, opened_before=began - timedelta(hours=1)) == []


async def test_an_order_is_told_with_its_position_exposures_and_limits(desk: Steelyard) -> None:
    await hold(desk)
    await desk.set_limits(LIMITS)
    fits = await desk.check_order(order(quantity="2", price=Decimal(25_006)))
    assert plain(fits.within_limits, fits.settle_currency, fits.position_version, fits.stale_prices) == [
        True,
        "USD",
        1,
        (),
    ]
    outcome = fits.outcome
    assert plain(outcome.quantity_before, outcome.quantity_after) == [2, 4]
    assert plain(outcome.average_price_before, outcome.average_price_after) == [25_000, 25_003]
    assert plain(fits.now.gross_exposure, fits.filled.gross_exposure, fits.worst.gross_exposure) == [
        100_000,
        200_000,
        200_000,
    ]
    over = await desk.check_order(order(quantity="2.5"))
    (broken,) = over.would_exceed
    assert plain(over.within_limits, broken.kind, broken.value) == [False, LimitKind.GROSS_EXPOSURE, 225_000]
    assert (await desk.get_position("desk", MNQ)).version == 1


async def test_an_order_that_closes_realizes_what_its_fill_would(desk: Steelyard) -> None:
    await hold(desk)
    sold = (await desk.check_order(order(Side.SELL, "3", price=Decimal(25_010), fee=Decimal(3)))).outcome
    assert plain(sold.quantity_after, sold.gross_realized_pnl) == [-1, 40]
    assert plain(sold.realized_pnl, sold.net_realized_pnl) == [38, 37]
    assert plain(sold.average_price_after, sold.unrealized_pnl_before, sold.unrealized_pnl_after) == [25_010, 0, 20]


async def test_working_orders_count_at_their_worst(desk: Steelyard) -> None:
    await hold(desk)
    await desk.set_limits(LIMITS)
    working = [order(quantity="2"), order(Side.SELL, "1")]
    check = await desk.check_order(order(), open_orders=working)
    assert plain(check.filled.gross_exposure, check.worst.gross_exposure) == [150_000, 250_000]
    assert plain(check.worst.net_exposure_low, check.worst.net_exposure_high) == [100_000, 250_000]
    assert not check.within_limits


async def test_an_order_that_brings_a_broken_limit_down_is_within_limits_and_one_that_worsens_it_is_not(
    desk: Steelyard,
) -> None:
    await hold(desk, quantity="5")
    await desk.set_limits(LIMITS)
    assert (await desk.check_order(order(Side.SELL))).within_limits
    worse = await desk.check_order(order())
    assert plain(worse.within_limits, worse.would_exceed, worse.would_worsen[0].value) == [False, (), 300_000]


async def test_an_order_on_a_hedge_leg_never_closes_beyond_it(desk: Steelyard) -> None:
    await hold(desk)
    check = await desk.check_order(order(Side.SELL, "1", leg=Leg.LONG, book="other"))
    assert plain(check.outcome.quantity_after, check.outcome.unmatched_quantity) == [0, 1]


async def test_orders_that_cannot_be_judged_are_refused(desk: Steelyard) -> None:
    with pytest.raises(UnknownInstrument):
        await desk.check_order(order(instrument="NOPE"))
    with pytest.raises(PricesNotFresh):
        await desk.check_order(order())
    await mark(desk, "25000")
    with pytest.raises(NumericLimit):
        await desk.check_order(order(quantity="9999999999999999", price=Decimal(25_000)))
    with pytest.raises(InvalidField) as refusal:
        await desk.check_order(order(), open_orders=[order(account="other")])
    assert refusal.value.violations[0].field == "open_orders[0].account"
    with pytest.raises(InvalidField) as refusal:
        await desk.check_order(order(quantity="0"))
    assert refusal.value.violations[0].field == "order.quantity"


async def test_an_order_is_judged_after_the_callers_own_writes(desk: Steelyard) -> None:
    await hold(desk)
    for number in range(2, 12):
        await desk.record_fill(make_fill(number))
        check = await desk.check_order(order())
        assert plain(check.position_version, check.outcome.quantity_before) == [number, number + 1]


async def test_every_answer_about_a_portfolio_says_whether_a_limit_is_exceeded(desk: Steelyard) -> None:
    await hold(desk)

    async def told(*accounts: str, instruments: Sequence[str] = ()) -> list[LimitState | None]:
        (portfolio,) = (await desk.get_portfolio(accounts, instruments=instruments)).currencies
        (exposure,) = await desk.get_exposure(accounts, instruments=instruments)
        (pnl,) = await desk.get_pnl(accounts, instruments=instruments)
        return [portfolio.limit_exceeded, exposure.limit_exceeded, pnl.limit_exceeded]

    assert await told("desk") == [LimitState.WITHIN] * 3
    await desk.set_limits(LIMITS)
    assert await told("desk") == [LimitState.WITHIN] * 3
    await desk.set_limits(replace(LIMITS, gross_exposure_max=Decimal(99_999)))
    assert await told("desk") == await told() == [LimitState.EXCEEDED] * 3
    await desk.record_fill(make_fill(2, account="other"))
    assert await told("other") == [LimitState.WITHIN] * 3
    await desk.set_limits(Limits(account="other", settle_currency="USD", net_exposure_max=Decimal(1)))
    await desk.set_limits(replace(LIMITS, gross_exposure_max=Decimal(100_000)))
    assert await told("desk", "other", instruments=[MNQ]) == [LimitState.EXCEEDED] * 3
    assert await told("desk") == [LimitState.WITHIN] * 3


async def test_a_limit_over_a_price_that_is_missing_is_unknown_in_a_portfolio_too(desk: Steelyard) -> None:
    await desk.record_fill(make_fill(1))
    await desk.set_limits(LIMITS)
    (usd,) = (await desk.get_portfolio(["desk"])).currencies
    assert plain(usd.limit_exceeded, usd.complete) == [LimitState.UNKNOWN, False]


async def test_of_more_accounts_with_limits_than_are_looked_at_an_answer_is_unknown(desk: Steelyard) -> None:
    await hold(desk)
    for number in range(51):
        await desk.set_limits(replace(LIMITS, account=f"desk-{number:02}"))
    (usd,) = (await desk.get_portfolio()).currencies
    assert usd.limit_exceeded is LimitState.UNKNOWN
    (usd,) = (await desk.get_portfolio(["desk"])).currencies
    assert usd.limit_exceeded is LimitState.WITHIN
