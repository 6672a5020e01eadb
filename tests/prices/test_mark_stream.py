"""10,000 prices a second through a real server: what waits does not grow, and few of them are written.

The figures are printed and recorded; bounds are generous, since the machine is shared.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from steelyard.client import Instrument, InstrumentKind, Steelyard
from steelyard.operations.apply_marks import WRITE_INTERVAL_S
from steelyard.v1 import market_pb2, market_service_pb2, market_service_pb2_grpc
from tests.client.desk import client_of, now, serving_book

PER_S = 10_000
INSTRUMENTS = [f"COIN{number:02}USDT" for number in range(50)]
IN_MESSAGE = 100
LOOK_EVERY_S = 0.1
LAG_MAX_S = 3.0


@dataclass
class Stream:
    """Prices sent so far, each one greater than the one before, and how far the store lagged behind."""

    lasting_s: float
    sent: int = 0
    lags_s: list[float] = field(default_factory=list)
    began_s: float = 0.0

    async def messages(self) -> AsyncIterator[market_service_pb2.ReportMarksRequest]:
        """As many as 10,000 prices a second need; late ones follow at once."""
        clock = asyncio.get_running_loop().time
        self.began_s = clock()
        while self.sent < PER_S * self.lasting_s:
            request = market_service_pb2.ReportMarksRequest()
            for place in range(IN_MESSAGE):
                number = self.sent + place
                mark = request.marks.add(instrument=INSTRUMENTS[number % len(INSTRUMENTS)], price=str(number + 1))
                mark.at.FromDatetime(now())
            yield request
            self.sent += IN_MESSAGE
            await asyncio.sleep(max(0.0, self.began_s + self.sent / PER_S - clock()))

    async def watch(self, connection: Any) -> None:
        """Looks how many prices the newest one written lies behind the newest one sent, as seconds of the stream."""
        while True:
            sent = self.sent
            newest = await connection.fetchval("SELECT max(price) FROM marks") or 0
            self.lags_s.append(max(0, sent - int(newest)) / PER_S)
            await asyncio.sleep(LOOK_EVERY_S)


async def add_instruments(steelyard: Steelyard) -> None:
    for name in INSTRUMENTS:
        await steelyard.upsert_instrument(
            Instrument(
                instrument=name,
                kind=InstrumentKind.LINEAR,
                multiplier=Decimal(1),
                quote_currency="USDT",
                settle_currency="USDT",
            )
        )


async def stream_prices(url: str, lasting_s: float) -> tuple[Stream, market_service_pb2.ReportMarksResponse, float]:
    """The stream, what became of it, and how long its end took to be answered."""
    stream = Stream(lasting_s)
    connection = await asyncpg.connect(url)
    async with serving_book(url) as service, client_of(service.address) as steelyard:
        await add_instruments(steelyard)
        looking = asyncio.create_task(stream.watch(connection))
        stub = market_service_pb2_grpc.MarketServiceStub(steelyard.channel)
        answer = await stub.ReportMarks(stream.messages())
        took_s = asyncio.get_running_loop().time() - stream.began_s
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        stored = {mark.instrument: mark.price async for mark in steelyard.list_marks(INSTRUMENTS, page_size=100)}
    await connection.close()
    newest = range(stream.sent - len(INSTRUMENTS) + 1, stream.sent + 1)
    assert sorted(price for price in stored.values() if price is not None) == list(newest)
    return stream, answer, took_s


@pytest.mark.parametrize("lasting_s", [1.5, pytest.param(5.0, marks=pytest.mark.long)])
async def test_ten_thousand_prices_a_second_leave_no_growing_backlog_and_are_written_in_lots(
    database_url: str, lasting_s: float, record_property: Any
) -> None:
    stream, answer, took_s = await stream_prices(database_url, lasting_s)
    half = len(stream.lags_s) // 2
    figures = {
        "prices": stream.sent,
        "per_s": round(stream.sent / took_s),
        "rows_written": answer.accepted,
        "lag_first_half_max_s": max(stream.lags_s[:half]),
        "lag_second_half_max_s": max(stream.lags_s[half:]),
    }
    print(f"\nReportMarks: {figures}")
    for name, figure in figures.items():
        record_property(name, figure)
    assert (answer.accepted + answer.superseded, answer.rejected) == (stream.sent, 0)
    assert answer.accepted <= len(INSTRUMENTS) * (took_s / WRITE_INTERVAL_S + 2)
    assert figures["lag_second_half_max_s"] <= LAG_MAX_S


async def test_a_price_before_a_lull_is_written_though_the_stream_goes_on(database_url: str) -> None:
    async with serving_book(database_url) as service, client_of(service.address) as steelyard:
        await add_instruments(steelyard)
        is_written = asyncio.Event()

        async def messages() -> AsyncIterator[market_service_pb2.ReportMarksRequest]:
            for price in ("1", "2", "3"):
                mark = market_pb2.Mark(instrument=INSTRUMENTS[0], price=price)
                mark.at.FromDatetime(now())
                yield market_service_pb2.ReportMarksRequest(marks=[mark])
            await is_written.wait()

        stub = market_service_pb2_grpc.MarketServiceStub(steelyard.channel)
        call = stub.ReportMarks(messages())
        for _ in range(200):
            if [mark.price async for mark in steelyard.list_marks(INSTRUMENTS[:1])] == [3]:
                break
            await asyncio.sleep(LOOK_EVERY_S)
        else:
            raise AssertionError("the last price was not written")
        is_written.set()
        answer = await call
        assert answer.accepted + answer.superseded == 3
