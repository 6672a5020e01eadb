"""Redis as a cache: what is found, and that whatever is wrong with it is a counted miss within its time."""

import asyncio
import time

import pytest

from steelyard.accounting.errors import StoreUnavailable
from steelyard.cache.redis_cache import VALUE_BYTES_MAX, RedisCache
from tests.cache.desk import epoch_of_tests
from tests.support.redis import RedisServer

WITHIN_S = 0.15
"""A call that is given up after 50 ms has come back by then, on a busy machine too."""


async def another_epoch() -> str:
    return "another"


async def put(cache: RedisCache, name: str, value: bytes, *, ttl_s: float = 5) -> None:
    cache.put(name, value, ttl_s=ttl_s)
    await cache.settled()


async def test_a_value_is_found_under_its_name_until_it_expires(cache: RedisCache) -> None:
    await put(cache, "a", b"\x00\xff value")
    await put(cache, "b", b"soon gone", ttl_s=0.02)
    assert await cache.get("a") == b"\x00\xff value"
    assert await cache.get("other") is None
    await asyncio.sleep(0.04)
    assert await cache.get("b") is None
    figures = cache.figures
    assert (figures.hits, figures.misses, figures.puts, figures.gets.calls) == (1, 2, 2, 3)
    assert sum(figures.gets.classes) == 3
    assert 0 < figures.gets.longest_s <= figures.gets.sum_s


async def test_databases_that_share_a_redis_do_not_see_each_other(redis_server: RedisServer, cache: RedisCache) -> None:
    other = RedisCache(redis_server.url, epoch=another_epoch)
    await put(cache, "a", b"ours")
    assert await other.get("a") is None
    await other.close()


async def test_while_the_database_cannot_say_who_it_is_everything_is_a_miss(redis_server: RedisServer) -> None:
    is_away = True

    async def epoch() -> str:
        if is_away:
            raise StoreUnavailable
        return "test"

    cache = RedisCache(redis_server.url, epoch=epoch)
    await put(cache, "a", b"1")
    assert await cache.get("a") is None
    is_away = False
    await put(cache, "a", b"1")
    assert await cache.get("a") == b"1"
    assert (cache.figures.hits, cache.figures.misses, cache.figures.errors) == (1, 1, 2)
    await cache.close()


async def test_a_value_that_lies_under_a_wrong_name_or_was_changed_is_a_miss(
    redis_server: RedisServer, cache: RedisCache
) -> None:
    await put(cache, "a", b"of a")
    redis_server.say("COPY", "steelyard:test:a", "steelyard:test:b")
    assert await cache.get("b") is None
    redis_server.say("APPEND", "steelyard:test:a", "!")
    assert await cache.get("a") is None
    redis_server.say("SET", "steelyard:test:c", "x")
    assert await cache.get("c") is None
    assert cache.figures.garbled == 3
    assert not cache.is_held_back, "Redis itself is well"


async def test_only_what_was_sealed_with_the_services_key_is_believed(
    redis_server: RedisServer, cache: RedisCache
) -> None:
    ours = RedisCache(redis_server.url, epoch=epoch_of_tests, key=b"a secret of the service")
    await put(cache, "a", b"somebody else wrote this")
    assert await ours.get("a") is None
    await put(ours, "a", b"ours")
    assert await ours.get("a") == b"ours"
    await ours.close()


async def test_another_type_under_the_name_is_an_error_of_redis_and_a_miss(
    redis_server: RedisServer, cache: RedisCache
) -> None:
    redis_server.say("RPUSH", "steelyard:test:a", "1")
    assert await cache.get("a") is None
    assert cache.figures.errors == 1


async def test_a_value_beyond_the_limit_is_not_kept(cache: RedisCache) -> None:
    await put(cache, "a", b"x" * (VALUE_BYTES_MAX + 1))
    assert await cache.get("a") is None
    assert cache.figures.puts_lost == 1


async def test_more_calls_than_may_wait_are_misses_and_not_a_queue(
    redis_server: RedisServer, cache: RedisCache
) -> None:
    redis_server.pause()
    begun = time.monotonic()
    assert await asyncio.gather(*(cache.get("a") for _ in range(500))) == [None] * 500
    took_s = time.monotonic() - begun
    redis_server.resume()
    print(f"500 gets of a stopped Redis: {took_s * 1e3:.0f} ms, {cache.figures}")
    assert cache.figures.busy >= 400
    assert took_s < 4 * WITHIN_S


@pytest.mark.faults
async def test_a_redis_that_is_away_costs_no_time_and_one_that_is_back_is_found(
    redis_server: RedisServer, cache: RedisCache
) -> None:
    await put(cache, "a", b"1")
    redis_server.kill()
    begun = time.monotonic()
    for _ in range(1_000):
        assert await cache.get("a") is None
    took_s = time.monotonic() - begun
    print(f"1,000 gets without Redis: {took_s * 1e3:.1f} ms, {cache.figures}")
    assert cache.is_held_back
    assert cache.figures.skipped >= 990
    assert took_s < 1
    redis_server.start()
    await back(cache)


@pytest.mark.faults
async def test_a_stopped_redis_costs_three_timeouts_and_then_nothing(
    redis_server: RedisServer, cache: RedisCache
) -> None:
    await put(cache, "a", b"1")
    redis_server.pause()
    longest_s, begun = 0.0, time.monotonic()
    for _ in range(300):
        asked = time.monotonic()
        assert await cache.get("a") is None
        longest_s = max(longest_s, time.monotonic() - asked)
    took_s = time.monotonic() - begun
    redis_server.resume()
    print(f"300 gets of a stopped Redis: {took_s * 1e3:.0f} ms, longest {longest_s * 1e3:.0f} ms, {cache.figures}")
    assert cache.figures.timeouts == 3
    assert longest_s < WITHIN_S
    await back(cache)


@pytest.mark.faults
async def test_a_call_given_up_never_hands_its_answer_to_the_next_one(
    redis_server: RedisServer, cache: RedisCache
) -> None:
    for name in "abcdefgh":
        await put(cache, name, name.encode())
    for name in "abc":
        redis_server.pause()
        given_up = asyncio.create_task(cache.get(name))
        await asyncio.sleep(0.01)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        redis_server.resume()
        for other in "defgh":
            assert await cache.get(other) == other.encode()
    assert cache.figures.garbled == 0


@pytest.mark.faults
async def test_a_wiped_redis_is_misses_until_values_are_put_again(redis_server: RedisServer, cache: RedisCache) -> None:
    await put(cache, "a", b"1")
    redis_server.wipe()
    assert await cache.get("a") is None
    await put(cache, "a", b"2")
    assert await cache.get("a") == b"2"
    assert cache.figures.errors == cache.figures.timeouts == 0


async def back(cache: RedisCache) -> None:
    """Waits until a value is kept and found again."""
    async with asyncio.timeout(6):
        while await cache.get("b") is None:
            await put(cache, "b", b"2")
            await asyncio.sleep(0.01)
    assert not cache.is_held_back
