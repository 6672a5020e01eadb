"""What reconciling speaks of: what was compared, what was found, the records that are kept of it, and the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from steelyard.accounting.keys import Account, InstrumentName, PositionKey

DETAIL_MAX = 500
"""Characters that are said about a finding in words."""
RECONCILE_TASK = "reconcile_waiting"
"""The job that takes up runs that wait."""
FINDINGS_TOLD_MAX = 1_000
"""Findings that the answer to one call names."""


class FindingKind(StrEnum):
    """In what two sides differ, or what is wrong by itself."""

    SIZE = "SIZE"
    SIDE = "SIDE"
    """One is long, the other short."""
    AVERAGE = "AVERAGE"
    PNL = "PNL"
    MISSING = "MISSING"
    """The other side has it, the book has not."""
    EXTRA = "EXTRA"
    """The book holds what the other side knows nothing of."""
    CLOSED_NOT_FLAT = "CLOSED_NOT_FLAT"
    """It is called closed and holds something, or flat with a round trip or lots open."""
    LEG = "LEG"
    """A leg closed more than it held, or the other side holds the instrument on other legs."""
    ROUND_TRIPS = "ROUND_TRIPS"
    """Round trips, lots, counts or times are not those that the entries make."""
    ORPHAN_FILLS = "ORPHAN_FILLS"
    """Entries of a key that has no position, or whose account or instrument has no record."""
    ROLLED_BACK_ROWS = "ROLLED_BACK_ROWS"
    """Fills of an import that was taken back still count."""
    SESSION_NOT_FLAT = "SESSION_NOT_FLAT"
    """Something was held over the account's session close."""
    BUILD_STALLED = "BUILD_STALLED"
    """A build, or entries that wait for one, without progress."""


class Compared(StrEnum):
    """What a position was held against."""

    FOLD = "FOLD"
    """The fold of its own entries."""
    REPORT = "REPORT"
    """The last report of its venue."""
    VENUE = "VENUE"
    """What the venue answers when it is asked."""
    ORDERS = "ORDERS"
    """What the order manager says was filled."""
    BOOK = "BOOK"
    """The book's own rules."""


class Severity(StrEnum):
    """How bad it is."""

    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class DiscrepancyState(StrEnum):
    """OPEN until it is found no more, fixed, or somebody says otherwise."""

    OPEN = "OPEN"
    RESOLVED = "RESOLVED"
    IGNORED = "IGNORED"
    """Not looked at again as long as both sides stay as they are."""


class RunCause(StrEnum):
    """Who started a run."""

    CALL = "CALL"
    PERIODIC = "PERIODIC"
    SAMPLE = "SAMPLE"
    """A few positions, looked at all the time."""
    REPORT = "REPORT"
    """A venue's report that differed in size."""


class RunState(StrEnum):
    """How far a run is; the last two are final."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Finding:
    """Where a position is not as it should be."""

    key: PositionKey
    kind: FindingKind
    compared: Compared
    ours: Decimal | None = None
    """What the book says; None: nothing."""
    theirs: Decimal | None = None
    """What it was held against says; None: nothing."""
    detail: str = ""
    source: str = "reconcile"
    """Who says the other side."""
    at: datetime | None = None
    """As of when it was compared; None: as it is."""

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        if self.kind is FindingKind.SESSION_NOT_FLAT:
            return Severity.INFO
        is_ours = self.compared in (Compared.FOLD, Compared.BOOK) and self.kind is not FindingKind.LEG
        return Severity.ERROR if is_ours or self.kind in _GRAVE else Severity.WARNING


_GRAVE = frozenset({FindingKind.SIDE, FindingKind.MISSING, FindingKind.EXTRA})


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """A finding on record."""

    discrepancy_id: UUID
    finding: Finding
    severity: Severity
    state: DiscrepancyState
    occurrences: int
    found_at: datetime
    last_seen_at: datetime
    run_id: UUID | None
    """The run that saw it last; None where a report showed it."""
    version: int
    """Steps by one when its state changes."""
    resolved_at: datetime | None = None
    resolved_by: str | None = None
    resolution: str | None = None
    """What was done, or why nothing was."""
    fixed_version: int | None = None
    """The version of the position in which it was fixed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscrepancyFilter:
    """Which records are meant; what is left out does not narrow."""

    accounts: Sequence[Account] = ()
    instruments: Sequence[InstrumentName] = ()
    kinds: Sequence[FindingKind] = ()
    compared: Sequence[Compared] = ()
    severities: Sequence[Severity] = ()
    states: Sequence[DiscrepancyState] = ()
    found_from: datetime | None = None
    found_before: datetime | None = None
    run_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """Which positions are looked at; empty: all."""

    accounts: tuple[Account, ...] = ()
    instruments: tuple[InstrumentName, ...] = ()


@dataclass(frozen=True, slots=True)
class Tally:
    """What a run came to, so far."""

    keys_total: int = 0
    keys_checked: int = 0
    keys_waiting: int = 0
    """Keys with entries that wait to be folded: there is nothing to compare yet."""
    keys_fixed: int = 0
    found: int = 0
    found_new: int = 0
    resolved: int = 0
    by_kind: Mapping[str, int] = field(default_factory=dict)
    venue_error: str | None = None
    """Why the venue could not be asked; what was compared with it then is nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run over positions."""

    run_id: UUID
    cause: RunCause
    state: RunState
    scope: Scope
    is_fixing: bool
    tally: Tally
    created_at: datetime
    updated_at: datetime
    body_hash: bytes | None = None
    """Of the call that asked for it."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciliationStats:
    """What reconciling has done, as far as runs are kept."""

    runs: int
    runs_failed: int
    keys_checked: int
    keys_fixed: int
    found: int
    found_new: int
    resolved: int
    found_by_kind: Mapping[str, int]
    open_by_kind: Mapping[str, int]
    """Open records by kind."""
    open_count: int
    last_run: Run | None
    """The newest one that has ended, samples left out."""


class ReconcileObserver(Protocol):
    """Is told what reconciling comes to, to count it."""

    def reconciled(self, run: Run, *, mismatches: int) -> None:
        """A run has ended; `mismatches` positions were not what their own entries make of them."""
        ...

    def venue_failed(self, why: str) -> None:
        """A venue could not be asked."""
        ...


class Unobserved:
    """Counts nothing."""

    def reconciled(self, run: Run, *, mismatches: int) -> None:
        """Goes uncounted."""

    def venue_failed(self, why: str) -> None:
        """Goes uncounted."""
