"""Stale prices are refreshed behind the reads' back, from a real exchange's answers into a real store."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import pytest

from steelyard.accounting.errors import PricesNotFresh
from steelyard.accounting.keys import InstrumentName
from steelyard.accounting.marks import MarkState
from steelyard.accounting.units import decimal_text
from steelyard.operations.refresh_marks import (
    AGAIN_AFTER_FAILURE_S,
    AGAIN_AFTER_S,
    AGAIN_AFTER_UNKNOWN_S,
    UNDER_WAY_MAX,
    NoPriceSource,
    PriceFailureReason,
    Refreshed,
    RefreshMarks,
)
from steelyard.prices.bybit import BybitTickers
from steelyard.storage.database import Database
from steelyard.storage.marks import MarkTable
from tests.prices.bybit_server import TIME_MS, BybitServer, late, refuse, say, ticker, tickers
from tests.questions.books import NOW, Book, fill, key

BTC = InstrumentName("BTCUSDT")
ETH = InstrumentName("ETHUSDT")
MNQ = InstrumentName("MNQ MAR26")
WAIT_S = 5.0


class Told(list[Refreshed]):
    """What became of every refresh."""

    def __init__(self) -> None:
        super().__init__()
        self._more = asyncio.Event()

    def tell(self, refreshed: Refreshed) -> None:
        """Takes note of one."""
        self.append(refreshed)
        self._more.set()

    async def settled(self, count: int) -> "Told":
        """Waits until there are so many."""
        async with asyncio.timeout(WAIT_S):
            while len(self) < count:
                self._more.clear()
                await self._more.wait()
        return self


@dataclass
class Watch:
    """A stopwatch that the test turns."""

    now_s: float = 1_000.0


@dataclass
class Desk:
    """A book whose marks are refreshed."""

    book: Book
    refresh: RefreshMarks
    told: Told
    watch: Watch

    async def state(self, name: InstrumentName) -> tuple[str | None, MarkState]:
        """The price of an instrument and how fresh it is."""
        (view,) = (await self.book.marks.page([name], size=1)).rows
        return (None if view.mark is None else decimal_text(view.mark.price)), view.state


@pytest.fixture
async def desk(database_url: str, source: BybitTickers) -> AsyncIterator[Desk]:
    book = Book(database_url)
    await book.begin()
    told = Told()
    watch = Watch()
    store = MarkTable(book.database)
    refresh = RefreshMarks(source, store, clock=book.clock, report=told.tell, now_s=lambda: watch.now_s)
    opened = Desk(book, refresh, told, watch)
    assert NOW.timestamp() * 1_000 == TIME_MS
    yield opened
    await opened.refresh.close()
    await book.close()


async def test_a_stale_price_is_told_at_once_and_fresh_a_moment_later(desk: Desk, bybit: BybitServer) -> None:
    desk.book.now -= timedelta(minutes=10)
    await desk.book.mark(BTCUSDT="50000")
    desk.book.now = NOW
    bybit.always[BTC] = late(0.1, tickers(ticker(BTC)))
    assert await desk.state(BTC) == ("50000", MarkState.STALE)
    begun = time.monotonic()
    desk.refresh.met([BTC])
    took_s = time.monotonic() - begun
    assert await desk.state(BTC) == ("50000", MarkState.STALE)
    (refreshed,) = await desk.told.settled(1)
    assert refreshed.failure is None
    assert await desk.state(BTC) == ("51000.1", MarkState.FRESH)
    print(f"a read that met a stale price was held up for {took_s * 1e6:.0f} µs")
    assert took_s < 0.05


async def test_a_missing_price_is_had_too_and_a_position_shows_it(desk: Desk) -> None:
    await desk.book.record(fill("1", "2", "50000"))
    desk.refresh.met([BTC])
    await desk.told.settled(1)
    portfolio = (await desk.book.portfolio.get()).value.portfolio
    assert portfolio.complete
    assert portfolio.currencies["USDT"].unrealized_pnl == Decimal("2000.20")


async def test_one_call_is_in_flight_for_an_instrument_however_many_reads_meet_it(
    desk: Desk, bybit: BybitServer
) -> None:
    bybit.always[BTC] = late(0.1, tickers(ticker(BTC)))
    for _ in range(100):
        desk.refresh.met([BTC, ETH, BTC])
        await asyncio.sleep(0)
    await desk.told.settled(2)
    assert (bybit.asked[BTC], bybit.most_at_once[BTC], bybit.asked[ETH]) == (1, 1, 1)


async def test_an_instrument_the_source_does_not_list_is_never_asked_for(desk: Desk, bybit: BybitServer) -> None:
    desk.refresh.met([MNQ])
    await asyncio.sleep(0.05)
    assert bybit.asked.total() == 0
    assert desk.told == []


@pytest.mark.parametrize("trouble", ["down", "refused", "limited", "garbled", "slow"])
async def test_a_failure_leaves_the_last_known_price_and_no_read_notices(
    trouble: str, desk: Desk, bybit: BybitServer
) -> None:
    desk.book.now -= timedelta(minutes=10)
    await desk.book.mark(BTCUSDT="50000")
    desk.book.now = NOW
    await desk.book.record(fill("1", "1", "49000"))
    answers = {
        "down": say("", status=503),
        "refused": refuse(10024, "Compliance rules triggered"),
        "limited": say("", status=403),
        "garbled": say("<html>"),
        "slow": late(2, tickers(ticker(BTC))),
    }
    bybit.always[BTC] = answers[trouble]
    desk.refresh.met([BTC])
    reads, begun = 0, time.monotonic()
    while not desk.told:
        portfolio = (await desk.book.portfolio.get()).value.portfolio
        assert portfolio.currencies["USDT"].unrealized_pnl == 1_000
        assert portfolio.currencies["USDT"].stale_prices == (BTC,)
        reads += 1
    assert desk.told[0].failure is not None
    print(f"{trouble}: {reads} reads in {time.monotonic() - begun:.2f} s meanwhile; {desk.told[0].failure}")
    assert await desk.state(BTC) == ("50000", MarkState.STALE)


async def test_after_a_failure_the_source_is_left_alone_for_a_while_and_then_asked_again(
    desk: Desk, bybit: BybitServer
) -> None:
    bybit.always[BTC] = say("", status=404)
    desk.refresh.met([BTC])
    await desk.told.settled(1)
    desk.watch.now_s += AGAIN_AFTER_FAILURE_S - 0.1
    desk.refresh.met([BTC])
    await asyncio.sleep(0.02)
    assert bybit.asked[BTC] == 1
    del bybit.always[BTC]
    desk.watch.now_s += 0.1
    desk.refresh.met([BTC])
    await desk.told.settled(2)
    assert await desk.state(BTC) == ("51000.1", MarkState.FRESH)


async def test_an_unknown_symbol_is_asked_for_again_ten_minutes_later_at_the_earliest(
    desk: Desk, bybit: BybitServer
) -> None:
    unlisted = InstrumentName("NOSUCHUSDT")
    desk.refresh.met([unlisted])
    (refreshed,) = await desk.told.settled(1)
    assert refreshed.failure is not None
    assert refreshed.failure.reason is PriceFailureReason.UNKNOWN_INSTRUMENT
    desk.watch.now_s += AGAIN_AFTER_UNKNOWN_S - 1
    desk.refresh.met([unlisted])
    await asyncio.sleep(0.02)
    assert bybit.asked[unlisted] == 1


async def test_a_price_the_exchange_itself_has_had_for_long_does_not_keep_us_asking(
    desk: Desk, bybit: BybitServer
) -> None:
    bybit.always[BTC] = tickers(ticker(BTC), at_ms=TIME_MS - 600_000)
    desk.refresh.met([BTC])
    await desk.told.settled(1)
    assert await desk.state(BTC) == ("51000.1", MarkState.STALE)
    desk.refresh.met([BTC])
    await asyncio.sleep(0.02)
    assert bybit.asked[BTC] == 1
    desk.watch.now_s += AGAIN_AFTER_S
    desk.refresh.met([BTC])
    await desk.told.settled(2)


async def test_a_newer_price_reported_meanwhile_is_not_replaced(desk: Desk, bybit: BybitServer) -> None:
    bybit.always[BTC] = late(0.05, tickers(ticker(BTC), at_ms=TIME_MS - 1_000))
    desk.refresh.met([BTC])
    await desk.book.mark(BTCUSDT="52000")
    await desk.told.settled(1)
    assert await desk.state(BTC) == ("52000", MarkState.FRESH)


async def test_a_price_from_the_future_or_of_an_instrument_without_record_is_refused(
    desk: Desk, bybit: BybitServer
) -> None:
    bybit.always[BTC] = tickers(ticker(BTC), at_ms=TIME_MS + 6_000)
    perpetual = InstrumentName("BTCPERP")
    desk.refresh.met([BTC, perpetual])
    reasons = {each.instrument: each.failure.reason for each in await desk.told.settled(2) if each.failure is not None}
    assert reasons == {BTC: PriceFailureReason.REFUSED, perpetual: PriceFailureReason.UNKNOWN_INSTRUMENT}
    assert (desk.refresh.refreshed, desk.refresh.failures.total()) == (0, 2)
    assert await desk.state(BTC) == (None, MarkState.MISSING)


async def test_a_store_that_is_away_is_told_and_nothing_else_happens(source: BybitTickers) -> None:
    nowhere = Database("postgresql://nobody@127.0.0.1:1/nowhere")
    told = Told()
    refresh = RefreshMarks(source, MarkTable(nowhere), clock=lambda: NOW, report=told.tell)
    refresh.met([BTC])
    await told.settled(1)
    assert told[0].failure is not None
    assert told[0].failure.reason is PriceFailureReason.STORE
    await refresh.close()
    await nowhere.close()


async def test_more_than_the_limit_is_not_begun_and_closing_ends_what_was(desk: Desk, bybit: BybitServer) -> None:
    names = [InstrumentName(f"C{number}USDT") for number in range(UNDER_WAY_MAX + 50)]
    for name in names:
        bybit.always[name] = late(30, tickers(ticker(name)))
    desk.refresh.met(names)
    assert len(desk.refresh._flights) == UNDER_WAY_MAX
    async with asyncio.timeout(1):
        await desk.refresh.close()


async def test_who_demands_fresh_prices_waits_for_them(desk: Desk, bybit: BybitServer) -> None:
    bybit.always[BTC] = late(0.05, tickers(ticker(BTC)))
    desk.refresh.met([BTC])
    await desk.refresh.demand([BTC, ETH], wait_s=WAIT_S)
    assert (await desk.state(BTC))[1] is MarkState.FRESH
    assert (await desk.state(ETH))[1] is MarkState.FRESH
    asked = bybit.asked.total()
    await desk.refresh.demand([BTC, ETH], wait_s=WAIT_S)
    await desk.refresh.demand([], wait_s=WAIT_S)
    assert (bybit.asked.total(), bybit.asked[BTC]) == (asked, 1)


async def test_prices_demanded_that_cannot_be_had_in_time_are_refused_by_name(desk: Desk, bybit: BybitServer) -> None:
    bybit.always[BTC] = late(0.15, tickers(ticker(BTC)))
    begun = time.monotonic()
    with pytest.raises(PricesNotFresh, match=BTC):
        await desk.refresh.demand([BTC, ETH], wait_s=0.05)
    assert time.monotonic() - begun < 1
    with pytest.raises(PricesNotFresh, match=MNQ):
        await desk.refresh.demand([MNQ], wait_s=WAIT_S)
    assert (await desk.state(ETH))[1] is MarkState.FRESH
    await desk.told.settled(2)
    assert (await desk.state(BTC))[1] is MarkState.FRESH, "the call went on for the next one"


async def test_without_a_source_nothing_is_asked_and_demands_are_refused(desk: Desk) -> None:
    refresh = RefreshMarks(NoPriceSource(), MarkTable(desk.book.database), clock=desk.book.clock)
    refresh.met([BTC, key().instrument])
    with pytest.raises(PricesNotFresh):
        await refresh.demand([BTC], wait_s=WAIT_S)
    await refresh.close()
