"""What other systems hold for true, as ports: a venue that can be asked for positions, an order manager's fills."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from steelyard.accounting.instruments import Instrument
from steelyard.accounting.keys import Account, InstrumentName, Leg, PositionKey


class VenueFailureReason(StrEnum):
    """Why a venue gave no positions."""

    UNREACHABLE = "UNREACHABLE"
    TIMEOUT = "TIMEOUT"
    RATE_LIMITED = "RATE_LIMITED"
    REFUSED = "REFUSED"
    """It answers, but not us: a wrong key, a wrong signature, a clock that is off."""
    GARBLED = "GARBLED"
    """Its answer is not what is documented."""


@dataclass(frozen=True, slots=True)
class VenueFailure:
    """No positions, and why."""

    reason: VenueFailureReason
    text: str = ""

    @property
    def told(self) -> str:
        """On one line."""
        return f"{self.reason}: {self.text}" if self.text else self.reason.value


@dataclass(frozen=True, slots=True, kw_only=True)
class VenuePosition:
    """What a venue holds on one leg of an instrument."""

    instrument: InstrumentName
    leg: Leg
    quantity: Decimal
    """Signed."""
    average_price: Decimal | None = None
    mark_price: Decimal | None = None
    unrealized_pnl: Decimal | None = None
    realized_pnl: Decimal | None = None
    """Cumulative, all-time for the instrument."""


@dataclass(frozen=True, slots=True)
class VenuePositions:
    """Everything a venue holds of an account, as of one moment of its own clock; what is not named is flat."""

    at: datetime
    positions: Sequence[VenuePosition]
    source: str


class VenueSource(Protocol):
    """A venue that can be asked."""

    @property
    def account(self) -> Account | None:
        """Whose positions it tells; None: there is no venue to ask."""
        ...

    def covers(self, instrument: Instrument) -> bool:
        """Whether it would name a position in this instrument."""
        ...

    async def positions(self, instrument: InstrumentName | None = None) -> VenuePositions | VenueFailure:
        """What it holds, of one instrument or of all it covers. Never raises."""
        ...


class NoVenue:
    """Nobody to ask."""

    account: Account | None = None

    def covers(self, instrument: Instrument) -> bool:
        """Nothing."""
        return False

    async def positions(self, instrument: InstrumentName | None = None) -> VenuePositions | VenueFailure:
        """Nobody answers."""
        return VenueFailure(VenueFailureReason.UNREACHABLE, "no venue is set")


@dataclass(frozen=True, slots=True)
class OrderDifference:
    """A position whose orders were filled otherwise than the order manager says."""

    key: PositionKey
    ours: Decimal
    """The signed sum of the fills of those orders."""
    theirs: Decimal
    """The signed sum of what the order manager calls filled."""
    orders: int
    """How many orders differ."""


class OrderManager(Protocol):
    """Says how far orders have been filled."""

    async def differences(
        self, account: Account, *, instruments: Sequence[InstrumentName]
    ) -> Sequence[OrderDifference]:
        """Where the fills of an account's orders do not add up to what is said of the orders; empty: all
        instruments."""
        ...
