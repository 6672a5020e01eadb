"""What is made of Bybit's answers: prices, what passes and is tried again, what does not, and limits."""

import asyncio
import time
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from steelyard.accounting.keys import InstrumentName
from steelyard.accounting.marks import Mark
from steelyard.operations.refresh_marks import PriceFailure, PriceFailureReason
from steelyard.prices.bybit import BybitTickers
from steelyard.prices.bybit_calls import BANNED_S, RETRY_AFTER_S, TIMEOUT_S
from steelyard.prices.sources import SOURCES, PriceSourceSettings, price_source
from tests.prices.bybit_server import (
    TIME_MS,
    Answer,
    BybitServer,
    cut,
    endless,
    envelope,
    late,
    refuse,
    say,
    ticker,
    tickers,
)

BTC = InstrumentName("BTCUSDT")
ETH = InstrumentName("ETHUSDT")
Reason = PriceFailureReason


def reason(outcome: Mark | PriceFailure) -> PriceFailureReason:
    assert isinstance(outcome, PriceFailure)
    assert outcome.text
    return outcome.reason


async def test_the_mark_price_comes_exactly_and_with_bybits_own_time(source: BybitTickers) -> None:
    expected = Mark(Decimal("51000.10"), datetime(2026, 3, 6, 12, 0, tzinfo=UTC), "bybit")
    assert await source.latest(BTC) == expected
    small = await source.latest(InstrumentName("1000PEPEUSDT"))
    assert isinstance(small, Mark)
    assert str(small.price) == "0.0071234"


async def test_without_a_mark_price_the_last_one_traded_counts(bybit: BybitServer, source: BybitTickers) -> None:
    bybit.always[BTC] = tickers(ticker(BTC, markPrice=""))
    outcome = await source.latest(BTC)
    assert isinstance(outcome, Mark)
    assert outcome.price == Decimal("1.23")


PASSING: dict[str, tuple[Answer, PriceFailureReason]] = {
    "server error": (say("oops", status=500), Reason.UNREACHABLE),
    "bad gateway": (say("<html>", status=502), Reason.UNREACHABLE),
    "system protection, HTTP": (say("", status=429), Reason.RATE_LIMITED),
    "server timeout": (refuse(10000, "Server Timeout"), Reason.UNREACHABLE),
    "internal error": (refuse(10016, "Internal server error"), Reason.UNREACHABLE),
    "too many visits": (
        refuse(10006, "Too many visits!", X_Bapi_Limit_Reset_Timestamp=str(TIME_MS)),
        Reason.RATE_LIMITED,
    ),
    "cut": (cut, Reason.UNREACHABLE),
    "slow": (late(0.5, tickers(ticker(BTC))), Reason.TIMEOUT),
    "no JSON": (say("<html>maintenance</html>"), Reason.GARBLED),
    "empty": (say(""), Reason.GARBLED),
    "another shape": (say([1, 2]), Reason.GARBLED),
    "no result": (say(envelope(None)), Reason.GARBLED),
    "deeply nested": (say("[" * 200_000), Reason.GARBLED),
    "another symbol": (tickers(ticker(ETH)), Reason.GARBLED),
    "not a number": (tickers(ticker(BTC, markPrice="NaN")), Reason.GARBLED),
    "an exponent": (tickers(ticker(BTC, markPrice="1e999999")), Reason.GARBLED),
    "a number without quotes": (tickers(ticker(BTC, markPrice=1.5)), Reason.GARBLED),
    "zero": (tickers(ticker(BTC, markPrice="0")), Reason.GARBLED),
    "no time": (say(envelope({"list": [ticker(BTC)]}) | {"time": "now"}), Reason.GARBLED),
    "a time beyond the calendar": (tickers(ticker(BTC), at_ms=10**18), Reason.GARBLED),
    "endless": (endless, Reason.GARBLED),
}


@pytest.mark.parametrize("name", PASSING)
async def test_what_may_pass_is_tried_again(name: str, bybit: BybitServer, source: BybitTickers) -> None:
    bybit.in_store[BTC].append(PASSING[name][0])
    assert isinstance(await source.latest(BTC), Mark)
    assert bybit.asked[BTC] == 2


@pytest.mark.parametrize("name", PASSING)
async def test_after_four_calls_the_failure_is_told(name: str, bybit: BybitServer, source: BybitTickers) -> None:
    answer, expected = PASSING[name]
    bybit.always[BTC] = answer
    assert reason(await source.latest(BTC)) is expected
    assert bybit.asked[BTC] == 4


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (refuse(10001, "params error: symbol invalid"), Reason.UNKNOWN_INSTRUMENT),
        (refuse(10029, "The requested symbol is invalid"), Reason.UNKNOWN_INSTRUMENT),
        (tickers(), Reason.UNKNOWN_INSTRUMENT),
        (refuse(10024, "Compliance rules triggered"), Reason.REFUSED),
        (say("", status=404), Reason.REFUSED),
        (say("", status=302, headers={"Location": "/elsewhere"}), Reason.REFUSED),
    ],
    ids=["10001", "10029", "no ticker", "10024", "404", "302"],
)
async def test_what_will_not_pass_is_not_tried_again(
    answer: Answer, expected: PriceFailureReason, bybit: BybitServer, source: BybitTickers
) -> None:
    bybit.always[BTC] = answer
    assert reason(await source.latest(BTC)) is expected
    assert bybit.asked[BTC] == 1


async def test_nobody_listens(bybit: BybitServer, source: BybitTickers) -> None:
    await bybit.stop()
    assert reason(await source.latest(BTC)) is Reason.UNREACHABLE
    await bybit.start()


async def test_too_many_visits_pauses_every_instrument_until_the_moment_named(
    bybit: BybitServer, source: BybitTickers
) -> None:
    bybit.in_store[BTC].append(refuse(10006, "Too many visits!", X_Bapi_Limit_Reset_Timestamp=str(TIME_MS + 400)))
    begun = time.monotonic()
    asking = asyncio.create_task(source.latest(BTC))
    await asyncio.sleep(0.1)
    assert isinstance(await source.latest(ETH), Mark)
    took_s = time.monotonic() - begun
    assert isinstance(await asking, Mark)
    print(f"the other instrument waited {took_s * 1e3:.0f} ms for the pause of 400 ms")
    assert took_s >= 0.4


@pytest.mark.parametrize(
    "banned",
    [say("access too frequent", status=403), refuse(10018, "Exceeded the IP Rate Limit.")],
    ids=["403", "10018"],
)
async def test_a_banned_address_asks_nothing_for_ten_minutes(
    banned: Answer, bybit: BybitServer, source: BybitTickers
) -> None:
    bybit.in_store[BTC].append(banned)
    for instrument in (BTC, BTC, ETH):
        assert reason(await source.latest(instrument)) is Reason.RATE_LIMITED
    assert source.calls == 1
    assert BANNED_S == 600


async def test_a_ban_that_is_over_is_forgotten(bybit: BybitServer) -> None:
    source = BybitTickers(bybit.url, banned_s=0.05)
    bybit.in_store[BTC].append(say("", status=403))
    assert reason(await source.latest(BTC)) is Reason.RATE_LIMITED
    assert isinstance(await source.latest(BTC), Mark)
    await source.close()


async def test_few_calls_are_under_way_at_once(bybit: BybitServer, source: BybitTickers) -> None:
    names = [InstrumentName(f"C{number}USDT") for number in range(60)]
    for name in names:
        bybit.always[name] = late(0.01, tickers(ticker(name)))
    assert all(isinstance(outcome, Mark) for outcome in await asyncio.gather(*map(source.latest, names)))
    assert 1 < bybit.most_total_at_once <= 8


def test_the_times_are_those_of_the_law() -> None:
    assert TIMEOUT_S == 5
    assert RETRY_AFTER_S == (1, 2, 4)


@pytest.mark.parametrize(
    ("name", "is_known"),
    [
        ("BTCUSDT", True),
        ("1000PEPEUSDT", True),
        ("BTCPERP", True),
        ("BTCUSD", False),
        ("MNQ SEP25", False),
        ("USDT", False),
    ],
)
async def test_it_is_asked_only_for_linear_perpetuals(name: str, *, is_known: bool) -> None:
    assert BybitTickers().knows(InstrumentName(name)) is is_known


async def test_a_setting_names_the_source(bybit: BybitServer) -> None:
    source = price_source(PriceSourceSettings("bybit", url=f"{bybit.url}/", instruments="BTC.*"))
    assert isinstance(await source.latest(BTC), Mark)
    assert (source.knows(BTC), source.knows(ETH)) == (True, False)
    await source.close()
    nobody = price_source(PriceSourceSettings())
    assert not nobody.knows(BTC)
    assert reason(await nobody.latest(BTC)) is Reason.UNKNOWN_INSTRUMENT
    await nobody.close()
    with pytest.raises(ValueError, match="none, bybit"):
        price_source(PriceSourceSettings("kraken"))
    assert set(SOURCES) == {"none", "bybit"}
