"""What the relay needs of the store: messages that are to be told to others, in the order in which they came true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from steelyard.accounting.keys import Account, PositionKey
from steelyard.accounting.round_trips import RoundTrip
from steelyard.operations.position_view import PositionRow

POSITION_UPDATED = "position_updated"
POSITION_CLOSED = "position_closed"
PORTFOLIO_UPDATED = "portfolio_updated"
SNAPSHOT_CREATED = "position_snapshot_created"
DISCREPANCY_FOUND = "discrepancy_found"
LIMIT_BREACHED = "limit_breached"
TOPICS = (
    POSITION_UPDATED,
    PORTFOLIO_UPDATED,
    SNAPSHOT_CREATED,
    POSITION_CLOSED,
    DISCREPANCY_FOUND,
    LIMIT_BREACHED,
)


@dataclass(frozen=True, slots=True)
class OutboxPlace:
    """Which row it is; rows of an account follow each other in this order."""

    account: Account
    seq: int
    ordinal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxMessage:
    """A message as it waits, with what gives its numbers meaning."""

    place: OutboxPlace
    topic: str
    key: PositionKey
    version: int | None
    body: Mapping[str, Any]
    """What the writer put in; empty for a version of a position."""
    position: PositionRow | None
    """The position in that version, at the mark of now; None where the message is about no version."""
    trip: RoundTrip | None
    """The trip that was closed."""
    gross_exposure: Decimal
    """Of the account in the instrument's settle currency, at the marks of now."""
    cause: str | None
    trace_id: str | None
    committed_at: datetime
    traceparent: str = ""
    """W3C trace context of the span it was caused by; empty where none was recorded."""


class OutboxClaim(Protocol):
    """The partitions that one relay owns for as long as its connection lives."""

    async def take(self) -> int:
        """Takes partitions that nobody owns; how many are owned now. Raises `StoreUnavailable`."""
        ...

    async def waiting(self, *, limit: int) -> Sequence[OutboxMessage]:
        """The oldest messages of the owned partitions, of each account in order."""
        ...

    async def done(self, places: Sequence[OutboxPlace]) -> None:
        """Forgets messages that the broker has confirmed."""
        ...

    async def changed_portfolios(self, *, limit: int) -> Mapping[Account, int]:
        """Accounts whose log went on since their portfolio was last told, with the seq to tell it at."""
        ...

    async def portfolio_told(self, account: Account, *, seq: int) -> None:
        """Notes up to where an account's portfolio has been told."""
        ...


class Outbox(Protocol):
    """Hands out claims."""

    def claim(self) -> AbstractAsyncContextManager[OutboxClaim]:
        """A claim with a connection of its own; whatever it owns is let go at the end."""
        ...

    async def waiting_since(self) -> datetime | None:
        """When the oldest message that still waits was committed; None where none does. Raises `StoreUnavailable`."""
        ...
