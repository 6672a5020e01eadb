"""Limits as they are set and told: versions, repeats, and where each stands."""

from decimal import Decimal
from uuid import uuid4

import pytest

from steelyard.accounting.errors import InvalidField, RequestIdReused, VersionMismatch
from steelyard.accounting.keys import Account, InstrumentName
from steelyard.accounting.limits import LimitState
from steelyard.operations.reading import Freshness
from tests.limits.desk import DESK, LimitDesk
from tests.questions.books import fill, key

BTC = InstrumentName("BTCUSDT")


async def test_limits_are_kept_per_settle_currency_and_told_with_where_they_stand(desk: LimitDesk) -> None:
    await desk.record(fill("a", "2", "100"), fill("b", "1", "25000", of=key("MNQ MAR26")))
    await desk.mark(BTCUSDT="100", **{"MNQ MAR26": "25000"})
    receipt = await desk.limit(gross_exposure_max="199", instrument_exposures_max={BTC: Decimal(200)})
    await desk.limit("USD", net_exposure_max="50000")
    answer = await desk.limits.get(DESK, freshness=Freshness({DESK: receipt.commits[0].seq}))
    assert sorted(answer.value.facts.limits) == ["USD", "USDT"]
    assert answer.value.facts.limits["USDT"] == receipt.record
    states = answer.value.states
    assert [check.state for check in states["USDT"].checks] == [LimitState.EXCEEDED, LimitState.WITHIN]
    assert (states["USDT"].limit_exceeded, states["USD"].limit_exceeded) == (LimitState.EXCEEDED, LimitState.WITHIN)
    assert answer.seen.commits[0].account == DESK


async def test_limits_replace_each_other_whole_under_the_next_version(desk: LimitDesk) -> None:
    first = await desk.limit(gross_exposure_max="100", instrument_exposures_max={BTC: Decimal("1.5")})
    again = await desk.limit(gross_exposure_max="100", instrument_exposures_max={BTC: Decimal("1.5")})
    assert (again.record, again.commits) == (first.record, ())
    second = await desk.limit(day_loss_max="10", counts_unrealized=True, expected_version=1)
    assert second.record.version == 2
    assert second.record.limits.gross_exposure_max is None
    assert second.record.limits.instrument_exposures_max == {}
    assert second.record.limits.counts_unrealized
    with pytest.raises(VersionMismatch, match="at version 2"):
        await desk.limit(day_loss_max="11", expected_version=1)
    with pytest.raises(VersionMismatch):
        await desk.limit("EUR", day_loss_max="11", expected_version=1)
    assert (await desk.limit("EUR", day_loss_max="11", expected_version=0)).record.version == 1


async def test_a_repeated_request_is_answered_as_before_and_an_altered_one_refused(desk: LimitDesk) -> None:
    request = (uuid4(), b"one")
    first = await desk.limit(
        gross_exposure_max="100.50",
        instrument_exposure_max="7",
        instrument_exposures_max={BTC: Decimal("0.000000000000000001")},
        request=request,
    )
    await desk.limit(gross_exposure_max="5")
    repeated = await desk.limit(gross_exposure_max="1", request=request)
    assert repeated.is_replayed
    assert repeated.record == first.record
    with pytest.raises(RequestIdReused):
        await desk.limit(gross_exposure_max="1", request=(request[0], b"two"))


async def test_a_negative_limit_is_refused(desk: LimitDesk) -> None:
    with pytest.raises(InvalidField, match="net_exposure_max"):
        await desk.limit(net_exposure_max="-1")


async def test_an_account_that_never_traded_may_have_limits_and_is_within(desk: LimitDesk) -> None:
    new = Account("new")
    await desk.limit(account=new, gross_exposure_max="0", day_loss_max="0")
    assert (await desk.states(new))["USDT"].limit_exceeded is LimitState.WITHIN
    assert (await desk.limits.get(Account("nobody"))).value.states == {}


async def test_a_missing_price_leaves_a_limit_unknown_unless_the_known_part_exceeds_it(desk: LimitDesk) -> None:
    await desk.record(
        fill("a", "1", "100"), fill("b", "-0.5", "200", of=key("ETHUSDT")), fill("c", "2", "1", of=key("XRPUSDT"))
    )
    await desk.mark(BTCUSDT="100", ETHUSDT="200")
    await desk.limit(gross_exposure_max="200", net_exposure_max="0")
    assert (await desk.states())["USDT"].limit_exceeded is LimitState.UNKNOWN
    await desk.limit(gross_exposure_max="199", net_exposure_max="0")
    assert (await desk.states())["USDT"].limit_exceeded is LimitState.EXCEEDED


async def test_many_accounts_are_told_at_once_and_those_without_limits_left_out(desk: LimitDesk) -> None:
    await desk.record(fill("a", "1", "100"), fill("b", "1", "100", of=key(account="other")))
    await desk.mark(BTCUSDT="100")
    await desk.limit(gross_exposure_max="99")
    found = await desk.risk.limits_exceeded()
    assert {account: state["USDT"].limit_exceeded for account, state in found.items()} == {DESK: LimitState.EXCEEDED}
    assert await desk.risk.limits_exceeded([Account("other")]) == {}
    assert list(await desk.risk.limits_exceeded([DESK, Account("other")])) == [DESK]
