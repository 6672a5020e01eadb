"""Round trips, what each fill did in them, and execution pairs, as the contract tells them."""

from __future__ import annotations

from collections.abc import Mapping

from steelyard.accounting.execution_pairs import ExecutionPair, Relation, TripFill
from steelyard.operations.read_trips import TripDetail
from steelyard.operations.trip_view import TripView
from steelyard.rpc import encode
from steelyard.rpc.encode_position import DIRECTIONS
from steelyard.v1 import position_service_pb2, round_trip_pb2

TOLD_MAX = 10_000
"""Fills and pairs of one trip that an answer holds."""

RELATIONS: Mapping[Relation, round_trip_pb2.FillRelation.ValueType] = {
    Relation.OPENED: round_trip_pb2.FILL_RELATION_OPENED,
    Relation.INCREASED: round_trip_pb2.FILL_RELATION_INCREASED,
    Relation.DECREASED: round_trip_pb2.FILL_RELATION_DECREASED,
    Relation.CLOSED: round_trip_pb2.FILL_RELATION_CLOSED,
    Relation.REVERSED: round_trip_pb2.FILL_RELATION_REVERSED,
}


def round_trip(view: TripView) -> round_trip_pb2.RoundTrip:
    """A round trip by its account's cost method."""
    trip, sums = view.trip, view.trip.sums
    weighted, per_contract = view.points
    return round_trip_pb2.RoundTrip(
        trip_id=str(view.trip_id),
        key=encode.position_key(view.key),
        direction=DIRECTIONS[trip.direction],
        state=round_trip_pb2.ROUND_TRIP_STATE_OPEN if trip.is_open else round_trip_pb2.ROUND_TRIP_STATE_CLOSED,
        entered_quantity=encode.decimal(trip.entered_quantity),
        exited_quantity=encode.decimal(trip.exited_quantity),
        open_quantity=encode.decimal(trip.open_quantity),
        max_quantity=encode.decimal(trip.max_quantity),
        average_entry_price=encode.optional_decimal(view.average_entry_price),
        average_exit_price=encode.optional_decimal(view.average_exit_price),
        points_per_contract=encode.optional_decimal(per_contract),
        points_weighted=encode.decimal(weighted),
        gross_realized_pnl=encode.money(view.gross_realized_pnl),
        fees=encode.money(sums.fees),
        funding=encode.money(sums.funding),
        realized_pnl=encode.money(view.realized_pnl),
        net_realized_pnl=encode.money(view.net_realized_pnl),
        gross_realized_pnl_average=encode.money(sums.gross_average),
        gross_realized_pnl_lots=encode.money(sums.gross_lots),
        fees_complete=sums.fees_complete,
        unvalued_fees={currency: encode.money(amount) for currency, amount in sums.unvalued_fees},
        adjusted=trip.is_adjusted,
        opened_at=encode.timestamp(trip.opened_at),
        closed_at=encode.optional_timestamp(trip.closed_at),
        fill_count=trip.fill_count,
        settle_currency=view.instrument.settle_currency,
    )


def fill_response(detail: TripDetail, told: position_service_pb2.GetRoundTripResponse) -> None:
    """Fills an answer with the trip and what explains it, as far as there is room."""
    told.round_trip.CopyFrom(round_trip(detail.view))
    if detail.explanation is None:
        told.truncated = True
        return
    fills, pairs = detail.explanation.fills, detail.explanation.pairs
    told.relations.extend(fill_in_trip(each, unvalued=detail.unvalued) for each in fills[:TOLD_MAX])
    told.execution_pairs.extend(execution_pair(pair) for pair in pairs[:TOLD_MAX])
    told.truncated = max(len(fills), len(pairs)) > TOLD_MAX


def fill_in_trip(part: TripFill, *, unvalued: frozenset[str]) -> round_trip_pb2.FillInTrip:
    """A fill's part in the trip."""
    return round_trip_pb2.FillInTrip(
        fill_id=part.entry_id,
        relation=RELATIONS[part.relation],
        quantity=encode.decimal(abs(part.quantity)),
        price=encode.decimal(part.price),
        executed_at=encode.timestamp(part.executed_at),
        fee=None if part.entry_id in unvalued else encode.money(part.fee),
    )


def execution_pair(pair: ExecutionPair) -> round_trip_pb2.ExecutionPair:
    """An exit matched with an entry."""
    return round_trip_pb2.ExecutionPair(
        entry_fill_id=pair.entry_id,
        exit_fill_id=pair.exit_id,
        quantity=encode.decimal(pair.quantity),
        entry_price=encode.decimal(pair.entry_price),
        exit_price=encode.decimal(pair.exit_price),
        gross_pnl=encode.money(pair.gross),
        entry_fee=encode.money(pair.entry_fee),
        exit_fee=encode.money(pair.exit_fee),
    )
