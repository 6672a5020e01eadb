"""Positions, their lots and versions, as the contract tells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from steelyard.accounting.keys import Leg, PositionKey
from steelyard.accounting.lots import Lot
from steelyard.accounting.marks import Mark, MarkState
from steelyard.accounting.position import FiguresState
from steelyard.accounting.round_trips import CostMethod, Direction
from steelyard.operations.annotate_positions import Annotations
from steelyard.operations.position_view import (
    Detail,
    MethodFigures,
    PositionFeatures,
    PositionRow,
    PositionView,
    VenueFigures,
)
from steelyard.operations.read_events import PositionEvent
from steelyard.rpc import encode
from steelyard.v1 import market_pb2, position_pb2, round_trip_pb2

MODES: Mapping[Leg, position_pb2.PositionMode.ValueType] = {
    Leg.NET: position_pb2.POSITION_MODE_ONE_WAY,
    Leg.LONG: position_pb2.POSITION_MODE_HEDGE,
    Leg.SHORT: position_pb2.POSITION_MODE_HEDGE,
}
MARK_STATES: Mapping[MarkState, market_pb2.MarkState.ValueType] = {
    MarkState.FRESH: market_pb2.MARK_STATE_FRESH,
    MarkState.STALE: market_pb2.MARK_STATE_STALE,
    MarkState.MISSING: market_pb2.MARK_STATE_MISSING,
}
FIGURES_STATES: Mapping[FiguresState, position_pb2.FiguresState.ValueType] = {
    FiguresState.CURRENT: position_pb2.FIGURES_STATE_CURRENT,
    FiguresState.REFOLDING: position_pb2.FIGURES_STATE_REFOLDING,
}
DIRECTIONS: Mapping[Direction, round_trip_pb2.Direction.ValueType] = {
    Direction.LONG: round_trip_pb2.DIRECTION_LONG,
    Direction.SHORT: round_trip_pb2.DIRECTION_SHORT,
}
CAUSES: Mapping[str, position_pb2.PositionEventCause.ValueType] = {
    "fill": position_pb2.POSITION_EVENT_CAUSE_FILL,
    "correction": position_pb2.POSITION_EVENT_CAUSE_FILL,
    "adjustment": position_pb2.POSITION_EVENT_CAUSE_ADJUSTMENT,
    "venue": position_pb2.POSITION_EVENT_CAUSE_ADJUSTMENT,
    "build": position_pb2.POSITION_EVENT_CAUSE_BUILD,
    "refold": position_pb2.POSITION_EVENT_CAUSE_REFOLD,
    "rollback": position_pb2.POSITION_EVENT_CAUSE_ROLLBACK,
    "reconcile": position_pb2.POSITION_EVENT_CAUSE_RECONCILE,
}


def name(key: PositionKey) -> str:
    """A position's name: its key as a path, each part percent-encoded."""
    account, book, instrument, leg = (quote(part, safe="") for part in key)
    return f"accounts/{account}/books/{book}/instruments/{instrument}/legs/{leg}"


def mark(instrument: str, *, known: Mark | None, state: MarkState) -> market_pb2.Mark:
    """A price and how fresh it is; without one only that it is missing."""
    if known is None:
        return market_pb2.Mark(instrument=instrument, state=MARK_STATES[state])
    return market_pb2.Mark(
        instrument=instrument,
        price=encode.decimal(known.price),
        at=encode.timestamp(known.at),
        source=known.source,
        state=MARK_STATES[state],
    )


def position(view: PositionView, *, detail: Detail) -> position_pb2.Position:
    """A position; the full view adds both methods, the current trip and the features."""
    row, key, figures = view.row, view.row.key, view.figures()
    quantity, notional, sums = view.quantity, view.notional, row.lifetime
    told = position_pb2.Position(
        name=name(key),
        account=key.account,
        book=key.book,
        instrument=key.instrument,
        leg=encode.LEGS[key.leg],
        mode=MODES[key.leg],
        side=_side(view),
        quantity=encode.decimal(quantity),
        unmatched_quantity=encode.decimal(sums.unmatched),
        average_price=encode.optional_decimal(figures.average_price),
        cost=encode.money(figures.cost),
        gross_realized_pnl=encode.money(figures.gross_realized_pnl),
        fees=encode.money(view.fees),
        funding=encode.money(sums.funding),
        realized_pnl=encode.money(figures.realized_pnl),
        net_realized_pnl=encode.money(figures.net_realized_pnl),
        total_pnl=encode.optional_money(figures.total_pnl),
        unvalued_fees={currency: encode.money(amount) for currency, amount in sums.unvalued_fees},
        fees_complete=sums.fees_complete,
        unrealized_pnl=encode.optional_money(figures.unrealized_pnl),
        notional=encode.optional_money(notional),
        exposure=encode.optional_money(None if notional is None else abs(notional)),
        mark=mark(key.instrument, known=row.mark, state=view.mark_state),
        settle_currency=row.instrument.settle_currency,
        fill_count=view.fill_count,
        labels=row.labels,
        annotation_etag=encode.etag(row.annotation_version),
        notes=row.notes,
        **_life(row),
    )
    if detail is Detail.FULL:
        _add_full(told, view)
    return told


def _side(view: PositionView) -> position_pb2.PositionSide.ValueType:
    if not view.quantity:
        return position_pb2.POSITION_SIDE_FLAT
    return position_pb2.POSITION_SIDE_LONG if view.quantity > 0 else position_pb2.POSITION_SIDE_SHORT


def _life(row: PositionRow) -> dict[str, Any]:
    """Times, version and state."""
    return {
        "figures_state": FIGURES_STATES[row.figures_state],
        "created_at": encode.timestamp(row.created_at),
        "opened_at": encode.optional_timestamp(row.opened_at),
        "closed_at": encode.optional_timestamp(row.closed_at),
        "last_fill_at": encode.optional_timestamp(row.last_fill_at),
        "last_snapshot_at": encode.optional_timestamp(row.last_snapshot_at),
        "updated_at": encode.timestamp(row.updated_at),
        "version": row.version,
        "etag": encode.etag(row.version),
    }


def _add_full(told: position_pb2.Position, view: PositionView) -> None:
    told.average.CopyFrom(_method(view.figures(CostMethod.AVERAGE)))
    told.lots.CopyFrom(_method(view.figures(CostMethod.LOTS)))
    told.features.CopyFrom(_features(view.features()))
    cycle = _cycle(view.row)
    if cycle is not None:
        told.cycle.CopyFrom(cycle)
    if view.row.venue is not None:
        told.venue.CopyFrom(_venue(view.row.venue))


def _venue(said: VenueFigures) -> position_pb2.VenueFigures:
    return position_pb2.VenueFigures(
        quantity=encode.optional_decimal(said.quantity),
        average_price=encode.optional_decimal(said.average_price),
        unrealized_pnl=encode.optional_decimal(said.unrealized_pnl),
        realized_pnl=encode.optional_decimal(said.realized_pnl),
        reported_at=encode.optional_timestamp(said.reported_at),
        source=said.source,
    )


def _method(figures: MethodFigures) -> position_pb2.MethodFigures:
    return position_pb2.MethodFigures(
        average_price=encode.optional_decimal(figures.average_price),
        cost=encode.money(figures.cost),
        gross_realized_pnl=encode.money(figures.gross_realized_pnl),
        realized_pnl=encode.money(figures.realized_pnl),
        net_realized_pnl=encode.money(figures.net_realized_pnl),
        unrealized_pnl=encode.optional_money(figures.unrealized_pnl),
    )


def _features(features: PositionFeatures) -> position_pb2.PositionFeatures:
    return position_pb2.PositionFeatures(
        unrealized_pnl_pct=encode.optional_decimal(features.unrealized_pnl_pct),
        time_held_minutes=features.time_held_minutes,
        position_size_norm=encode.optional_decimal(features.position_size_norm),
    )


def _cycle(row: PositionRow) -> position_pb2.CycleFigures | None:
    trip, method = row.trip, row.cost_method
    if trip is None:
        return None
    sums = trip.sums
    return position_pb2.CycleFigures(
        trip_id=str(trip.id_under(row.key)),
        direction=DIRECTIONS[trip.direction],
        gross_realized_pnl=encode.money(sums.gross(method)),
        fees=encode.money(sums.fees),
        funding=encode.money(sums.funding),
        realized_pnl=encode.money(sums.realized(method)),
        net_realized_pnl=encode.money(sums.net(method)),
        max_quantity=encode.decimal(trip.max_quantity),
        fill_count=trip.fill_count,
        opened_at=encode.timestamp(trip.opened_at),
        closed_at=encode.optional_timestamp(trip.closed_at),
    )


def written_annotations(written: Annotations) -> position_pb2.PositionAnnotations:
    """What people say about a position."""
    return position_pb2.PositionAnnotations(
        labels=written.labels, notes=written.notes, annotation_etag=encode.etag(written.version)
    )


def lot(open_lot: Lot) -> position_pb2.Lot:
    """The still open part of an opening fill."""
    return position_pb2.Lot(
        fill_id=open_lot.opened.entry_id,
        opened_at=encode.timestamp(open_lot.opened_at),
        quantity=encode.decimal(open_lot.quantity),
        original_quantity=encode.decimal(open_lot.original_quantity),
        price=encode.decimal(open_lot.price),
    )


def event(told: PositionEvent) -> position_pb2.PositionEvent:
    """One version of a position."""
    return position_pb2.PositionEvent(
        key=encode.position_key(told.key),
        version=told.version,
        seq=told.seq,
        cause=CAUSES.get(told.cause, position_pb2.POSITION_EVENT_CAUSE_UNSPECIFIED),
        cause_id=told.cause_id or "",
        fill_ids=told.fill_ids,
        fill_count=told.fill_count,
        committed_at=encode.timestamp(told.committed_at),
        position=position(told.view(), detail=Detail.BASIC),
    )
