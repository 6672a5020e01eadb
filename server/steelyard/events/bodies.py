"""The form of published messages: flat, decimals as text, times in ISO-8601 UTC, `_usdt` names as consumers expect.

The `_usdt` figures are in the settle currency that the body names. Every body has an `event_id` that stays the same
when a message is published again, so its consumers can tell a repeat. Pure.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from steelyard.accounting.keys import Account, Leg, PositionKey
from steelyard.accounting.marks import mark_state
from steelyard.accounting.portfolio import CurrencyPortfolio
from steelyard.accounting.round_trips import CostMethod, RoundTrip
from steelyard.accounting.units import money_text
from steelyard.operations.outbox_ports import (
    LIMIT_BREACHED,
    PORTFOLIO_UPDATED,
    POSITION_CLOSED,
    POSITION_UPDATED,
    OutboxMessage,
    OutboxPlace,
)
from steelyard.operations.position_view import PositionRow, PositionView

_NAMESPACE = uuid.UUID("1b6a3f0a-0f0e-5d55-9a39-6a4a4c3a8f11")
_SOURCES = {"fill": "order_execution", "venue": "venue_report"}
"""What consumers call a cause; others go by their own name."""


def event_id(place: OutboxPlace) -> str:
    """The id of the message in a place of the outbox."""
    return str(uuid.uuid5(_NAMESPACE, f"{place.account}\n{place.seq}\n{place.ordinal}"))


def position_id(key: PositionKey) -> str:
    """The id of a position, for ever."""
    return str(uuid.uuid5(_NAMESPACE, "\n".join(key)))


def encoded(body: Mapping[str, Any]) -> bytes:
    """A body as it goes over the wire."""
    return json.dumps(body, separators=(",", ":")).encode()


def message_body(message: OutboxMessage, *, now: datetime) -> dict[str, Any]:
    """The body of a message that waits in the outbox."""
    key = message.key
    if message.topic == LIMIT_BREACHED:
        return _breach(message)
    body: dict[str, Any] = {
        "event_type": message.topic,
        "event_id": event_id(message.place),
        "account": key.account,
        "book": key.book,
        "position_id": position_id(key),
        "asset": key.instrument,
        "leg": key.leg.value,
        "mode": "one-way" if key.leg is Leg.NET else "hedge",
        "version": message.version,
        "trace_id": message.trace_id,
        "timestamp": _time(message.committed_at),
    }
    if message.topic == POSITION_UPDATED and message.position is not None:
        body |= _position(message.position, message, now=now)
    elif message.topic == POSITION_CLOSED and message.trip is not None and message.position is not None:
        body |= _trip(message.trip, message.position)
    return body | dict(message.body)


def _breach(message: OutboxMessage) -> dict[str, Any]:
    """A breach is of an account's limit in a currency, and of an instrument only where that is what is limited."""
    said = dict(message.body)
    return {
        "event_type": message.topic,
        "event_id": event_id(message.place),
        "account": message.key.account,
        "asset": said.pop("instrument", None),
        "version": said.get("opened_seq"),
        "trace_id": message.trace_id,
        "timestamp": _time(message.committed_at),
    } | said


def _position(row: PositionRow, message: OutboxMessage, *, now: datetime) -> dict[str, Any]:
    view = PositionView(row, now, mark_state(row.mark, now=now), message.gross_exposure)
    figures, features = view.figures(), view.features()
    size = view.quantity
    return {
        "size": money_text(size),
        "long_size": money_text(size) if row.key.leg is Leg.LONG else None,
        "short_size": money_text(abs(size)) if row.key.leg is Leg.SHORT else None,
        "average_entry_price": _text(figures.average_price),
        "mark_price": _text(None if row.mark is None else row.mark.price),
        "unrealized_pnl": _text(figures.unrealized_pnl),
        "realized_pnl": money_text(figures.realized_pnl),
        "net_realized_pnl": money_text(figures.net_realized_pnl),
        "fees": money_text(view.fees),
        "unrealized_pnl_pct": _text(features.unrealized_pnl_pct),
        "time_held_minutes": features.time_held_minutes,
        "position_size_norm": _text(features.position_size_norm),
        "figures_state": row.figures_state.value,
        "opened_at": _time(row.opened_at),
        "closed_at": _time(row.closed_at),
        "update_source": _SOURCES.get(message.cause or "", message.cause),
        "currency": row.instrument.settle_currency,
    }


def _trip(trip: RoundTrip, row: PositionRow) -> dict[str, Any]:
    instrument, method, sums = row.instrument, row.cost_method, trip.sums
    return {
        "trip_id": str(trip.id_under(row.key)),
        "direction": trip.direction.value,
        "entered_quantity": money_text(trip.entered_quantity),
        "exited_quantity": money_text(trip.exited_quantity),
        "max_quantity": money_text(trip.max_quantity),
        "average_entry_price": _text(trip.average_entry_price(instrument)),
        "average_exit_price": _text(trip.average_exit_price(instrument)),
        "gross_realized_pnl": money_text(sums.gross(method)),
        "realized_pnl": money_text(sums.realized(method)),
        "net_realized_pnl": money_text(sums.net(method)),
        "fees": money_text(sums.fees),
        "funding": money_text(sums.funding),
        "fill_count": trip.fill_count,
        "is_adjusted": trip.is_adjusted,
        "opened_at": _time(trip.opened_at),
        "closed_at": _time(trip.closed_at),
        "currency": instrument.settle_currency,
        "cost_method": CostMethod(method).value,
    }


def portfolio_body(portfolio: CurrencyPortfolio, *, account: Account, seq: int, now: datetime) -> dict[str, Any]:
    """The body of `portfolio_updated`: what an account's positions of one settle currency add up to."""
    return {
        "event_type": PORTFOLIO_UPDATED,
        "event_id": str(uuid.uuid5(_NAMESPACE, f"portfolio\n{account}\n{portfolio.currency}\n{seq}")),
        "account": account,
        "currency": portfolio.currency,
        "version": seq,
        "total_exposure_usdt": money_text(portfolio.gross_exposure),
        "net_exposure_usdt": money_text(portfolio.net_exposure),
        "portfolio_value_usdt": money_text(portfolio.value),
        "total_unrealized_pnl_usdt": money_text(portfolio.unrealized_pnl),
        "total_realized_pnl_usdt": money_text(portfolio.realized_pnl),
        "total_pnl_usdt": money_text(portfolio.total_pnl),
        "open_positions_count": portfolio.open_count,
        "long_positions_count": portfolio.long_count,
        "short_positions_count": portfolio.short_count,
        "complete": portfolio.complete,
        "trace_id": None,
        "timestamp": _time(now),
    }


def _text(value: Decimal | None) -> str | None:
    return None if value is None else money_text(value)


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")
