"""The ports: how operations see the world. Small Protocols, fulfilled by shape; adapters never import each other.

`Ledger` opens transactions on the book; what happens inside one is `BookTransaction`. Reading ports belong to the
question that they answer and stand beside it (`read_positions`, `read_portfolio`, ...).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple, Protocol
from uuid import UUID

from steelyard.accounting.entries import Adjustment, Entry, Fill
from steelyard.accounting.fold import Checkpoint
from steelyard.accounting.instruments import Instrument
from steelyard.accounting.keys import Account, FillId, InstrumentName, OrderKey, PositionKey
from steelyard.accounting.lots import Lot, LotMethod
from steelyard.accounting.position import FiguresState, FoldState
from steelyard.accounting.round_trips import CostMethod, RoundTrip
from steelyard.accounting.units import ZERO
from steelyard.operations.answering_once import KeepsAnswers

Clock = Callable[[], datetime]
"""Gives the current time, aware UTC; only `app/assembly.py` makes one that reads a clock."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One step of an account's log: a reader that has seen `seq` has seen all before it."""

    account: Account
    seq: int


@dataclass(frozen=True, slots=True)
class AccountRules:
    """What an account's record says about folding and days."""

    account: Account
    cost_method: CostMethod = CostMethod.AVERAGE
    lot_method: LotMethod = LotMethod.FIFO
    size_authority: str = "FILLS"
    time_zone: str = "America/Chicago"
    day_rule: Mapping[str, str] = field(default_factory=lambda: {"kind": "CALENDAR"})
    sealed_before: datetime | None = None
    version: int = 1


class FillOutcome(StrEnum):
    """What recording a fill came to."""

    RECORDED = "RECORDED"
    REPEATED = "REPEATED"
    CONFLICTING = "CONFLICTING"
    BUSTED = "BUSTED"
    """A repeat of a fill that was busted meanwhile: it stays busted."""


class RecordedFill(NamedTuple):
    """What recording one fill came to, and which places of the fold it changed (first, last); None: none."""

    outcome: FillOutcome
    changed: tuple[OrderKey, OrderKey] | None
    stored: Fill | None = None
    """The fill as the store had it and keeps it, where that changed: it came back, or to another place. Its content and
    its key may be those of a later revision than the one given."""


@dataclass(frozen=True, slots=True)
class StaleRange:
    """Entries of a key that are stored but not folded yet lie within [first, last]."""

    first: OrderKey
    last: OrderKey
    entries: int
    touch: int
    """Changes whenever the range grows: whoever folded it may only clear the range he saw."""
    is_held: bool
    """Whether it waits for a build that somebody asks for (auto_update_positions = false)."""
    reason: str = "PENDING"


@dataclass(frozen=True, slots=True)
class Pending:
    """What stored entries add while their refold is deferred: quantity, fees and count do not depend on order."""

    quantity: Decimal = ZERO
    """Signed."""
    fees: Decimal = ZERO
    fills: int = 0


NOTHING_PENDING = Pending()


@dataclass(frozen=True, slots=True)
class StoredPosition:
    """A position as it is stored; `version` 0 means there is no row yet."""

    key: PositionKey
    version: int
    state: FoldState
    figures_state: FiguresState
    since_checkpoint: int
    pending: Pending = NOTHING_PENDING
    stale: StaleRange | None = None
    parked: OrderKey | None = None
    """The place of the venue's newest report that changed nothing: an entry to come by when an earlier one arrives."""


@dataclass(frozen=True, slots=True)
class KeyChange:
    """What one transaction makes of one key: its new state and the rows that are replaced around it."""

    key: PositionKey
    expected_version: int
    """The version this was computed from; 0 for a key without a row."""
    state: FoldState
    cause: str
    """fill, adjustment, import, build, ... : for the position event."""
    cause_id: str | None
    fill_ids: Sequence[str]
    """The fills this step applies, at most the first 100 of them."""
    fill_count: int
    """How many fills this step applies."""
    since_checkpoint: int
    trips: Sequence[RoundTrip]
    """Trips to store besides `state.trip` (finished ones that are new or changed)."""
    replace_trips_from: OrderKey | None = None
    """Stored trips opened at or after this entry (and before `replace_trips_until`) are replaced by `trips`."""
    replace_trips_until: OrderKey | None = None
    checkpoints: Sequence[Checkpoint] = ()
    replace_checkpoints_from: OrderKey | None = None
    """Stored checkpoints at or after this entry (and before `replace_trips_until`) are dropped."""
    old_lots: Sequence[Lot] = ()
    """The lots stored now; what differs from `state.lots` is written."""
    clears_stale: int | None = None
    """The `touch` of the stale range that this change has folded."""
    figures_state: FiguresState = FiguresState.CURRENT
    pending: Pending = NOTHING_PENDING
    unparks: str | None = None
    """Id of the parked report where it changes something now, so that it stays an entry for good."""
    effective_reports: frozenset[str] = frozenset()
    """Ids of venue reports that changed something in this fold."""
    refolded: int | None = None
    """How many entries were folded again because the past changed; None: entries were only added to the end."""


@dataclass(frozen=True, slots=True)
class FillRecord:
    """A fill as it is stored."""

    fill: Fill
    state: str
    """LIVE, BUSTED or WITHDRAWN."""
    recorded_at: datetime
    import_id: UUID | None


class BookTransaction(Protocol):
    """One transaction on the book. Locks are always taken in the order fills, positions (sorted), heads (sorted)."""

    async def accounts(self, names: Iterable[Account], *, make: AccountRules | None) -> Mapping[Account, AccountRules]:
        """The rules of accounts; missing ones are made after the pattern `make` (None: they are left out)."""
        ...

    async def instruments(self, names: Iterable[InstrumentName]) -> Mapping[InstrumentName, Instrument]:
        """Records of instruments; a futures contract takes its record from its root. Unknown ones are left out."""
        ...

    async def insert_fills(
        self, fills: Sequence[Fill], instruments: Mapping[InstrumentName, Instrument]
    ) -> Sequence[RecordedFill]:
        """Inserts fills in key order and says of each what it came to; repeats keep the smaller sequence."""
        ...

    async def repeats_of_known(
        self, fills: Sequence[Fill], instruments: Mapping[InstrumentName, Instrument]
    ) -> Sequence[RecordedFill | None]:
        """Of each fill what it comes to if it is known as it stands, None else; writes nothing."""
        ...

    async def insert_adjustment(self, adjustment: Adjustment) -> FillOutcome:
        """Inserts an adjustment, or finds the same (REPEATED) or another one (CONFLICTING) under its id."""
        ...

    async def lock_positions(self, keys: Iterable[PositionKey]) -> Mapping[PositionKey, StoredPosition]:
        """Locks the rows of keys in sorted order and gives what they hold, lots and stale ranges included."""
        ...

    async def peek_positions(self, keys: Iterable[PositionKey]) -> Mapping[PositionKey, StoredPosition]:
        """The same without locks."""
        ...

    def entries(
        self, key: PositionKey, *, start: OrderKey | None, inclusive: bool, end: OrderKey | None = None
    ) -> AsyncIterator[Sequence[Entry]]:
        """Live entries of a key in fold order from `start` on, in batches that need not fit in memory together."""
        ...

    async def count_entries(self, key: PositionKey, *, start: OrderKey | None, limit: int) -> int:
        """How many live entries a key has from `start` on, counted up to `limit`."""
        ...

    async def last_fill_at(self, key: PositionKey, *, before: OrderKey) -> datetime | None:
        """When the newest live fill strictly before a place was executed."""
        ...

    async def applied_versions(
        self, identities: Sequence[tuple[Account, FillId]]
    ) -> Mapping[tuple[Account, FillId], int | None]:
        """The version of its position in which each stored fill was applied; None while it waits to be folded."""
        ...

    async def last_trip_opened_before(self, key: PositionKey, order: OrderKey) -> RoundTrip | None:
        """The newest stored trip opened strictly before an entry's place."""
        ...

    async def trips_from(self, key: PositionKey, order: OrderKey) -> Sequence[RoundTrip]:
        """Stored trips opened at or after a place, in order, the current or last one included."""
        ...

    async def checkpoint_before(self, key: PositionKey, order: OrderKey) -> Checkpoint | None:
        """The newest stored checkpoint strictly before an entry's place."""
        ...

    async def mark_stale(self, ranges: Mapping[PositionKey, StaleRange]) -> None:
        """Notes entries that are stored but not folded; ranges of a key already noted are widened."""
        ...

    async def apply(self, changes: Sequence[KeyChange]) -> None:
        """Writes changes in key order: positions by compare-and-set on the version (raises `VersionMismatch`), trips,
        lots, checkpoints, one position event each; stale ranges that were folded are cleared."""
        ...


class Ledger(Protocol):
    """Opens transactions on the book."""

    def transaction(self, *, cause: str, is_read_only: bool = False) -> AbstractAsyncContextManager[OpenTransaction]:
        """A READ COMMITTED transaction; committed on leaving, with the heads of all touched accounts advanced as the
        last statement. Read-only ones are REPEATABLE READ snapshots. Driver errors come out as domain errors."""
        ...


class OpenTransaction(BookTransaction, KeepsAnswers, Protocol):
    """What `Ledger.transaction` hands out."""

    @property
    def commits(self) -> Sequence[Commit]:
        """After the commit: the step of each touched account's log."""
        ...

    @property
    def commit_id(self) -> int:
        """The id that stamps every row this transaction records."""
        ...

    async def lock_fill(self, account: Account, fill_id: FillId) -> FillRecord | None:
        """A fill by its id, locked."""
        ...

    async def correct_fill(self, corrected: Fill, instrument: Instrument) -> None:
        """Keeps the stored revision and puts the corrected one in its place."""
        ...

    async def touch(self, accounts: Iterable[Account]) -> None:
        """Counts accounts as touched even though no position changed (fills that are only stored)."""
        ...
