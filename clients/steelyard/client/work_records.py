"""What the service works on: builds and imports.

Names and meanings are those of the contract (`protos/steelyard/v1`), which says more about each field.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from steelyard.client.records import PositionKey


class BuildMode(StrEnum):
    """How much a build folds."""

    INCREMENTAL = "INCREMENTAL"
    FULL = "FULL"


class BuildState(StrEnum):
    """How far a build is."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    PARTIALLY_SUCCEEDED = "PARTIALLY_SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_terminal(self) -> bool:
        """Whether the build has ended."""
        return self in _TERMINAL


_TERMINAL = {BuildState.SUCCEEDED, BuildState.PARTIALLY_SUCCEEDED, BuildState.FAILED, BuildState.CANCELLED}


class BuildPriority(StrEnum):
    """How urgent a build is."""

    IMMEDIATE = "IMMEDIATE"
    BULK = "BULK"


class BuildTrigger(StrEnum):
    """Who started a build."""

    CALLER = "CALLER"
    IMPORT = "IMPORT"
    RETRY = "RETRY"
    REFOLD = "REFOLD"
    ROLLBACK = "ROLLBACK"
    RECORD_CHANGE = "RECORD_CHANGE"


class KeyState(StrEnum):
    """How far one key of a build is."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class ImportFormat(StrEnum):
    """The format of a file of executions."""

    NINJATRADER = "NINJATRADER"
    GENERIC_CSV = "GENERIC_CSV"
    BYBIT = "BYBIT"
    BINANCE = "BINANCE"


class ImportState(StrEnum):
    """How far an import is."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    VALIDATED = "VALIDATED"
    ROLLED_BACK = "ROLLED_BACK"


class ImportRowCategory(StrEnum):
    """What is wrong with a row."""

    PARSING = "PARSING"
    VALIDATION = "VALIDATION"
    DUPLICATE = "DUPLICATE"
    CONFLICT = "CONFLICT"
    WARNING = "WARNING"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildProgress:
    """How far a build is, in numbers that never go back."""

    keys_done: int
    keys_total: int
    keys_failed: int
    fills_done: int
    fills_total: int
    percent: float
    rows_per_second: float | None
    eta_seconds: int | None
    current_key: PositionKey | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildError:
    """A check that a key failed."""

    check: str
    message: str
    fill_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChange:
    """What a build would change of one key."""

    changes: bool
    quantity_before: Decimal | None
    quantity_after: Decimal
    net_realized_pnl_before: Decimal | None
    net_realized_pnl_after: Decimal
    round_trips_before: int
    round_trips_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyResult:
    """What a build made of one key."""

    key: PositionKey
    state: KeyState
    quantity: Decimal | None
    version: int | None
    round_trips: int
    errors: tuple[BuildError, ...]
    change: KeyChange | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """The job that computes positions and round trips from stored entries."""

    build_id: str
    mode: BuildMode
    state: BuildState
    priority: BuildPriority
    trigger: BuildTrigger
    progress: BuildProgress
    key_results: tuple[KeyResult, ...]
    key_results_truncated: bool
    retry_of: str | None
    import_id: str | None
    validate_only: bool
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """A file of executions and what became of it: rows = recorded + repeated + conflicting + rejected."""

    import_id: str
    file_name: str
    format: ImportFormat
    state: ImportState
    rows: int
    recorded: int
    repeated: int
    conflicting: int
    rejected: int
    warnings: int
    build_id: str | None
    created_at: datetime
    finished_at: datetime | None
    rolled_back_at: datetime | None
    withdrawn: int
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRow:
    """A row that something is wrong with."""

    row_number: int
    category: ImportRowCategory
    field: str
    reason: str
    raw: str
