"""Labels and notes of positions, through client, channel, server and database."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from steelyard.client import (
    InvalidField,
    NotFound,
    PositionKey,
    RequestIdReused,
    Side,
    Steelyard,
    VersionMismatch,
)
from steelyard.client.errors import translated
from steelyard.v1 import common_pb2, position_service_pb2, position_service_pb2_grpc
from tests.client.desk import make_fill

KEY = PositionKey("desk", "MNQ SEP25")


async def hold(desk: Steelyard) -> None:
    await desk.record_fill(make_fill(1))


async def test_labels_and_notes_are_written_and_never_step_the_version(desk: Steelyard) -> None:
    await hold(desk)
    before = await desk.get_position("desk", "MNQ SEP25")
    written = await desk.update_position(KEY, labels={"idea": "gap", "risk": "half"}, notes="watch the open")
    assert written.annotations.labels == {"idea": "gap", "risk": "half"}
    after = await desk.get_position("desk", "MNQ SEP25")
    assert (after.labels, after.notes) == ({"idea": "gap", "risk": "half"}, "watch the open")
    assert after.annotation_etag == written.annotations.annotation_etag != before.annotation_etag
    assert (after.version, after.etag, after.updated_at) == (before.version, before.etag, before.updated_at)
    assert [event.version async for event in desk.list_position_events("desk", "MNQ SEP25")] == [1]


async def test_what_the_mask_does_not_name_stays(desk: Steelyard) -> None:
    await hold(desk)
    await desk.update_position(KEY, labels={"idea": "gap"}, notes="first")
    only_notes = await desk.update_position(KEY, notes="second")
    assert (only_notes.annotations.labels, only_notes.annotations.notes) == ({"idea": "gap"}, "second")
    only_labels = await desk.update_position(KEY, labels={})
    assert (only_labels.annotations.labels, only_labels.annotations.notes) == ({}, "second")
    assert (await desk.update_position(KEY, notes="")).annotations.notes is None


async def test_annotations_outlive_fills_that_fold_the_position_anew(desk: Steelyard) -> None:
    await hold(desk)
    written = await desk.update_position(KEY, labels={"idea": "gap"}, notes="kept")
    await desk.record_fill(make_fill(0, Side.SELL, quantity="3"))
    after = await desk.get_position("desk", "MNQ SEP25")
    assert (after.version, after.labels, after.notes) == (2, {"idea": "gap"}, "kept")
    assert after.annotation_etag == written.annotations.annotation_etag


async def test_positions_are_found_by_the_labels_written(desk: Steelyard) -> None:
    await desk.batch_record_fills([make_fill(1), make_fill(2, instrument="ES SEP25")])
    await desk.update_position(KEY, labels={"idea": "gap", "by": "ann"})
    found = [position.instrument async for position in desk.list_positions(["desk"], labels=["idea=gap"])]
    assert found == ["MNQ SEP25"]


async def test_a_stale_annotation_etag_is_refused_and_names_the_current_version(desk: Steelyard) -> None:
    await hold(desk)
    first = (await desk.get_position("desk", "MNQ SEP25")).annotation_etag
    await desk.update_position(KEY, notes="mine", annotation_etag=first)
    with pytest.raises(VersionMismatch) as refusal:
        await desk.update_position(KEY, notes="yours", annotation_etag=first)
    assert refusal.value.current_version == 1
    assert (await desk.get_position("desk", "MNQ SEP25")).notes == "mine"


async def test_a_repeat_is_answered_as_before_and_another_body_under_its_id_refused(desk: Steelyard) -> None:
    await hold(desk)
    request = str(uuid4())
    first = await desk.update_position(KEY, notes="once", request_id=request)
    await desk.update_position(KEY, notes="later")
    again = await desk.update_position(KEY, notes="once", request_id=request)
    assert (again.replayed, again.annotations) == (True, first.annotations)
    assert (await desk.get_position("desk", "MNQ SEP25")).notes == "later"
    with pytest.raises(RequestIdReused):
        await desk.update_position(KEY, notes="other", request_id=request)


async def test_the_accounts_log_advances_only_where_something_changed(desk: Steelyard) -> None:
    await hold(desk)
    stub = position_service_pb2_grpc.PositionServiceStub(desk.channel)

    async def commits(notes: str) -> list[int]:
        request = position_service_pb2.UpdatePositionRequest(
            request_id=str(uuid4()),
            key=common_pb2.PositionKey(account="desk", instrument="MNQ SEP25"),
            update_mask=FieldMask(paths=["notes"]),
            notes=notes,
        )
        return [commit.seq for commit in (await stub.UpdatePosition(request)).header.commits]

    assert [await commits("one"), await commits("one"), await commits("two")] == [[2], [], [3]]


async def test_callers_who_write_different_fields_at_once_both_succeed(desk: Steelyard) -> None:
    await hold(desk)
    await asyncio.gather(
        *(desk.update_position(KEY, labels={"turn": str(turn)}) for turn in range(5)),
        *(desk.update_position(KEY, notes=f"turn {turn}") for turn in range(5)),
    )
    position = await desk.get_position("desk", "MNQ SEP25")
    assert position.notes is not None
    assert (set(position.labels), position.notes[:4], position.annotation_etag) == ({"turn"}, "turn", '"v10"')


async def test_one_request_sent_twice_at_once_is_written_once(desk: Steelyard) -> None:
    await hold(desk)
    request = str(uuid4())
    answers = await asyncio.gather(*(desk.update_position(KEY, notes="once", request_id=request) for _ in range(4)))
    assert {answer.annotations.annotation_etag for answer in answers} == {'"v1"'}


async def test_a_position_that_never_was_is_not_found(desk: Steelyard) -> None:
    with pytest.raises(NotFound):
        await desk.update_position(KEY, notes="of nothing")
    await hold(desk)
    with pytest.raises(NotFound):
        await desk.update_position(PositionKey("desk", "MNQ SEP25", book="other"), notes="of nothing")


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("update_mask", {}),
        ("update_mask", {"update_mask": FieldMask(paths=["quantity"])}),
        ("notes", {"update_mask": FieldMask(paths=["notes"]), "notes": "n" * 1_001}),
        ("labels", {"update_mask": FieldMask(paths=["labels"]), "labels": {"a=b": "c"}}),
        ("annotation_etag", {"update_mask": FieldMask(paths=["notes"]), "annotation_etag": "three"}),
        ("request_id", {"update_mask": FieldMask(paths=["notes"]), "request_id": ""}),
        ("key.account", {"update_mask": FieldMask(paths=["notes"]), "key": common_pb2.PositionKey(instrument="A")}),
    ],
)
async def test_what_cannot_be_written_is_named(desk: Steelyard, field: str, change: dict[str, Any]) -> None:
    whole: dict[str, Any] = {
        "request_id": str(uuid4()),
        "key": common_pb2.PositionKey(account="desk", instrument="MNQ SEP25"),
        **change,
    }
    stub = position_service_pb2_grpc.PositionServiceStub(desk.channel)
    with pytest.raises(InvalidField) as refusal, translated():
        await stub.UpdatePosition(position_service_pb2.UpdatePositionRequest(**whole))
    assert refusal.value.violations[0].field == field
