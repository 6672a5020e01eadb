"""The cache behind a real server: where answers say they come from, and what telling one again costs."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import grpc.aio
import pytest

from steelyard.accounting.keys import InstrumentName
from steelyard.cache.redis_cache import RedisCache
from steelyard.operations.cached_reads import CachedPortfolio
from steelyard.operations.newest_heads import NotedLedger
from steelyard.operations.read_portfolio import PortfolioView
from steelyard.operations.read_positions import ReadPositions
from steelyard.operations.reading import Answer
from steelyard.rpc import encoded_once
from steelyard.rpc.encoded_once import KEPT_MAX, EncodedOnce
from steelyard.rpc.server import GrpcServer, ServerSettings, Services
from steelyard.storage.position_reads import PositionReads
from steelyard.v1 import common_pb2, portfolio_service_pb2, portfolio_service_pb2_grpc
from tests.cache.desk import DESK, Desk, held
from tests.questions.books import fill, key
from tests.questions.wire import portfolio_servicer
from tests.rpc.trouble import LogLines

ASKED = 400


@pytest.fixture
async def stub(desk: Desk) -> AsyncIterator[portfolio_service_pb2_grpc.PortfolioServiceStub]:
    """PortfolioService of the desk."""
    servicer = portfolio_servicer(desk.book, read=desk.portfolio)
    settings = ServerSettings(port=0, drain_wait_s=0.0)
    server = GrpcServer(Services(portfolio=servicer), settings=settings, ping=desk.book.database.ping, log=LogLines())
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield portfolio_service_pb2_grpc.PortfolioServiceStub(channel)
    await server.stop()


async def test_answers_say_where_they_come_from_and_are_the_same(
    desk: Desk, stub: portfolio_service_pb2_grpc.PortfolioServiceStub
) -> None:
    await desk.buy("2")
    await desk.book.mark(BTCUSDT="110")
    for ask, request in (
        (stub.GetPortfolio, portfolio_service_pb2.GetPortfolioRequest(accounts=[DESK])),
        (stub.GetPortfolio, portfolio_service_pb2.GetPortfolioRequest(accounts=[DESK], include_positions=True)),
    ):
        first, second, third = await ask(request), await ask(request), await ask(request)
        assert first.header.served_from == common_pb2.SERVED_FROM_STORE
        assert second.header.served_from == common_pb2.SERVED_FROM_CACHE
        assert second == third
        assert second.currencies == first.currencies
        assert second.positions == first.positions
        assert second.header.commits == first.header.commits
    exposure = await stub.GetExposure(portfolio_service_pb2.GetExposureRequest(accounts=[DESK]))
    pnl = await stub.GetPnl(portfolio_service_pb2.GetPnlRequest(accounts=[DESK]))
    assert exposure.header.served_from == pnl.header.served_from == common_pb2.SERVED_FROM_CACHE
    assert (exposure.currencies[0].gross_exposure, pnl.currencies[0].unrealized_pnl) == ("220", "20")


async def test_what_telling_a_portfolio_of_a_hundred_positions_again_costs(
    desk: Desk, stub: portfolio_service_pb2_grpc.PortfolioServiceStub
) -> None:
    """Prints figures; times are not asserted, only that all but the first came from memory."""
    books = [fill(f"f{n}", "1", "100", of=key(book=f"book{n}"), minute=n) for n in range(100)]
    await desk.book.record(*books)
    await desk.book.mark(BTCUSDT="110")
    request = portfolio_service_pb2.GetPortfolioRequest(accounts=[DESK])
    begun = time.monotonic()
    answer = await stub.GetPortfolio(request)
    uncached_s = time.monotonic() - begun

    async def ask() -> None:
        for _ in range(ASKED // 8):
            await stub.GetPortfolio(request)

    begun = time.monotonic()
    await asyncio.gather(*(ask() for _ in range(8)))
    took_s = time.monotonic() - begun
    figures = desk.portfolio.figures
    print(
        f"100 positions, {answer.ByteSize()} bytes: uncached {uncached_s * 1e3:.1f} ms; then "
        f"{ASKED / took_s:.0f} calls/s; {figures}"
    )
    assert len(answer.currencies[0].by_book) == 100
    assert (figures.from_store, figures.from_memory) == (1, ASKED)


async def test_a_message_is_made_once_for_each_answer_and_few_are_kept(desk: Desk) -> None:
    """Also of one that was read: whoever waited for that read is told the same object."""
    made: list[Answer[PortfolioView]] = []

    def encode(answer: Answer[PortfolioView]) -> common_pb2.Commit:
        made.append(answer)
        return common_pb2.Commit(account=DESK, seq=len(made))

    encoded = EncodedOnce(encode)
    await desk.buy()
    fresh = await desk.portfolio.get(accounts=[DESK])
    assert encoded(fresh) is encoded(fresh)
    cached = await desk.portfolio.get(accounts=[DESK])
    assert encoded(cached) is encoded(cached)
    for _ in range(KEPT_MAX):
        await desk.buy()
        await desk.portfolio.get(accounts=[DESK])
        encoded(await desk.portfolio.get(accounts=[DESK]))
    assert len(made) == 1 + 1 + KEPT_MAX
    encoded(cached)
    assert len(made) == 1 + 1 + KEPT_MAX + 1


async def test_answers_are_kept_up_to_so_many_bytes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded_once, "KEPT_BYTES_MAX", 100)
    made: list[int] = []

    def encode(answer: Answer[PortfolioView]) -> common_pb2.Commit:
        made.append(len(made))
        return common_pb2.Commit(account="a" * 60)

    encoded = EncodedOnce(encode)
    await desk.buy()
    first, second = await desk.portfolio.get(accounts=[DESK]), await desk.portfolio.get()
    for answer in (first, first, second, second, first):
        encoded(answer)
    assert len(made) == 3


async def test_what_a_noted_ledger_commits_is_in_the_next_answer(desk: Desk) -> None:
    desk.book.ledger = NotedLedger(desk.book.ledger, desk.heads)  # type: ignore[assignment] # the same port
    for bought in range(1, 6):
        await desk.book.record(fill(f"n{bought}", "1", "100", minute=bought))
        assert held(await desk.portfolio.get(accounts=[DESK])) == bought


async def test_reads_that_meet_stale_or_missing_prices_of_what_is_held_say_so(desk: Desk, cache: RedisCache) -> None:
    met: list[InstrumentName] = []
    book = desk.book
    portfolio = CachedPortfolio(book.portfolio, cache, heads=desk.heads, clock=book.clock, met_stale=met.extend)
    positions = ReadPositions(PositionReads(book.database), book.reading, clock=book.clock, met_stale=met.extend)
    await book.record(
        fill("1", "1", "100"),
        fill("2", "1", "100", of=key("ETHUSDT")),
        fill("3", "1", "100", of=key("XRPUSDT")),
        fill("4", "-1", "100", of=key("XRPUSDT"), minute=1),
    )
    await book.mark(BTCUSDT="100")
    await portfolio.get(accounts=[DESK])
    assert met == ["ETHUSDT"]
    await portfolio.get(accounts=[DESK])
    assert met == ["ETHUSDT"] * 2
    book.now += timedelta(seconds=301)
    met.clear()
    for name in ("BTCUSDT", "ETHUSDT", "XRPUSDT"):
        await positions.get(key(name))
    assert met == ["BTCUSDT", "ETHUSDT"]
