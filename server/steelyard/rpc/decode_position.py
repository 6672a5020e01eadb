"""Questions about positions, lots, round trips and versions, out of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Protocol

from steelyard.accounting.errors import InvalidField
from steelyard.accounting.keys import Leg, PositionKey
from steelyard.accounting.round_trips import Direction
from steelyard.operations.annotate_positions import AnnotationChange
from steelyard.operations.position_view import Detail
from steelyard.operations.read_positions import PositionFilter, PositionSide
from steelyard.operations.read_trips import TripFilter
from steelyard.rpc import decode
from steelyard.v1 import position_pb2, position_service_pb2, round_trip_pb2

MODES: Mapping[int, tuple[Leg, ...]] = {
    position_pb2.POSITION_MODE_UNSPECIFIED: (),
    position_pb2.POSITION_MODE_ONE_WAY: (Leg.NET,),
    position_pb2.POSITION_MODE_HEDGE: (Leg.LONG, Leg.SHORT),
}
SIDES: Mapping[int, PositionSide] = {
    position_pb2.POSITION_SIDE_FLAT: PositionSide.FLAT,
    position_pb2.POSITION_SIDE_LONG: PositionSide.LONG,
    position_pb2.POSITION_SIDE_SHORT: PositionSide.SHORT,
}
VIEWS: Mapping[int, Detail] = {
    position_pb2.POSITION_VIEW_BASIC: Detail.BASIC,
    position_pb2.POSITION_VIEW_FULL: Detail.FULL,
}
DIRECTIONS: Mapping[int, Direction] = {
    round_trip_pb2.DIRECTION_LONG: Direction.LONG,
    round_trip_pb2.DIRECTION_SHORT: Direction.SHORT,
}
STATES: Mapping[int, bool] = {
    round_trip_pb2.ROUND_TRIP_STATE_OPEN: True,
    round_trip_pb2.ROUND_TRIP_STATE_CLOSED: False,
}

ANNOTATIONS = frozenset({"labels", "notes"})


class KeyedRequest(Protocol):
    """A request that names one position by the parts of its key."""

    account: str
    book: str
    instrument: str

    @property
    def leg(self) -> int:
        """A value of the enum."""
        ...


def key(request: KeyedRequest) -> PositionKey:
    """The key that a request names."""
    return PositionKey(
        decode.account(request.account),
        decode.book(request.book),
        decode.instrument(request.instrument),
        decode.leg(request.leg),
    )


def detail(value: int, *, default: Detail) -> Detail:
    """How much is told."""
    return decode.choice(value, VIEWS, field="view") if value else default


def annotation_change(request: position_service_pb2.UpdatePositionRequest) -> AnnotationChange:
    """What is written of labels and notes. Raises `InvalidField`."""
    paths = set(request.update_mask.paths)
    if not paths:
        raise InvalidField("update_mask", "is required")
    if not paths <= ANNOTATIONS:
        raise InvalidField("update_mask", "may name labels and notes")
    return AnnotationChange(
        labels=decode.labels(request.labels) if "labels" in paths else None,
        notes=decode.note(request.notes, field="notes") if "notes" in paths else None,
    )


def position_filter(request: position_service_pb2.ListPositionsRequest) -> PositionFilter:
    """Which positions are meant. Raises `InvalidField`."""
    instrument = decode.optional_instrument(request.instrument)
    legs = decode.choice(request.mode, MODES, field="mode")
    leg = decode.optional_leg(request.leg)
    if leg is not None and legs and leg not in legs:
        raise InvalidField("leg", "is not of this mode")
    size_min = _size(request.size_min, field="size_min") if request.HasField("size_min") else None
    size_max = _size(request.size_max, field="size_max") if request.HasField("size_max") else None
    if size_min is not None and size_max is not None and size_max < size_min:
        raise InvalidField("size_max", "must not be below size_min")
    return PositionFilter(
        accounts=decode.accounts(request.accounts),
        book=decode.optional_book(request.book),
        instruments=() if instrument is None else (instrument,),
        legs=legs if leg is None else (leg,),
        side=decode.choice(request.side, SIDES, field="side") if request.side else None,
        size_min=size_min,
        size_max=size_max,
        is_open_only=request.open_only,
        labels=decode.label_filter(request.labels),
    )


def _size(text: str, *, field: str) -> Decimal:
    size = decode.decimal(text, field=field)
    if size < 0:
        raise InvalidField(field, "must not be negative")
    return size


def keys(request: position_service_pb2.BatchGetPositionsRequest) -> list[PositionKey]:
    """The keys asked for, in their order."""
    return [decode.position_key(each, field=f"keys[{index}]") for index, each in enumerate(request.keys)]


def trip_filter(request: position_service_pb2.ListRoundTripsRequest) -> TripFilter:
    """Which round trips are meant. Raises `InvalidField`."""
    closed_from = closed_before = None
    if request.HasField("closed_from"):
        closed_from = decode.timestamp(request.closed_from, field="closed_from")
    if request.HasField("closed_before"):
        closed_before = decode.timestamp(request.closed_before, field="closed_before")
    decode.interval(closed_from, closed_before, field="closed_before")
    return TripFilter(
        account=decode.account(request.account),
        book=decode.optional_book(request.book),
        instrument=decode.optional_instrument(request.instrument),
        leg=decode.optional_leg(request.leg),
        direction=decode.choice(request.direction, DIRECTIONS, field="direction") if request.direction else None,
        is_open=decode.choice(request.state, STATES, field="state") if request.state else None,
        closed_from=closed_from,
        closed_before=closed_before,
    )


def versions(request: position_service_pb2.ListPositionEventsRequest) -> tuple[int, int | None]:
    """The half-open range of versions asked for; None: up to the newest. Raises `InvalidField`."""
    for field, value in (("version_from", request.version_from), ("version_before", request.version_before)):
        if value < 0:
            raise InvalidField(field, "must not be negative")
    return request.version_from, request.version_before or None
