"""Discrepancies and runs, as users hold them.

Names and meanings are those of the contract (`protos/steelyard/v1`), which says more about each field.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from steelyard.client.records import Position, PositionKey


class DiscrepancyKind(StrEnum):
    """In what two sides differ, or what is wrong by itself."""

    SIZE = "SIZE"
    SIDE = "SIDE"
    AVERAGE = "AVERAGE"
    PNL = "PNL"
    MISSING = "MISSING"
    EXTRA = "EXTRA"
    CLOSED_NOT_FLAT = "CLOSED_NOT_FLAT"
    LEG = "LEG"
    ROUND_TRIPS = "ROUND_TRIPS"
    ORPHAN_FILLS = "ORPHAN_FILLS"
    ROLLED_BACK_ROWS = "ROLLED_BACK_ROWS"
    SESSION_NOT_FLAT = "SESSION_NOT_FLAT"
    BUILD_STALLED = "BUILD_STALLED"


class ComparedWith(StrEnum):
    """What a position was held against."""

    FOLD = "FOLD"
    REPORT = "REPORT"
    VENUE = "VENUE"
    ORDERS = "ORDERS"
    BOOK = "BOOK"


class DiscrepancySeverity(StrEnum):
    """How bad it is."""

    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class DiscrepancyState(StrEnum):
    """What became of it."""

    OPEN = "OPEN"
    RESOLVED = "RESOLVED"
    IGNORED = "IGNORED"


class ReconciliationState(StrEnum):
    """How far a run is."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"

    @property
    def is_terminal(self) -> bool:
        """Whether it has ended."""
        return self in (ReconciliationState.SUCCEEDED, ReconciliationState.FAILED)


class ReconciliationCause(StrEnum):
    """Who started a run."""

    CALL = "CALL"
    PERIODIC = "PERIODIC"
    SAMPLE = "SAMPLE"
    REPORT = "REPORT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """Where a position is not as it should be; without an id it was only looked for."""

    discrepancy_id: str | None
    key: PositionKey
    kind: DiscrepancyKind
    compared_with: ComparedWith
    severity: DiscrepancySeverity
    state: DiscrepancyState
    ours: Decimal | None
    theirs: Decimal | None
    detail: str
    source: str
    compared_at: datetime | None
    occurrences: int
    found_at: datetime
    last_seen_at: datetime
    run_id: str | None
    resolved_at: datetime | None
    resolved_by: str | None
    resolution: str | None
    fixed_version: int | None
    version: int
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscrepancyCount:
    """How many of a kind."""

    kind: DiscrepancyKind
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciliationRun:
    """A run over positions."""

    run_id: str
    cause: ReconciliationCause
    state: ReconciliationState
    accounts: tuple[str, ...]
    instruments: tuple[str, ...]
    fix_discrepancies: bool
    keys_total: int
    keys_checked: int
    keys_waiting: int
    keys_fixed: int
    found: int
    found_new: int
    resolved: int
    found_by_kind: tuple[DiscrepancyCount, ...]
    venue_error: str | None
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    validate_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What looking at a position came to; `is_valid` is as it was when looked at, before anything was fixed."""

    is_valid: bool
    error_message: str
    updated_position: Position | None
    discrepancies: tuple[Discrepancy, ...]
    fixed: bool
    venue_error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """A run, and the first 1,000 discrepancies that the call itself has seen."""

    run: ReconciliationRun
    discrepancies: tuple[Discrepancy, ...]
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedDiscrepancy:
    """A discrepancy as somebody's word left it."""

    discrepancy: Discrepancy
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciliationStats:
    """What reconciling has done."""

    runs: int
    runs_failed: int
    keys_checked: int
    keys_fixed: int
    found: int
    found_new: int
    resolved: int
    found_by_kind: tuple[DiscrepancyCount, ...]
    open: int
    open_by_kind: tuple[DiscrepancyCount, ...]
    last_run: ReconciliationRun | None
