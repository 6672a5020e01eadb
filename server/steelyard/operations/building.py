"""What building speaks of: builds, their scopes, keys and results, and the ports of those who make and watch them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from steelyard.accounting.keys import Account, FillId, InstrumentName, PositionKey
from steelyard.operations.ports import Commit
from steelyard.operations.reading import Cursor, Page

PLAN_CHUNK_WEIGHT = 150_000
"""Entries that one job folds, about: a second of work."""
KEY_WEIGHT = 50
"""What a key costs beside its entries, in entries."""
CHUNK_TASK = "build_chunk"
SMALL_BUILD = 1_000
"""Builds of no more entries are immediate unless their caller says otherwise."""
RESULTS_TOLD = 1_000
"""Key results that are told of a build."""


class BuildMode(StrEnum):
    """INCREMENTAL: keys with entries not folded yet, from the last start before them. FULL: all keys, from scratch."""

    INCREMENTAL = "INCREMENTAL"
    FULL = "FULL"


class BuildState(StrEnum):
    """The last four are terminal."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    PARTIALLY_SUCCEEDED = "PARTIALLY_SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_terminal(self) -> bool:
        """Whether it can change no more."""
        return self not in (BuildState.PENDING, BuildState.RUNNING, BuildState.CANCELLING)


class BuildTrigger(StrEnum):
    """Who started a build."""

    MANUAL = "MANUAL"
    IMPORT = "IMPORT"
    STALE = "STALE"
    RETRY = "RETRY"
    ROLLBACK = "ROLLBACK"
    METHOD = "METHOD"


class BuildPriority(StrEnum):
    """IMMEDIATE work has a worker slot of its own."""

    IMMEDIATE = "IMMEDIATE"
    BULK = "BULK"

    @property
    def queue(self) -> str:
        """The queue its jobs wait in."""
        return self.value.lower()


class KeyState(StrEnum):
    """How far one key of a build is."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class BuildScope:
    """What a build is about; all empty: everything. At most one of them is given."""

    accounts: tuple[Account, ...] = ()
    pairs: tuple[tuple[Account, InstrumentName], ...] = ()
    fills: tuple[tuple[Account, FillId], ...] = ()


@dataclass(frozen=True, slots=True)
class Asker:
    """Whose key asks for a build, and how many of its builds may be under way at once."""

    key_id: str
    builds_max: int


@dataclass(frozen=True, slots=True)
class NewBuild:
    """A build that somebody wants."""

    build_id: UUID
    scope: BuildScope
    mode: BuildMode
    trigger: BuildTrigger
    priority: BuildPriority | None
    """None: by its size."""
    timeout_s: int
    is_validate_only: bool = False
    retry_of: UUID | None = None
    import_id: UUID | None = None
    asker: Asker | None = None
    """None: the service itself, or it runs without keys."""


@dataclass(frozen=True, slots=True)
class RequestMark:
    """What makes a repeated write recognisable."""

    scope: str
    request_id: UUID
    method: str
    body_hash: bytes


@dataclass(frozen=True, slots=True)
class BuildError:
    """A check that a key failed."""

    check: str
    message: str
    fill_id: str | None = None


@dataclass(frozen=True, slots=True)
class KeyPreview:
    """What a build would change of a key."""

    changes: bool
    quantity_before: Decimal | None
    quantity_after: Decimal
    net_before: Decimal | None
    net_after: Decimal
    round_trips_before: int
    round_trips_after: int


@dataclass(frozen=True, slots=True)
class KeyResult:
    """What a build made of one key."""

    key: PositionKey
    state: KeyState
    fills: int = 0
    version: int | None = None
    quantity: Decimal | None = None
    round_trips: int = 0
    errors: tuple[BuildError, ...] = ()
    preview: KeyPreview | None = None


@dataclass(frozen=True, slots=True)
class Build:
    """A build as it is stored."""

    build_id: UUID
    scope: BuildScope
    mode: BuildMode
    trigger: BuildTrigger
    priority: BuildPriority
    is_validate_only: bool
    state: BuildState
    retry_of: UUID | None
    import_id: UUID | None
    keys_total: int
    keys_done: int
    keys_failed: int
    fills_total: int
    fills_done: int
    current_key: PositionKey | None
    error: str | None
    timeout_s: int
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None
    results: Sequence[KeyResult] = ()
    """Failed ones first; only where they were asked for."""
    results_truncated: bool = False
    commits: Sequence[Commit] = ()
    """The heads of the build's accounts, once it has ended and where they were asked for."""

    @property
    def percent(self) -> Decimal:
        """0 to 100 by entries, else by keys; 100 once it succeeded."""
        if self.state is BuildState.SUCCEEDED:
            return Decimal(100)
        done, total = (self.fills_done, self.fills_total) if self.fills_total else (self.keys_done, self.keys_total)
        return Decimal(0) if not total else min(Decimal(100 * done) / total, Decimal(100)).quantize(Decimal("0.01"))

    @property
    def rows_per_second(self) -> float | None:
        """Entries folded in a second, over the whole run; None until known."""
        if self.started_at is None or not self.fills_done:
            return None
        seconds = ((self.finished_at or self.updated_at) - self.started_at).total_seconds()
        return self.fills_done / seconds if seconds > 0 else None

    @property
    def eta_s(self) -> int | None:
        """Seconds still to go at that rate; None until known and once it has ended."""
        rate = self.rows_per_second
        if rate is None or self.state.is_terminal:
            return None
        return int((self.fills_total - self.fills_done) / rate) + 1


@dataclass(frozen=True, slots=True)
class BuildFilter:
    """Which builds a list shows."""

    states: tuple[BuildState, ...] = ()
    account: Account | None = None
    import_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class ClaimedChunk:
    """A chunk of a build's keys that is ours until another claims it."""

    build_id: UUID
    chunk: int
    fence: int
    mode: BuildMode
    trigger: BuildTrigger
    is_validate_only: bool
    import_id: UUID | None
    deadline: datetime
    keys: Sequence[PlannedKey]
    """Those not finished yet, in key order."""


@dataclass(frozen=True, slots=True)
class PlannedKey:
    """A key of a chunk and the entries its fold was expected to take."""

    key: PositionKey
    fills: int


@dataclass(slots=True)
class ChunkProgress:
    """What a chunk has done since it was told last; the store adds it to the build."""

    keys_done: int = 0
    keys_failed: int = 0
    fills_done: int = 0
    current: PositionKey | None = None

    def taken(self) -> ChunkProgress:
        """What is told now; counting goes on from zero."""
        told = ChunkProgress(self.keys_done, self.keys_failed, self.fills_done, self.current)
        self.keys_done = self.keys_failed = self.fills_done = 0
        return told


class BuildStore(Protocol):
    """Builds as callers make, stop and read them."""

    async def create(self, new: NewBuild, mark: RequestMark | None) -> tuple[Build, bool]:
        """Plans and stores a build with its jobs in one transaction; (the build, whether it is the answer of an earlier
        call). Raises `NotFound` for a fill that is unknown, `RequestIdReused`."""
        ...

    async def cancel(self, build_id: UUID, mark: RequestMark | None) -> tuple[Build, bool]:
        """Asks a build to stop. Raises `NotFound`, `BuildAlreadyDone`, `RequestIdReused`."""
        ...

    async def retry(self, new: NewBuild, mark: RequestMark | None) -> tuple[Build, bool]:
        """Makes a build of what `new.retry_of` left undone. Raises `NotFound`, `BuildAlreadyDone`, `InvalidField`."""
        ...

    async def find(self, build_id: UUID, *, results_max: int = 0) -> Build | None:
        """A build, with the first of its key results and its commits if `results_max` is given."""
        ...

    async def page(self, wanted: BuildFilter, *, size: int, after: Cursor | None) -> Page[Build]:
        """Builds, the newest first."""
        ...
