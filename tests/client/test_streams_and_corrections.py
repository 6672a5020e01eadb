"""Streams of fills, corrections and watches through client, channel, server and database."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from datetime import timedelta
from decimal import Decimal

import pytest

from steelyard.client import (
    Fill,
    FillBusted,
    InvalidField,
    PositionChange,
    PositionChangeKind,
    Side,
    Steelyard,
    VersionMismatch,
    WatchMode,
)
from tests.client.desk import client_of, make_fill, serving_book


async def each(*batches: Iterable[Fill]) -> AsyncIterator[Iterable[Fill]]:
    for batch in batches:
        yield batch


async def test_batches_of_a_stream_are_answered_in_order_after_their_commit(desk: Steelyard) -> None:
    batches = [[make_fill(10 * batch + number) for number in range(10)] for batch in range(6)]
    answers = [answer async for answer in desk.stream_fills(each(*batches))]
    assert [(answer.batch_number, answer.recorded) for answer in answers] == [(number, 10) for number in range(1, 7)]
    position = await desk.get_position("desk", "MNQ SEP25")
    assert (position.quantity, position.fill_count) == (Decimal(60), 60)


async def test_bad_and_repeated_fills_of_a_stream_are_told_and_the_others_recorded(desk: Steelyard) -> None:
    good, bad = make_fill(1), make_fill(2, instrument="NOPE")
    worse = make_fill(3, price="-1")
    (first, second) = [answer async for answer in desk.stream_fills(each([good, bad, worse], [good]))]
    assert [(failure.index, failure.reason) for failure in first.failures] == [
        (1, "UNKNOWN_INSTRUMENT"),
        (2, "INVALID_FIELD"),
    ]
    assert first.failures[1].field == "fills[2].price"
    assert (first.recorded, second.repeated) == (1, 1)


async def test_an_empty_batch_ends_the_stream_with_the_field(desk: Steelyard) -> None:
    with pytest.raises(InvalidField) as refusal:
        _ = [answer async for answer in desk.stream_fills(each([make_fill(1)], []))]
    assert refusal.value.violations[0].field == "fills"


async def test_amend_and_bust_give_revisions_and_versions(desk: Steelyard) -> None:
    await desk.record_fill(make_fill(1, price="21000"))
    amended = await desk.amend_fill(make_fill(1, price="21005"), expected_revision=1)
    assert (amended.revision, amended.replayed, amended.positions[0].version) == (2, False, 2)
    assert (await desk.amend_fill(make_fill(1, price="21005"), expected_revision=1)).replayed
    with pytest.raises(VersionMismatch):
        await desk.amend_fill(make_fill(1, price="21006"), expected_revision=1)
    history = await desk.get_fill("desk", "f0001")
    assert [revision.price for revision in history.revisions] == [Decimal(21000), Decimal(21005)]
    assert (await desk.bust_fill("desk", "f0001", expected_revision=2)).revision == 3
    with pytest.raises(FillBusted):
        await desk.amend_fill(make_fill(1, price="1"), expected_revision=3)
    assert (await desk.get_position("desk", "MNQ SEP25")).quantity == 0


async def collect(changes: AsyncIterator[PositionChange], count: int) -> list[PositionChange]:
    found: list[PositionChange] = []
    async with asyncio.timeout(30):
        async for change in changes:
            found.append(change)
            if len(found) == count:
                return found
    raise AssertionError("the watch ended")


async def test_a_watch_tells_what_is_held_and_then_changes(desk: Steelyard) -> None:
    await desk.record_fill(make_fill(1))
    async with aclosing(desk.watch_positions("desk", mode=WatchMode.EVERY_VERSION)) as changes:
        (held,) = await collect(changes, 1)
        assert held.is_snapshot
        assert held.position.version == 1
        await desk.record_fill(make_fill(2, side=Side.SELL))
        (closed,) = await collect(changes, 1)
    assert (closed.kind, closed.position.version, closed.is_snapshot) == (PositionChangeKind.CLOSED, 2, False)


async def test_a_watch_survives_restarts_without_gap_or_repeat(database_url: str) -> None:
    async with serving_book(database_url) as service:
        port = int(service.address.rsplit(":", 1)[1])
        async with client_of(service.address) as steelyard:
            await steelyard.record_fill(make_fill(0))
    seen: list[int] = []

    async def watch(steelyard: Steelyard, until: int) -> None:
        watching = steelyard.watch_positions("desk", mode=WatchMode.EVERY_VERSION, heartbeat=timedelta(seconds=1))
        async with aclosing(watching) as changes:
            async for change in changes:
                seen.append(change.position.version)
                if change.position.version == until:
                    return

    rounds, fills = 4, 5
    async with client_of(f"127.0.0.1:{port}") as steelyard:
        watcher = asyncio.create_task(watch(steelyard, until=1 + rounds * fills))
        for turn in range(rounds):
            async with serving_book(database_url, port=port) as _, client_of(f"127.0.0.1:{port}") as writer:
                for number in range(fills):
                    await writer.record_fill(make_fill(1 + turn * fills + number))
                await asyncio.sleep(0.2)
        async with serving_book(database_url, port=port):
            await asyncio.wait_for(watcher, timeout=30)
    assert seen == list(range(1, 2 + rounds * fills))


async def test_a_forged_resume_token_is_refused(desk: Steelyard) -> None:
    import grpc

    from steelyard.v1 import position_service_pb2, position_service_pb2_grpc

    stub = position_service_pb2_grpc.PositionServiceStub(desk.channel)
    request = position_service_pb2.WatchPositionsRequest(account="desk", resume_token="AAAA")
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        async for _ in stub.WatchPositions(request):
            pass
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
