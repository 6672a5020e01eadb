"""Fills through client, channel, server and database: recorded once, told as they were, refused by reason."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from steelyard.client import (
    Adjustment,
    AdjustmentKind,
    FillConflict,
    FillOrder,
    FillReceipt,
    FillRefusal,
    InvalidField,
    Leg,
    LegOverrun,
    NotFound,
    NotYetVisible,
    PageTokenInvalid,
    PositionKey,
    RequestIdReused,
    Side,
    Steelyard,
    UnknownInstrument,
    VersionMismatch,
)
from tests.client.desk import START, make_fill, now

KEY = PositionKey("desk", "MNQ SEP25")
REQUEST = "00000000-0000-4000-8000-00000000000"


async def test_a_fill_is_recorded_once_and_comes_back_as_it_was(desk: Steelyard) -> None:
    fill = make_fill(
        1, quantity="2", price="25000.25", fee=Decimal("1.5"), order_id="o1", note="x", labels={"desk": "a"}
    )
    first = await desk.record_fill(fill)
    again = await desk.record_fill(fill)
    assert first.receipt == FillReceipt(fill_id="f0001", replayed=False, key=KEY, version=1, pending=False)
    assert again.receipt == FillReceipt(fill_id="f0001", replayed=True, key=KEY, version=1, pending=False)
    told = (await desk.get_fill("desk", "f0001")).fill
    assert (told.quantity, told.price, told.fee, told.side) == (Decimal(2), fill.price, fill.fee, Side.BUY)
    assert (told.executed_at, told.order_id, told.note, told.labels) == (fill.executed_at, "o1", "x", {"desk": "a"})
    assert (told.fee_currency, told.revision, told.applied_version, told.busted) == ("USD", 1, 1, False)
    assert told.recorded_at is not None


async def test_the_same_id_with_other_content_is_a_conflict(desk: Steelyard) -> None:
    await desk.record_fill(make_fill(1))
    with pytest.raises(FillConflict) as caught:
        await desk.record_fill(make_fill(1, price="25000.5"))
    assert caught.value.reason == "FILL_CONFLICT"
    assert caught.value.request_id


@pytest.mark.parametrize(
    "change, path",
    [
        ({"quantity": Decimal(0)}, "fill.quantity"),
        ({"price": Decimal(-1)}, "fill.price"),
        ({"fill_id": ""}, "fill.fill_id"),
        ({"instrument": "mnq"}, "fill.instrument"),
        ({"executed_at": now() + timedelta(hours=1)}, "fill.executed_at"),
        ({"executed_at": datetime(1969, 12, 31, tzinfo=UTC)}, "fill.executed_at"),
    ],
)
async def test_a_wrong_field_is_refused_by_its_full_path(desk: Steelyard, change: dict[str, object], path: str) -> None:
    with pytest.raises(InvalidField) as caught:
        await desk.record_fill(make_fill(1, **change))  # type: ignore[arg-type]
    assert [violation.field for violation in caught.value.violations] == [path]


async def test_an_unknown_instrument_is_refused_and_leaves_no_trace(desk: Steelyard) -> None:
    with pytest.raises(UnknownInstrument):
        await desk.record_fill(make_fill(1, instrument="NOBODY KNOWS"))
    with pytest.raises(NotFound) as caught:
        await desk.get_fill("desk", "f0001")
    assert caught.value.details["kind"] == "fill"


async def test_a_demanded_version_that_is_stale_tells_the_current_one(desk: Steelyard) -> None:
    await desk.record_fill(make_fill(1), expected_version=0)
    with pytest.raises(VersionMismatch) as caught:
        await desk.record_fill(make_fill(2), etag='"v7"')
    assert caught.value.current_version == 1
    assert (await desk.record_fill(make_fill(2), etag='"v1"')).receipt.version == 2


async def test_an_overrun_of_a_leg_is_refused_only_on_demand(desk: Steelyard) -> None:
    sell = make_fill(1, Side.SELL, leg=Leg.LONG)
    with pytest.raises(LegOverrun):
        await desk.record_fill(sell, reject_overrun=True)
    assert (await desk.record_fill(sell)).receipt.version == 1


async def test_a_validated_fill_is_not_recorded(desk: Steelyard) -> None:
    checked = await desk.record_fill(make_fill(1), validate_only=True, return_position=True)
    assert (checked.receipt.replayed, checked.position) == (False, None)
    assert [fill async for fill in desk.list_fills("desk")] == []


async def test_a_stored_fill_waits_for_a_build(desk: Steelyard) -> None:
    receipt = (await desk.record_fill(make_fill(1), auto_update_positions=False)).receipt
    assert (receipt.pending, receipt.version) == (True, 0)
    assert (await desk.get_fill("desk", "f0001")).fill.pending


async def test_a_position_comes_with_the_answer_if_asked_for(desk: Steelyard) -> None:
    assert (await desk.record_fill(make_fill(1))).position is None
    assert (await desk.record_fill(make_fill(2), return_position=True)).position is not None


async def test_each_fill_of_a_batch_has_its_result_in_its_place(desk: Steelyard) -> None:
    await desk.record_fill(make_fill(1))
    batch = [
        make_fill(1),
        make_fill(2),
        make_fill(3, quantity="0"),
        make_fill(4, instrument="NOBODY KNOWS"),
        make_fill(1, price="1"),
        make_fill(5, executed_at=now() + timedelta(days=1)),
    ]
    outcome = await desk.batch_record_fills(batch)
    told = [
        (result.reason, result.field) if isinstance(result, FillRefusal) else result.replayed
        for result in outcome.results
    ]
    assert told == [
        True,
        False,
        ("INVALID_FIELD", "fills[2].quantity"),
        ("UNKNOWN_INSTRUMENT", ""),
        ("FILL_CONFLICT", ""),
        ("INVALID_FIELD", "fills[5].executed_at"),
    ]
    assert (outcome.recorded, outcome.repeated, outcome.failed) == (1, 1, 4)


async def test_an_atomic_batch_is_all_or_nothing(desk: Steelyard) -> None:
    with pytest.raises(InvalidField) as caught:
        await desk.batch_record_fills([make_fill(1), make_fill(2, quantity="0")], atomic=True)
    assert caught.value.violations[0].field == "fills[1].quantity"
    with pytest.raises(UnknownInstrument):
        await desk.batch_record_fills([make_fill(1), make_fill(2, instrument="NOBODY")], atomic=True)
    assert [fill async for fill in desk.list_fills("desk")] == []
    assert (await desk.batch_record_fills([make_fill(1), make_fill(2)], atomic=True)).recorded == 2


@pytest.mark.parametrize("count, atomic", [(0, False), (5_001, False), (1_001, True)])
async def test_a_batch_of_a_wrong_size_is_refused(desk: Steelyard, count: int, atomic: bool) -> None:
    with pytest.raises(InvalidField) as caught:
        await desk.batch_record_fills([make_fill(number) for number in range(count)], atomic=atomic)
    assert caught.value.violations[0].field == "fills"


async def test_fills_are_listed_page_by_page_in_either_order(desk: Steelyard) -> None:
    await desk.batch_record_fills([make_fill(number) for number in range(120)])
    ids = [f"f{number:04}" for number in range(120)]
    newest = [fill.fill_id async for fill in desk.list_fills("desk", page_size=50)]
    oldest = [fill.fill_id async for fill in desk.list_fills("desk", page_size=7, order=FillOrder.OLDEST_FIRST)]
    assert (newest, oldest) == (ids[::-1], ids)
    some = desk.list_fills(
        "desk", executed_from=START + timedelta(seconds=10), executed_before=START + timedelta(seconds=12)
    )
    assert [fill.fill_id async for fill in some] == ["f0011", "f0010"]


async def test_a_page_token_of_another_question_is_refused(desk: Steelyard) -> None:
    from steelyard.v1 import fill_service_pb2, fill_service_pb2_grpc

    await desk.batch_record_fills([make_fill(number) for number in range(3)])
    stub = fill_service_pb2_grpc.FillServiceStub(desk.channel)
    page = await stub.ListFills(fill_service_pb2.ListFillsRequest(account="desk", page_size=1))
    other = fill_service_pb2.ListFillsRequest(account="desk", book="other", page_token=page.next_page_token)
    with pytest.raises(PageTokenInvalid):
        await desk._ask(stub.ListFills, other)


async def test_a_read_waits_for_the_commit_it_demands(desk: Steelyard) -> None:
    recorded = asyncio.create_task(_later(desk))
    history = await desk.get_fill("desk", "f0001", min_commit={"desk": 1})
    assert history.fill.fill_id == "f0001"
    await recorded
    impatient = Steelyard(desk.channel, timeout_s=0.3, metadata=())
    with pytest.raises(NotYetVisible):
        await impatient.get_fill("desk", "f0001", min_commit={"desk": 99})


async def _later(desk: Steelyard) -> None:
    await asyncio.sleep(0.1)
    await desk.record_fill(make_fill(1))


async def test_a_client_demands_its_own_writes_of_later_reads(desk: Steelyard) -> None:
    await desk.record_fill(make_fill(1))
    await desk.record_fill(make_fill(2))
    assert [(commit.account, commit.seq) for commit in desk._since(["desk", "other"], None)] == [("desk", 2)]


async def test_an_adjustment_is_applied_once_per_request_id(desk: Steelyard) -> None:
    opening = Adjustment(
        key=KEY,
        kind=AdjustmentKind.OPENING,
        effective_at=START,
        quantity=Decimal(3),
        average_price=Decimal(25_000),
    )
    first = await desk.record_adjustment(opening, request_id=REQUEST + "1", return_position=True)
    again = await desk.record_adjustment(opening, request_id=REQUEST + "1", return_position=True)
    assert (first.version, first.replayed, again.version, again.replayed) == (1, False, 1, True)
    assert first.adjustment_id == again.adjustment_id == f"adjustment:{REQUEST}1"
    assert first.position is not None
    with pytest.raises(RequestIdReused):
        await desk.record_adjustment(opening, request_id=REQUEST + "1")
    with pytest.raises(InvalidField) as caught:
        await desk.record_adjustment(opening, request_id="7")
    assert caught.value.violations[0].field == "request_id"


async def test_a_wrong_adjustment_is_refused_by_its_full_path(desk: Steelyard) -> None:
    wrong = Adjustment(key=KEY, kind=AdjustmentKind.FUNDING, effective_at=START, quantity=Decimal(1))
    with pytest.raises(InvalidField) as caught:
        await desk.record_adjustment(wrong)
    assert caught.value.violations[0].field.startswith("adjustment.")
