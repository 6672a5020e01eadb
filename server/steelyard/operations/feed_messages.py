"""What the feeds of other services say, as values: executions, cumulative states of orders, and how each arrived."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from steelyard.accounting.entries import Fill, Side
from steelyard.accounting.keys import FILL_ID_MAX, FillId, PositionKey, fill_id
from steelyard.accounting.units import ZERO, decimal_text


class FeedOutcome(StrEnum):
    """What a message of a feed came to."""

    APPLIED = "APPLIED"
    """A position is one version further."""
    UNCHANGED = "UNCHANGED"
    """Taken note of; no position changed."""
    REPEATED = "REPEATED"
    """Known already."""
    OUTDATED = "OUTDATED"
    """Older than what is known."""
    IGNORED = "IGNORED"
    """Meant for nobody: a dry run, an order without an execution."""


class OrderFeed(StrEnum):
    """Which feed tells of an order: each execution by itself, or the cumulative state."""

    EXECUTIONS = "EXECUTIONS"
    STATES = "STATES"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """How a message arrived."""

    source: str
    """The queue."""
    event_id: str
    """What a repeat is known by."""
    content_hash: bytes
    received_at: datetime
    sent_at: datetime | None = None
    """The broker's timestamp property; None: it had none."""
    trace_id: str | None = None

    @property
    def time(self) -> datetime:
        """The time of something that does not say when it was: when it was sent, else when we received it."""
        return self.sent_at or self.received_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One execution, as an order manager tells of it."""

    key: PositionKey
    side: Side
    quantity: Decimal
    price: Decimal
    fee: Decimal = ZERO
    fee_currency: str | None = None
    executed_at: datetime | None = None
    order_id: str | None = None
    cumulative_quantity: Decimal | None = None
    """How much of the order was executed after this one; None: not said."""
    event_id: str | None = None
    trace_id: str | None = None

    @property
    def content_hash(self) -> bytes:
        """A hash of the trace and of everything but the time."""
        said = (
            self.trace_id,
            *self.key,
            self.side.value,
            decimal_text(self.quantity),
            decimal_text(self.price),
            decimal_text(self.fee),
            self.fee_currency,
            self.order_id,
            None if self.cumulative_quantity is None else decimal_text(self.cumulative_quantity),
        )
        return hashlib.sha256(json.dumps(said).encode()).digest()

    @property
    def fill_id(self) -> FillId:
        """The event's own id, else order and cumulative quantity, else the hash of trace and content."""
        if self.event_id is not None:
            return usable_id(self.event_id)
        if self.order_id is not None and self.cumulative_quantity is not None:
            return state_id(self.order_id, self.cumulative_quantity)
        return FillId("event:" + self.content_hash.hex()[:40])

    def fill(self, *, otherwise_at: datetime) -> Fill:
        """The fill that this is; executed at `otherwise_at` where it does not say when."""
        return Fill(
            key=self.key,
            fill_id=self.fill_id,
            side=self.side,
            quantity=self.quantity,
            price=self.price,
            executed_at=self.executed_at or otherwise_at,
            fee=self.fee,
            fee_currency=self.fee_currency,
            order_id=self.order_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderState:
    """How far an order has been executed: quantity, average price and fees of all its executions so far."""

    key: PositionKey
    side: Side
    order_id: str
    filled_quantity: Decimal
    average_price: Decimal
    fees: Decimal | None = None
    """Cumulative; None: not said."""
    fee_currency: str | None = None
    at: datetime
    event_id: str | None = None

    @property
    def fill_id(self) -> FillId:
        """The id of the fill that leads to this state."""
        if self.event_id is not None:
            return usable_id(self.event_id)
        return state_id(self.order_id, self.filled_quantity)


def state_id(order_id: str, cumulative: Decimal) -> FillId:
    """The fill id that an order and its cumulative quantity make."""
    return usable_id(f"order:{order_id}:{decimal_text(cumulative)}")


def usable_id(text: str) -> FillId:
    """A foreign id as a fill id: as it is where it may stand, else its hash."""
    if len(text) <= FILL_ID_MAX and text.isascii() and text.isprintable() and text.strip() == text and text:
        return fill_id(text)
    return FillId("sha256:" + hashlib.sha256(text.encode()).hexdigest())
