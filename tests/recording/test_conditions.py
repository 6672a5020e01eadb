"""Batches with conditions, streams that have to wait, and adjustments that come again."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from uuid import uuid4

import pytest

from steelyard.accounting import keys
from steelyard.accounting.entries import Adjustment, AdjustmentKind
from steelyard.accounting.errors import FillConflict, InvalidField, LegOverrun, PeriodSealed, QueueFull, VersionMismatch
from steelyard.accounting.keys import Leg
from steelyard.operations.answering_once import RequestIdentity
from steelyard.operations.apply_fills import FillReceipt, WriteOptions
from steelyard.operations.fill_writer import WAITING_MAX
from steelyard.operations.record_fills import BATCH_MAX, BatchResult
from tests.recording.desk import START, Desk, assert_equals_oracle, key_of, make_fill, random_fills

OPENING = Adjustment(
    key=key_of(),
    adjustment_id=keys.FillId("opening"),
    kind=AdjustmentKind.OPENING,
    effective_at=START,
    quantity=Decimal(2),
    average_price=Decimal(21_000),
)


def request() -> RequestIdentity:
    return RequestIdentity(uuid4(), b"body")


def reasons(result: BatchResult) -> Sequence[str]:
    return [type(item).__name__ for item in result.items]


async def test_each_fill_of_a_batch_meets_its_condition_alone(desk: Desk) -> None:
    legs = [
        make_fill(1, "BUY", "2", "21000", leg=Leg.LONG),
        make_fill(2, "SELL", "3", "21000", leg=Leg.LONG),
        make_fill(3, "SELL", "2", "21000", leg=Leg.LONG),
    ]
    result = await desk.recording.record_batch(legs, options=WriteOptions(is_reject_overrun=True))
    assert reasons(result) == ["FillReceipt", "LegOverrun", "FillReceipt"]
    assert [commit.seq for commit in result.commits] == [2]
    assert_equals_oracle(await desk.position(key_of(leg=Leg.LONG)), [legs[0], legs[2]])
    others = [make_fill(number, "BUY", "1", "21000") for number in (4, 5, 6)]
    versions = await desk.recording.record_batch(others, options=WriteOptions(expected_version=0))
    assert reasons(versions) == ["FillReceipt", "VersionMismatch", "VersionMismatch"]


async def test_an_atomic_batch_with_one_overrun_leaves_nothing(desk: Desk) -> None:
    legs = [make_fill(1, "BUY", "1", "21000", leg=Leg.LONG), make_fill(2, "SELL", "3", "21000", leg=Leg.LONG)]
    with pytest.raises(LegOverrun):
        await desk.recording.record_batch(legs, options=WriteOptions(is_reject_overrun=True), is_atomic=True)
    assert (await desk.position(key_of(leg=Leg.LONG))).version == 0


async def test_an_empty_batch_is_nothing_and_one_too_long_is_refused_whole(desk: Desk) -> None:
    assert await desk.recording.record_batch([]) == BatchResult((), ())
    for size, is_atomic in ((BATCH_MAX + 1, False), (1_001, True)):
        with pytest.raises(InvalidField, match="fills"):
            await desk.recording.record_batch(random_fills(1, 1) * size, is_atomic=is_atomic)
    assert (await desk.position(key_of())).version == 0


async def test_a_stream_waits_for_room_where_a_batch_is_turned_away(desk: Desk) -> None:
    fills = random_fills(5, 40)
    # So many repeats wait that nothing else has room; the writer answers them one round after the other.
    full = asyncio.gather(
        *(desk.recording.record_batch(fills[:1] * BATCH_MAX, caller="full") for _ in range(WAITING_MAX // BATCH_MAX))
    )
    refused = asyncio.ensure_future(desk.recording.record_batch(fills, caller="batch"))
    streamed = asyncio.ensure_future(desk.recording.record_stream(fills, caller="stream"))
    assert set(reasons(await streamed)) == {"FillReceipt"}
    with pytest.raises(QueueFull):
        await refused
    await full
    assert_equals_oracle(await desk.position(key_of()), fills)


async def test_an_adjustment_under_a_known_id_is_a_repeat_or_a_conflict_whatever_its_request(desk: Desk) -> None:
    first = await desk.recording.adjust(OPENING, request=request())
    again = await desk.recording.adjust(replace(OPENING, quantity=Decimal("2.0")), request=request())
    assert (again.is_replayed, again.version) == (True, first.version)
    with pytest.raises(FillConflict, match="opening"):
        await desk.recording.adjust(replace(OPENING, quantity=Decimal(3)), request=request())
    stored = await desk.position(key_of())
    assert (stored.version, stored.state.quantity) == (1, Decimal(2))


async def test_an_adjustment_that_is_only_tried_changes_nothing(desk: Desk) -> None:
    tried = await desk.recording.adjust(OPENING, request=request(), is_validate_only=True)
    assert (tried.version, tried.is_replayed) == (1, False)
    assert (await desk.position(key_of())).version == 0


async def test_an_adjustment_that_expects_another_version_or_lies_before_a_seal_changes_nothing(desk: Desk) -> None:
    recorded = await desk.recording.record(make_fill(1, "BUY", "1", "21000"))
    assert isinstance(recorded, FillReceipt)
    with pytest.raises(VersionMismatch) as refused:
        await desk.recording.adjust(OPENING, request=request(), expected_version=7)
    assert refused.value.details["current_version"] == "1"
    async with desk.database.write() as connection:
        await connection.execute("UPDATE accounts SET sealed_before = '2025-06-20 14:00:01Z'")
    with pytest.raises(PeriodSealed):
        await desk.recording.adjust(OPENING, request=request())
    assert (await desk.position(key_of())).version == 1
