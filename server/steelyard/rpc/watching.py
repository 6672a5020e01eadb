"""Watches on the wire: requests decoded, resume tokens sealed, messages encoded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from steelyard.accounting.errors import InvalidField, PageTokenInvalid
from steelyard.accounting.keys import Account
from steelyard.accounting.marks import MarkState
from steelyard.operations.account_tail import Place
from steelyard.operations.ports import Commit
from steelyard.operations.position_view import Detail, PositionRow, PositionView
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
from steelyard.v1 import position_pb2
from steelyard.v1 import position_service_pb2 as wire

TOLD_MAX = 512
"""Positions that are kept as they were told, for the next watcher of the same change."""

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


class PositionMessages:
    """The messages of watches of positions; a change that many are told is put into the contract's words once."""

    def __init__(self, tokens: PageTokens) -> None:
        self._tokens = tokens
        # By identity, holding on to the row: an id is free for others only once its object is gone.
        self._told: OrderedDict[tuple[int, MarkState], tuple[PositionRow, position_pb2.Position]] = OrderedDict()

    def of(self, request: wire.WatchPositionsRequest) -> Callable[[WatchMessage], wire.WatchPositionsResponse]:
        """Makes the messages of one stream."""
        seal = self._tokens.sealer(request)

        def message(told: WatchMessage) -> wire.WatchPositionsResponse:
            point = told.point
            answer = wire.WatchPositionsResponse(
                header=write_header([Commit(point.account, point.place.seq)], at=point.issued_at),
                resume_token=seal((point.epoch, *point.place, point.issued_at)),
            )
            if told.kind is MessageKind.CHANGE:
                self._fill_change(answer.change, told)
            elif told.kind is MessageKind.RESET:
                answer.reset.reason = told.reason
            else:
                getattr(answer, told.kind.value.lower()).SetInParent()
            return answer

        return message

    def _fill_change(self, change: wire.WatchPositionChange, told: WatchMessage) -> None:
        assert told.row is not None
        assert told.change is not None
        change.kind = KINDS[told.change]
        change.mark_only = told.is_mark_only
        change.position.CopyFrom(self._position(told.row, told.mark_state, at=told.point.issued_at))

    def _position(self, row: PositionRow, state: MarkState, *, at: datetime) -> position_pb2.Position:
        known = self._told.get((id(row), state))
        if known is not None:
            return known[1]
        position = encode_position.position(PositionView(row, at, state), detail=Detail.FULL)
        self._told[id(row), state] = (row, position)
        while len(self._told) > TOLD_MAX:
            self._told.popitem(last=False)
        return position
