"""Redis killed, started, stopped and wiped under load changes latency and nothing else.

Two processes' worth of readers and one writer; every reader checks each answer: no call fails, none is older than the
newest write that was acknowledged before the question was asked and that the reader demands, none goes back.
"""

import asyncio
import random
import time
from dataclasses import dataclass, field

import pytest

from steelyard.accounting.keys import Account
from steelyard.cache.redis_cache import RedisCache
from steelyard.operations.reading import Freshness, ServedFrom
from tests.cache.desk import DESK, Desk, epoch_of_tests, held
from tests.support.redis import RedisServer

LOAD_S = 4.0
READERS = 8
WRITES_EVERY_S = 0.02


@dataclass
class Seen:
    """What the readers found."""

    took_s: list[float] = field(default_factory=list)
    from_cache: int = 0
    stale: int = 0
    failed: list[Exception] = field(default_factory=list)
    acknowledged: int = 0
    """The newest commit of the writer; each buys one."""


async def write(writer: Desk, seen: Seen, until_s: float) -> None:
    while time.monotonic() < until_s:
        seen.acknowledged = (await writer.buy()).seq
        await asyncio.sleep(WRITES_EVERY_S)


async def read(reader: Desk, seen: Seen, until_s: float, *, is_writer: bool, choose: random.Random) -> None:
    """A reader in the writer's process sees its writes without a word; one elsewhere demands them."""
    while time.monotonic() < until_s:
        newest = seen.acknowledged
        accounts: list[Account] = choose.choice(([DESK], []))
        demand = Freshness() if is_writer else Freshness({DESK: newest})
        begun_s = time.monotonic()
        try:
            answer = await reader.portfolio.get(accounts=accounts, freshness=demand)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failed call
            seen.failed.append(error)
            continue
        seen.took_s.append(time.monotonic() - begun_s)
        seen.stale += held(answer) < newest
        seen.from_cache += answer.seen.served_from is ServedFrom.CACHE
        await asyncio.sleep(choose.uniform(0, 0.01))


async def trouble(server: RedisServer, until_s: float, choose: random.Random) -> list[str]:
    """Does one thing after the other to Redis, and leaves it running."""
    done = []
    while time.monotonic() < until_s - 0.5:
        what = choose.choice(("kill", "pause", "wipe"))
        done.append(what)
        if what == "wipe":
            await asyncio.to_thread(server.wipe)
        elif what == "kill":
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(choose.uniform(0.05, 0.3))
            await asyncio.to_thread(server.start)
        else:
            server.pause()
            await asyncio.sleep(choose.uniform(0.05, 0.3))
            server.resume()
        await asyncio.sleep(choose.uniform(0.05, 0.2))
    return done


@pytest.mark.faults
async def test_redis_killed_stopped_and_wiped_under_load_costs_latency_alone(
    redis_server: RedisServer, cache: RedisCache, desk: Desk
) -> None:
    choose = random.Random(20260302)
    await desk.buy()
    other_cache = RedisCache(redis_server.url, epoch=epoch_of_tests)
    other = Desk(desk.book, other_cache)
    seen = Seen(acknowledged=1)
    until_s = time.monotonic() + LOAD_S
    readers = [
        read(desk if is_writer else other, seen, until_s, is_writer=is_writer, choose=choose)
        for is_writer in (True, False)
        for _ in range(READERS // 2)
    ]
    load = asyncio.gather(write(desk, seen, until_s), *readers)
    done = await trouble(redis_server, until_s, choose)
    await load
    await other.close()
    await other_cache.close()
    took = sorted(seen.took_s)
    print(
        f"{len(took)} answers, {seen.acknowledged} writes, {len(done)} troubles; failed {len(seen.failed)}, "
        f"stale {seen.stale}, from cache {seen.from_cache}; p50 {took[len(took) // 2] * 1e3:.1f} ms, "
        f"p99 {took[len(took) * 99 // 100] * 1e3:.1f} ms, longest {took[-1] * 1e3:.0f} ms\n{cache.figures}"
    )
    assert seen.failed == []
    assert seen.stale == 0
    assert len(done) >= 5
    assert len(took) > 100, "too little happened to prove anything"
    assert seen.from_cache > 0
