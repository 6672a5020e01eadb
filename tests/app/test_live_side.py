"""The service with Redis and a price source named in its settings: quicker, newer, and unharmed when they are away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

from pydantic import SecretStr

from steelyard.app.assembly import Service
from steelyard.app.settings import Settings
from steelyard.client import Mark, Steelyard
from steelyard.telemetry.logs import silent_log
from tests.client.desk import client_of, make_fill, now
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


__all__ = ["redis_process", "redis_server"]
