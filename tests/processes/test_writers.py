"""Writers and readers in several processes on the same keys: exact, dense, fair, and never older than asked."""

import asyncio
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from steelyard.client import Steelyard, SteelyardCallError
from tests.app.processes import Serving
from tests.client.desk import make_fill
from tests.processes.cluster import spread_clients

Record = Callable[[str, Any], None]
WRITERS, FILLS = 10, 100
STARVED_S = 10.0
"""No call of a writer may wait this long for the others'."""
TENTH = "0.1"


async def write(client: Steelyard, writer: int, *, account: str) -> list[float]:
    """One caller's fills, one after the other; how long each took, seconds. Times of different callers interleave."""
    took = []
    for number in range(FILLS):
        begun = time.monotonic()
        fill = make_fill(number * WRITERS + writer, quantity=TENTH, account=account)
        recorded = await client.record_fill(fill)
        took.append(time.monotonic() - begun)
        assert not recorded.receipt.replayed
    return took


async def test_ten_writers_in_two_processes_on_one_key_lose_nothing_and_none_is_starved(
    shared_two: Serving, record_property: Record
) -> None:
    async with spread_clients(shared_two, WRITERS) as clients:
        begun = time.monotonic()
        took = await asyncio.gather(*(write(client, n, account="ten") for n, client in enumerate(clients)))
        whole_s = time.monotonic() - begun
        position = await clients[0].get_position("ten", "MNQ SEP25", min_commit={"ten": 1})
        events = [event async for event in clients[0].list_position_events("ten", "MNQ SEP25")]
    assert (position.quantity, position.fill_count) == (Decimal(100), WRITERS * FILLS)
    assert [event.version for event in reversed(events)] == list(range(1, position.version + 1))
    told = [fill_id for event in events for fill_id in event.fill_ids]
    assert len(told) == len(set(told)) == WRITERS * FILLS
    slowest = [max(each) for each in took]
    assert max(slowest) < STARVED_S
    record_property("fills_per_s", round(WRITERS * FILLS / whole_s))
    record_property("versions", position.version)
    record_property("slowest_call_s_by_writer", [round(each, 3) for each in slowest])
    print(f"\n{WRITERS * FILLS} fills in {whole_s:.2f} s, {position.version} versions, slowest {max(slowest):.3f} s")


async def test_a_read_in_another_process_is_never_older_than_the_commit_asked_for(shared_two: Serving) -> None:
    async with spread_clients(shared_two, 2) as (writer, reader):
        for number in range(50):
            await writer.record_fill(make_fill(number, account="seen"))
            commits = writer._written
            position = await reader.get_position("seen", "MNQ SEP25", min_commit=commits)
            assert position.quantity == number + 1
            (listed,) = [each async for each in reader.list_positions(["seen"], min_commit=commits)]
            assert listed.version == number + 1
            history = await reader.get_fill("seen", f"f{number:04}", min_commit=commits)
            assert history.fill.applied_version == number + 1


async def test_a_commit_that_is_not_there_by_the_deadline_is_told_as_not_yet_visible(shared_two: Serving) -> None:
    async with spread_clients(shared_two, 2) as (writer, reader):
        await writer.record_fill(make_fill(1, account="ahead"))
        impatient = Steelyard(reader.channel, timeout_s=1.5, metadata=())
        with pytest.raises(SteelyardCallError) as refused:
            await impatient.get_position("ahead", "MNQ SEP25", min_commit={"ahead": 2})
        assert refused.value.reason == "NOT_YET_VISIBLE"
        # The next one waits for a commit that comes meanwhile, by another process.
        waiting = asyncio.create_task(reader.get_position("ahead", "MNQ SEP25", min_commit={"ahead": 2}))
        await asyncio.sleep(0.2)
        await writer.record_fill(make_fill(2, account="ahead"))
        assert (await waiting).version == 2
