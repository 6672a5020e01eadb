"""The service with Redis and a price source named in its settings: quicker, newer, and unharmed when they are away."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal

from pydantic import SecretStr

from steelyard.accounting.keys import Account
from steelyard.app.assembly import Service
from steelyard.app.settings import Settings
from steelyard.cache.redis_cache import RedisCache
from steelyard.client import Limits, LimitState, Mark, Order, Side, Steelyard
from steelyard.storage.heads import HeadReads
from steelyard.telemetry.logs import silent_log
from tests.cache.desk import Desk, epoch_of_tests
from tests.client.desk import client_of, make_fill, now, serving_book
from tests.questions.books import Book
from tests.support.redis import RedisServer, redis_process, redis_server


@asynccontextmanager
async def serving_with(url: str, redis_url: str) -> AsyncIterator[Steelyard]:
    settings = Settings(
        port=0,
        drain_wait_s=0.01,
        pool_size=4,
        redis_url=SecretStr(redis_url),
        cache_key=SecretStr("a secret of the service"),
        price_source="bybit",
        price_source_url="http://127.0.0.1:9",
    )
    service = Service(settings, url=url, log=silent_log())
    await service.start()
    try:
        async with client_of(service.address) as steelyard:
            yield steelyard
    finally:
        await service.stop()


async def exposure(steelyard: Steelyard) -> Decimal:
    portfolio = await steelyard.get_portfolio(["desk"])
    return portfolio.currencies[0].gross_exposure


async def test_an_answer_through_redis_is_never_older_than_a_commit(
    database_url: str, redis_server: RedisServer
) -> None:
    async with serving_with(database_url, redis_server.url) as steelyard:
        await steelyard.report_marks([Mark(instrument="MNQ SEP25", price=Decimal(25000), at=now(), source="test")])
        for number in range(1, 6):
            await steelyard.record_fill(make_fill(number))
            assert await exposure(steelyard) == 50_000 * number
            assert await exposure(steelyard) == 50_000 * number


async def test_answers_come_while_redis_and_the_price_source_are_away(database_url: str) -> None:
    async with serving_with(database_url, "redis://127.0.0.1:9/0") as steelyard:
        await steelyard.record_fill(make_fill(1))
        portfolio = await steelyard.get_portfolio(["desk"])
        assert portfolio.currencies[0].missing_prices == ("MNQ SEP25",)


async def test_limits_hold_and_orders_are_checked_while_redis_is_killed_under_them(
    database_url: str, redis_server: RedisServer, record_property: Callable[[str, object], None]
) -> None:
    order = Order(account="desk", instrument="MNQ SEP25", side=Side.BUY, quantity=Decimal(1))
    async with serving_with(database_url, redis_server.url) as steelyard:
        await steelyard.report_marks([Mark(instrument="MNQ SEP25", price=Decimal(25000), at=now(), source="test")])
        await steelyard.record_fill(make_fill(1))
        await steelyard.set_limits(Limits(account="desk", settle_currency="USD", gross_exposure_max=Decimal(120_000)))
        asked, states = 0, []
        for number in range(2, 5):
            if number == 3:
                await asyncio.to_thread(redis_server.kill)
            for _ in range(5):
                portfolio, (limits,) = await steelyard.get_portfolio(["desk"]), await steelyard.get_limits("desk")
                check = await steelyard.check_order(order)
                states.append(portfolio.currencies[0].limit_exceeded)
                asked += 3
                assert check.within_limits is (number == 2)
                assert limits.checks[0].state is portfolio.currencies[0].limit_exceeded
            await steelyard.record_fill(make_fill(number))
        record_property("calls_with_redis_killed_between", asked)
        print(f"limits with Redis killed between: {asked} calls, 0 failed")
        assert states == [LimitState.WITHIN] * 10 + [LimitState.EXCEEDED] * 5


async def test_what_warming_saves_the_first_question(
    database_url: str, redis_server: RedisServer, record_property: Callable[[str, object], None]
) -> None:
    """Figures: how long first answers of a cold and of a warmed process take, and the hit rate of the warmed one."""
    async with serving_book(database_url) as service, client_of(service.address) as steelyard:
        for number in range(1, 51):
            await steelyard.record_fill(make_fill(number, account=f"a{number}"))
    book = Book(database_url)
    took_ms, rate = {}, 0.0
    for name in ("cold", "warm"):
        redis_server.wipe()
        cache = RedisCache(redis_server.url, epoch=epoch_of_tests)
        desk = Desk(book, cache)
        if name == "warm":
            assert await desk.portfolio.warm(await HeadReads(book.database).recent_accounts(100), within_s=30) == 51
        begun_s = time.perf_counter()
        for number in range(1, 51):
            await desk.portfolio.get(accounts=[Account(f"a{number}")])
        took_ms[name] = (time.perf_counter() - begun_s) / 50 * 1_000
        rate = desk.portfolio.figures.from_memory / 50
        await desk.close()
        await cache.close()
    await book.close()
    print(f"first answers of 50 accounts: {took_ms} ms each; hit rate of the warmed {rate:.0%}")
    for name, figure in took_ms.items():
        record_property(f"first_answer_{name}_ms", round(figure, 3))
    assert rate == 1


__all__ = ["redis_process", "redis_server"]
