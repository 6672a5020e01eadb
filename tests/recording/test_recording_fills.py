"""Fills and adjustments recorded through the operations on a real database end where the oracle says."""

import asyncio
import random
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import asyncpg
import pytest

from steelyard.accounting import keys
from steelyard.accounting.entries import Adjustment, AdjustmentKind, Fill
from steelyard.accounting.errors import (
    FillConflict,
    InvalidField,
    LegOverrun,
    NumericLimit,
    RequestIdReused,
    UnknownInstrument,
    VersionMismatch,
)
from steelyard.accounting.keys import Leg
from steelyard.accounting.position import FiguresState
from steelyard.accounting.units import decimal_text
from steelyard.operations.answering_once import RequestIdentity
from steelyard.operations.apply_fills import FillReceipt, WriteOptions
from steelyard.operations.late_entries import RefoldLimits
from tests.oracle import OracleKey, wire
from tests.recording.desk import START, Desk, assert_equals_oracle, key_of, make_fill, oracle_of, random_fills


async def test_a_fill_opens_a_position_at_version_one(desk: Desk) -> None:
    receipt = await desk.recording.record(make_fill(1, "BUY", "2", "21000", fee="1.5"))
    assert (receipt.version, receipt.is_replayed, receipt.is_pending) == (1, False, False)
    assert [commit.seq for commit in receipt.commits] == [1]
    stored = await desk.position(key_of())
    assert stored.version == 1
    assert_equals_oracle(stored, [make_fill(1, "BUY", "2", "21000", fee="1.5")])


async def test_a_repeat_gives_the_same_receipt_and_changes_nothing(desk: Desk) -> None:
    first = await desk.recording.record(make_fill(1, "BUY", "2", "21000"))
    await desk.recording.record(make_fill(2, "BUY", "1", "21010"))
    again = await desk.recording.record(make_fill(1, "BUY", "2.0", "21000.00"))
    assert again.is_replayed
    assert again.version == first.version == 1
    assert (await desk.position(key_of())).version == 2


async def test_other_content_under_a_known_id_is_a_conflict(desk: Desk) -> None:
    await desk.recording.record(make_fill(1, "BUY", "2", "21000"))
    with pytest.raises(FillConflict):
        await desk.recording.record(make_fill(1, "BUY", "3", "21000"))
    assert (await desk.position(key_of())).version == 1


@pytest.mark.parametrize("seed", range(4))
async def test_any_order_of_arrival_with_repeats_ends_in_the_oracles_state(desk: Desk, seed: int) -> None:
    fills = random_fills(seed, 60)
    arrivals = fills + random.Random(seed).sample(fills, 20)
    random.Random(seed + 1).shuffle(arrivals)
    for fill in arrivals:
        await desk.recording.record(fill)
    assert_equals_oracle(await desk.position(key_of()), fills)


@pytest.mark.parametrize("leg", [Leg.LONG, Leg.SHORT])
async def test_hedge_legs_in_any_order_end_in_the_oracles_state(desk: Desk, leg: Leg) -> None:
    fills = random_fills(11, 50, accounts_leg=leg)
    shuffled = random.Random(5).sample(fills, len(fills))
    result = await desk.recording.record_batch(shuffled[:25])
    assert all(isinstance(item, FillReceipt) for item in result.items)
    await desk.recording.record_batch(shuffled[25:])
    stored = await desk.position(key_of(leg=leg))
    expected = oracle_of(fills)[OracleKey(*stored.key)]
    assert decimal_text(stored.state.lifetime.unmatched) == wire(expected.unmatched_quantity)
    assert decimal_text(stored.state.quantity) == wire(expected.quantity)


async def test_a_batch_steps_each_position_once(desk: Desk) -> None:
    fills = [make_fill(number, "BUY", "1", "21000") for number in range(10)]
    result = await desk.recording.record_batch(fills)
    assert [item.version for item in result.items if isinstance(item, FillReceipt)] == [1] * 10
    assert (await desk.position(key_of())).state.quantity == 10


async def test_a_repeat_within_a_batch_is_a_replay_of_the_first(desk: Desk) -> None:
    fill = make_fill(1, "BUY", "1", "21000")
    result = await desk.recording.record_batch([fill, fill, fill._replace(quantity=Decimal(2))])
    first, second, third = result.items
    assert isinstance(first, FillReceipt)
    assert isinstance(second, FillReceipt)
    assert (first.version, second.version, second.is_replayed, second.is_pending) == (1, 1, True, False)
    assert isinstance(third, FillConflict)


async def test_bad_items_of_a_batch_fail_alone(desk: Desk) -> None:
    unknown = make_fill(2, "BUY", "1", "1")._replace(key=key_of(instrument="NOPE"))
    result = await desk.recording.record_batch(
        [
            make_fill(1, "BUY", "1", "21000"),
            unknown,
            make_fill(3, "BUY", "1e10", "1e10"),
            make_fill(4, "SELL", "1", "21001"),
        ]
    )
    assert isinstance(result.items[1], UnknownInstrument)
    assert isinstance(result.items[2], NumericLimit)
    assert (await desk.position(key_of())).state.lifetime.gross_average == 2


async def test_an_atomic_batch_with_a_bad_item_leaves_nothing(desk: Desk) -> None:
    fills = [make_fill(1, "BUY", "1", "21000"), make_fill(2, "BUY", "1", "-5")]
    with pytest.raises(InvalidField) as refusal:
        await desk.recording.record_batch(fills, is_atomic=True)
    assert refusal.value.field == "fills[1].price"
    assert (await desk.position(key_of())).version == 0


async def test_validation_only_answers_and_leaves_no_trace(desk: Desk, database_url: str) -> None:
    receipt = await desk.recording.record(
        make_fill(1, "BUY", "1", "21000"), options=WriteOptions(is_validate_only=True)
    )
    assert receipt.version == 1
    connection = await asyncpg.connect(database_url)
    counts = [
        await connection.fetchval(f"SELECT count(*) FROM {table}")
        for table in ("fills", "positions", "account_heads", "accounts", "position_events")
    ]
    await connection.close()
    assert counts == [0] * 5


async def test_a_pending_fill_waits_and_the_next_write_folds_it(desk: Desk) -> None:
    receipt = await desk.recording.record(make_fill(1, "BUY", "1", "21000"), options=WriteOptions(is_auto_update=False))
    assert receipt.is_pending
    assert receipt.version is None
    assert (await desk.position(key_of())).version == 0
    await desk.recording.record(make_fill(2, "BUY", "1", "21010"))
    stored = await desk.position(key_of())
    assert (stored.version, stored.state.quantity) == (1, Decimal(2))
    assert stored.stale is None


async def test_an_overrun_is_refused_only_when_asked(desk: Desk) -> None:
    await desk.recording.record(make_fill(1, "BUY", "1", "21000", leg=Leg.LONG))
    with pytest.raises(LegOverrun):
        await desk.recording.record(
            make_fill(2, "SELL", "3", "21000", leg=Leg.LONG), options=WriteOptions(is_reject_overrun=True)
        )
    assert (await desk.position(key_of(leg=Leg.LONG))).version == 1
    await desk.recording.record(make_fill(2, "SELL", "3", "21000", leg=Leg.LONG))
    assert (await desk.position(key_of(leg=Leg.LONG))).state.lifetime.unmatched == 2


async def test_a_stale_expected_version_is_refused_with_the_current_one(desk: Desk) -> None:
    await desk.recording.record(make_fill(1, "BUY", "1", "21000"))
    with pytest.raises(VersionMismatch) as refusal:
        await desk.recording.record(make_fill(2, "BUY", "1", "21000"), options=WriteOptions(expected_version=7))
    assert refusal.value.details["current_version"] == "1"
    receipt = await desk.recording.record(make_fill(2, "BUY", "1", "21000"), options=WriteOptions(expected_version=1))
    assert receipt.version == 2


async def test_each_version_leaves_one_event_in_commit_order(desk: Desk, database_url: str) -> None:
    for number, side in enumerate(["BUY", "BUY", "SELL", "SELL"]):
        await desk.recording.record(make_fill(number, side, "1", "21000"))
    connection = await asyncpg.connect(database_url)
    events = await connection.fetch("SELECT version, seq, change, fill_ids FROM position_events ORDER BY seq")
    commits = await connection.fetch("SELECT seq FROM account_commits ORDER BY seq")
    await connection.close()
    assert [tuple(event) for event in events] == [
        (1, 1, "ADDED", ["f0"]),
        (2, 2, "UPDATED", ["f1"]),
        (3, 3, "UPDATED", ["f2"]),
        (4, 4, "CLOSED", ["f3"]),
    ]
    assert [row["seq"] for row in commits] == [1, 2, 3, 4]


async def test_a_smaller_sequence_of_a_repeat_reorders_equal_times(desk: Desk) -> None:
    buy = make_fill(1, "BUY", "1", "21000", at_s=5)._replace(source_sequence=9)
    sell = make_fill(2, "SELL", "1", "21001", at_s=5)._replace(source_sequence=5)
    for fill in (buy, sell, buy._replace(source_sequence=1)):
        await desk.recording.record(fill)
    assert_equals_oracle(await desk.position(key_of()), [buy._replace(source_sequence=1), sell])


async def _late_into_fifty(url: str, limits: RefoldLimits) -> tuple[Desk, list[Fill]]:
    desk = Desk(url, limits)
    desk.recording.start()
    fills = [fill._replace(executed_at=fill.executed_at + timedelta(hours=1)) for fill in random_fills(7, 50)]
    await desk.recording.record_batch(fills)
    late = make_fill(99, "BUY", "2", "21000", fee="1", at_s=1)
    receipt = await desk.recording.record(late)
    assert receipt.version == 2
    return desk, [*fills, late]


async def test_a_late_fill_beyond_the_batch_limit_is_folded_while_the_caller_waits(database_url: str) -> None:
    desk, fills = await _late_into_fifty(database_url, RefoldLimits(in_batch=10, waiting=1_000))
    stored = await desk.position(key_of())
    assert (stored.figures_state, stored.stale, stored.version) == (FiguresState.CURRENT, None, 3)
    assert_equals_oracle(stored, fills)
    await desk.recording.close()
    await desk.database.close()


async def test_a_late_fill_beyond_the_waiting_limit_changes_quantity_and_fees_at_once(database_url: str) -> None:
    desk, fills = await _late_into_fifty(database_url, RefoldLimits(in_batch=10, waiting=20))
    stored = await desk.position(key_of())
    expected = oracle_of(fills)[OracleKey(*key_of())]
    assert stored.figures_state is FiguresState.REFOLDING
    assert stored.stale is not None
    assert not stored.stale.is_held
    assert decimal_text(stored.state.quantity + stored.pending.quantity) == wire(expected.quantity)
    assert decimal_text(stored.state.lifetime.fees + stored.pending.fees) == wire(expected.fees)
    assert stored.state.lifetime.fill_count + stored.pending.fills == expected.fill_count
    await desk.recording.close()
    await desk.database.close()


async def test_an_opening_balance_comes_before_fills_that_came_earlier(desk: Desk) -> None:
    await desk.recording.record(make_fill(10, "SELL", "1", "51000"))
    opening = Adjustment(
        key=key_of(),
        adjustment_id=keys.FillId("opening"),
        kind=AdjustmentKind.OPENING,
        effective_at=START,
        quantity=Decimal(2),
        average_price=Decimal(50000),
    )
    request = RequestIdentity(uuid4(), b"body")
    receipt = await desk.recording.adjust(opening, request=request)
    stored = await desk.position(key_of())
    assert (stored.state.quantity, stored.state.average) == (Decimal(1), Decimal(50000))
    assert stored.state.lifetime.gross_average == 2000
    again = await desk.recording.adjust(opening, request=request)
    assert again.is_replayed
    assert again.version == receipt.version == 2
    with pytest.raises(RequestIdReused):
        await desk.recording.adjust(opening, request=replace(request, body_hash=b"other"))


async def test_concurrent_writers_of_one_key_lose_nothing(desk: Desk) -> None:
    fills = random_fills(3, 200)
    await asyncio.gather(*(desk.recording.record(fill, caller=str(number % 10)) for number, fill in enumerate(fills)))
    assert_equals_oracle(await desk.position(key_of()), fills)
