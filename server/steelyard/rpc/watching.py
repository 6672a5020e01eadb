"""Watches on the wire: requests decoded, resume tokens sealed, messages encoded."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from steelyard.accounting.errors import InvalidField, PageTokenInvalid
from steelyard.accounting.keys import Account
from steelyard.operations.account_tail import Place
from steelyard.operations.ports import Commit
from steelyard.operations.position_view import Detail, PositionView
from steelyard.operations.watch_positions import (
    ChangeKind,
    MessageKind,
    ResumePoint,
    WatchMessage,
    WatchMode,
    WatchRequest,
)
from steelyard.rpc import decode, encode_position, limits
from steelyard.rpc.header import write_header
from steelyard.rpc.page_tokens import PageTokens
from steelyard.v1 import position_service_pb2 as wire

MODES: Mapping[int, WatchMode] = {
    wire.WATCH_MODE_UNSPECIFIED: WatchMode.CONFLATED,
    wire.WATCH_MODE_CONFLATED: WatchMode.CONFLATED,
    wire.WATCH_MODE_EVERY_VERSION: WatchMode.EVERY_VERSION,
}
KINDS = {
    ChangeKind.ADDED: wire.POSITION_CHANGE_KIND_ADDED,
    ChangeKind.UPDATED: wire.POSITION_CHANGE_KIND_UPDATED,
    ChangeKind.CLOSED: wire.POSITION_CHANGE_KIND_CLOSED,
}


def watch_request(request: wire.WatchPositionsRequest, *, tokens: PageTokens) -> WatchRequest:
    """What is to be watched. Raises `InvalidField`, `PageTokenInvalid`."""
    decode.at_most(request.instruments, limits.WATCHED_INSTRUMENTS_MAX, field="instruments")
    return WatchRequest(
        account=decode.account(request.account),
        book=decode.optional_book(request.book),
        instruments=frozenset(decode.instruments(request.instruments)),
        mode=decode.choice(request.mode, MODES, field="mode"),
        min_interval_s=seconds(request, "min_interval", default=0.1, bounds=(0.01, 60.0)),
        heartbeat_s=seconds(request, "heartbeat", default=10.0, bounds=(1.0, 300.0)),
        resume=_point(request, tokens),
        has_marks=request.include_marks,
    )


def seconds(request: Message, name: str, *, default: float, bounds: tuple[float, float]) -> float:
    """A duration within bounds, both of them allowed. Raises `InvalidField`."""
    if not request.HasField(name):
        return default
    value: Duration = getattr(request, name)
    asked = value.seconds + value.nanos / 1e9
    if not bounds[0] <= asked <= bounds[1]:
        raise InvalidField(name, f"must be {bounds[0]:g} s to {bounds[1]:g} s")
    return asked


def _point(request: wire.WatchPositionsRequest, tokens: PageTokens) -> ResumePoint | None:
    if not request.resume_token:
        return None
    values = tokens.opened(request, request.resume_token)
    if len(values) != 6:
        raise PageTokenInvalid
    epoch, seq, book, instrument, leg, issued_at = values
    return ResumePoint(epoch, Account(request.account), Place(seq, book, instrument, leg), issued_at)


def resume_token(request: wire.WatchPositionsRequest, point: ResumePoint, *, tokens: PageTokens) -> str:
    """The place of a stream as a token bound to its request."""
    return tokens.sealed(request, (point.epoch, *point.place, point.issued_at))


def message(
    told: WatchMessage, request: wire.WatchPositionsRequest, *, tokens: PageTokens
) -> wire.WatchPositionsResponse:
    """One message of a stream."""
    answer = wire.WatchPositionsResponse(
        header=write_header([Commit(told.point.account, told.point.place.seq)], at=told.point.issued_at),
        resume_token=resume_token(request, told.point, tokens=tokens),
    )
    if told.kind is MessageKind.CHANGE:
        answer.change.CopyFrom(_change(told, at=told.point.issued_at))
    elif told.kind is MessageKind.RESET:
        answer.reset.reason = told.reason
    else:
        getattr(answer, told.kind.value.lower()).SetInParent()
    return answer


def _change(told: WatchMessage, *, at: datetime) -> wire.WatchPositionChange:
    assert told.row is not None
    assert told.change is not None
    view = PositionView(told.row, at, told.mark_state)
    return wire.WatchPositionChange(
        kind=KINDS[told.change],
        position=encode_position.position(view, detail=Detail.FULL),
        mark_only=told.is_mark_only,
    )
