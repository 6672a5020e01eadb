"""How often a key may ask: in one process, over replicas that share a count, and while that is away."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest
from pydantic import SecretStr

from steelyard.accounting.errors import RateLimited, StreamLimit
from steelyard.app.assembly import system_clock
from steelyard.cache.redis_cache import RedisCache
from steelyard.client import Steelyard, TryLater
from steelyard.operations.access import ApiKey, KeyTerms, Scope
from steelyard.operations.allowances import Allowances, NoSharedCount
from tests.access.desk import call, client, guarded, new_key
from tests.client.desk import make_fill
from tests.support.redis import RedisServer

LIST = "/steelyard.v1.PositionService/ListPositions"
WATCH = "/steelyard.v1.PositionService/WatchPositions"
MIDDLE_OF_A_MINUTE_S = 60 * 29_000_000 + 20.0


def key_of(**terms: object) -> ApiKey:
    whole = {"owner": "a", "scopes": frozenset({Scope.ADMIN}), **terms}
    return ApiKey(key_id="abcdefgh", terms=KeyTerms(**whole), created_at=system_clock())  # type: ignore[arg-type]


async def taken(allowances: Allowances, key: ApiKey, *, tries: int) -> int:
    """How many of so many calls were let through."""
    count = 0
    for _ in range(tries):
        try:
            await allowances.take_call(key)
        except RateLimited:
            continue
        count += 1
    return count


async def test_a_process_alone_lets_exactly_the_allowance_through_and_begins_anew_with_the_minute() -> None:
    now_s = [MIDDLE_OF_A_MINUTE_S]
    allowances = Allowances(NoSharedCount(), epoch_s=lambda: now_s[0])
    key = key_of(calls_per_minute=37)
    assert await taken(allowances, key, tries=100) == 37
    with pytest.raises(RateLimited) as caught:
        await allowances.take_call(key)
    assert caught.value.retry_after_s == 40.0
    now_s[0] += 40.0
    standing = await allowances.take_call(key)
    assert (standing.limit, standing.remaining, standing.reset_s) == (37, 36, 60)


async def test_replicas_that_share_a_count_let_no_more_through_together(redis_server: RedisServer) -> None:
    async def epoch() -> str:
        return "e"

    caches = [RedisCache(redis_server.url, epoch=epoch, timeout_s=5.0) for _ in range(3)]
    replicas = [Allowances(cache, epoch_s=lambda: MIDDLE_OF_A_MINUTE_S) for cache in caches]
    key = key_of(tier="risk", calls_per_minute=200)
    counts = await asyncio.gather(*(taken(replica, key, tries=150) for replica in replicas))
    assert sum(counts) <= 200
    assert sum(counts) > 200 - 3 * 10, "a lease that nobody uses up is lost, and never more than that"
    for cache in caches:
        await cache.close()


async def test_without_the_shared_count_each_replica_goes_on_limiting_by_itself(redis_server: RedisServer) -> None:
    async def epoch() -> str:
        return "e"

    cache = RedisCache(redis_server.url, epoch=epoch)
    allowances = Allowances(cache, epoch_s=lambda: MIDDLE_OF_A_MINUTE_S)
    key = key_of(calls_per_minute=100)
    assert await taken(allowances, key, tries=10) == 10
    redis_server.kill()
    assert await taken(allowances, key, tries=500) == 90
    await cache.close()


async def test_many_callers_at_once_do_not_take_more_than_there_is() -> None:
    allowances = Allowances(NoSharedCount(), epoch_s=lambda: MIDDLE_OF_A_MINUTE_S)
    key = key_of(calls_per_minute=50)
    counts = await asyncio.gather(*(taken(allowances, key, tries=10) for _ in range(20)))
    assert sum(counts) == 50


async def test_streams_are_counted_in_and_out() -> None:
    allowances = Allowances(NoSharedCount(), epoch_s=lambda: MIDDLE_OF_A_MINUTE_S)
    key = key_of(streams_max=2)
    allowances.open_stream(key)
    allowances.open_stream(key)
    with pytest.raises(StreamLimit):
        allowances.open_stream(key)
    allowances.close_stream(key)
    allowances.open_stream(key)


async def test_every_answer_tells_where_the_key_stands_and_a_refusal_when_to_come_back(database_url: str) -> None:
    key = await new_key(database_url, Scope.POSITIONS_READ, calls_per_minute=3)
    async with guarded(database_url) as service, grpc.aio.insecure_channel(service.address) as channel:
        answers = [await call(channel, LIST, secret=key.secret, account="a") for _ in range(5)]
        refused = [each for each in answers if each.code is grpc.StatusCode.RESOURCE_EXHAUSTED]
        assert len(refused) in (1, 2), "the minute may have ended between two of them"
        assert {each.reason for each in refused} == {"RATE_LIMITED"}
        assert answers[0].trailers["x-ratelimit-limit"] == "3"
        assert answers[0].trailers["x-ratelimit-remaining"] == "2"
        assert 1 <= int(answers[0].trailers["x-ratelimit-reset"]) <= 60
        assert refused[0].trailers["x-ratelimit-remaining"] == "0"
        async with client(service, key) as steelyard:
            with pytest.raises(TryLater) as caught:
                await list_often(steelyard, times=4)
            assert caught.value.retry_after_s is not None
            assert 0 < caught.value.retry_after_s <= 60


async def list_often(steelyard: Steelyard, *, times: int) -> None:
    """Asks so many times."""
    for _ in range(times):
        assert [position async for position in steelyard.list_positions()] == []


async def test_fills_have_an_allowance_of_their_own(database_url: str) -> None:
    key = await new_key(database_url, Scope.FILLS_WRITE, calls_per_minute=1, fills_per_second=40)
    async with guarded(database_url) as service, client(service, key) as steelyard:
        for number in range(10):
            await steelyard.record_fill(make_fill(number))
        with pytest.raises(TryLater) as caught:
            await asyncio.gather(
                *(
                    steelyard.batch_record_fills([make_fill(100 + 40 * batch + place) for place in range(40)])
                    for batch in range(5)
                )
            )
        assert caught.value.reason == "RATE_LIMITED"


async def first_change(steelyard: Steelyard) -> None:
    """Watches until something comes."""
    async for _ in steelyard.watch_positions("desk"):
        return


async def test_a_key_holds_no_more_streams_than_it_may(database_url: str) -> None:
    key = await new_key(database_url, Scope.POSITIONS_READ, streams_max=1)
    async with guarded(database_url) as service, client(service, key) as steelyard:
        first = asyncio.create_task(first_change(steelyard))
        await asyncio.sleep(0.3)
        async with grpc.aio.insecure_channel(service.address) as channel:
            ended = await call(channel, WATCH, secret=key.secret, account="desk")
        assert (ended.code, ended.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STREAM_LIMIT")
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def test_replicas_of_a_service_share_a_keys_minute(database_url: str, redis_server: RedisServer) -> None:
    key = await new_key(database_url, Scope.POSITIONS_READ, calls_per_minute=20)
    url = SecretStr(redis_server.url)
    async with guarded(database_url, redis_url=url) as one, guarded(database_url, redis_url=url) as two:
        let_through = 0
        for service in (one, two) * 20:
            async with Steelyard.connect(service.address, api_key=key.secret) as steelyard:
                try:
                    assert [position async for position in steelyard.list_positions()] == []
                except TryLater:
                    continue
                let_through += 1
        assert let_through in (20, 40), "40 where the minute ended meanwhile"
