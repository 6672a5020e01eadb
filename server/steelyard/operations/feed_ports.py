"""What the feeds of other services need of the store, besides the book itself, and by which rules they are followed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol

from steelyard.accounting.errors import UnknownInstrument
from steelyard.accounting.instruments import Instrument, InstrumentKind
from steelyard.accounting.keys import Account, FillId, InstrumentName, OrderKey, PositionKey
from steelyard.accounting.marks import Mark
from steelyard.accounting.units import ONE
from steelyard.accounting.venue_report import SIZE_TOLERANCE, TIME_TOLERANCE, Difference, SizeAuthority, VenueReport
from steelyard.operations.feed_messages import OrderFeed, Receipt
from steelyard.operations.ports import AccountRules, BookTransaction, OpenTransaction

DEFAULT_ACCOUNT = Account("main")
DEFAULT_SYMBOLS = r"^[A-Z0-9]{2,20}(USDT|USDC|PERP)$"
_QUOTES = {"USDT": "USDT", "USDC": "USDC", "PERP": "USDC"}


@dataclass(frozen=True, slots=True)
class FeedRules:
    """How feeds are followed."""

    account: Account = DEFAULT_ACCOUNT
    """Whose events these are: events know no account."""
    symbols: str = DEFAULT_SYMBOLS
    """Symbols that match it register themselves as linear, multiplier 1."""
    time_zone: str = "America/Chicago"
    time_tolerance: timedelta = TIME_TOLERANCE
    size_tolerance: Decimal = SIZE_TOLERANCE

    @property
    def new_accounts(self) -> AccountRules:
        """The pattern of the account that feeds make on first use: its reports set sizes unless a fill is as new."""
        return AccountRules(self.account, size_authority=SizeAuthority.LATEST.value, time_zone=self.time_zone)


class InboxOutcome(StrEnum):
    """What the inbox knows of a message."""

    NEW = "NEW"
    REPEATED = "REPEATED"
    CONFLICTING = "CONFLICTING"
    """The id is known with other content."""


@dataclass(frozen=True, slots=True)
class VenueState:
    """What is kept of a key's reports."""

    reported_at: datetime | None
    """The newest report's own time."""
    ties: int
    """Reports with that very time, less one."""


@dataclass(frozen=True, slots=True)
class KnownState:
    """A cumulative state of an order as it is kept."""

    filled_quantity: Decimal
    average_price: Decimal
    fees: Decimal | None
    reached_at: datetime
    """When its fill was executed."""
    told_at: datetime
    """The time of the event whose figures these are."""
    fill_id: FillId


class InstrumentRegister(Protocol):
    """Where instruments can be registered."""

    async def register_instruments(self, records: Sequence[Instrument]) -> None:
        """Adds records; those that exist stay as they are."""
        ...


class FeedBook(OpenTransaction, InstrumentRegister, Protocol):
    """One transaction in which a message takes effect: its inbox row and all it causes, or nothing."""

    async def receive(self, receipts: Sequence[Receipt], *, account: Account) -> Sequence[InboxOutcome]:
        """Notes messages in the inbox and says of each whether it is new."""
        ...

    async def follow_orders(
        self, account: Account, order_ids: Sequence[str], *, feed: OrderFeed
    ) -> Mapping[str, OrderFeed]:
        """Locks orders and says which feed each is followed by: the first that told of it."""
        ...

    async def order_states(self, account: Account, order_id: str) -> Sequence[KnownState]:
        """The known states of an order by quantity."""
        ...

    async def keep_order_state(self, account: Account, order_id: str, *, state: KnownState) -> None:
        """Adds a state, or replaces the one of the same quantity."""
        ...

    async def venue_state(self, key: PositionKey) -> VenueState | None:
        """What is known of a key's reports, locked."""
        ...

    async def keep_report(self, report: VenueReport, *, tie: int, received_at: datetime) -> None:
        """Keeps a report's own figures and time; what it does not say stays as it was."""
        ...

    async def park(self, key: PositionKey, place: OrderKey, *, instead_of: OrderKey | None) -> None:
        """Notes that the entry at a place changed nothing; the one it takes over from is no entry any more."""
        ...

    async def held_elsewhere(self, key: PositionKey) -> Decimal:
        """What the account's other books hold of the same instrument and leg."""
        ...

    async def note_difference(self, report: VenueReport, difference: Difference, *, now: datetime) -> bool:
        """Opens a discrepancy, or counts one more occurrence of the open one; True where it is new."""
        ...

    async def keep_mark(self, instrument: InstrumentName, mark: Mark) -> None:
        """Keeps a price unless a newer one is known."""
        ...

    async def publish(self, topic: str, key: PositionKey, *, body: Mapping[str, Any]) -> None:
        """Puts a message into the outbox; it leaves after the commit. Does nothing where nothing is published."""
        ...


class FeedLedger(Protocol):
    """Opens transactions for the messages of feeds."""

    def transaction(
        self, *, cause: str, is_read_only: bool = False, trace_id: str | None = None
    ) -> AbstractAsyncContextManager[FeedBook]:
        """A READ COMMITTED transaction that advances the heads of all touched accounts last."""
        ...


class _Registering(BookTransaction, InstrumentRegister, Protocol):
    """What finding or registering instruments needs."""


async def instruments_for(
    book: _Registering, names: Sequence[InstrumentName], *, rules: FeedRules
) -> Mapping[InstrumentName, Instrument]:
    """Records of instruments; unknown symbols of the agreed form register themselves, others are left out."""
    wanted = sorted(set(names))
    found = dict(await book.instruments(wanted))
    new = [linear_record(name) for name in wanted if name not in found and re.search(rules.symbols, name)]
    if new:
        await book.register_instruments(new)
        found.update(await book.instruments([record.name for record in new]))
    return found


def linear_record(name: InstrumentName) -> Instrument:
    """The record under which a symbol registers itself: linear, one unit per contract, settled in what it quotes."""
    quote = next((currency for ending, currency in _QUOTES.items() if name.endswith(ending)), "USDT")
    return Instrument(name, InstrumentKind.LINEAR, ONE, quote, quote)


def unknown(name: InstrumentName) -> UnknownInstrument:
    """The refusal of a symbol that is neither known nor of the agreed form."""
    return UnknownInstrument(f"instrument {name} has no record", instrument=name)
