"""What importing speaks of, and the ports it needs: a spooled file, a parser, a store with a staging place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from steelyard.accounting.keys import Account
from steelyard.operations.building import RequestMark
from steelyard.operations.ports import AccountRules, Commit
from steelyard.operations.reading import Cursor, Page


class RowCategory(StrEnum):
    """What a row result says: the first four were not recorded anew, a WARNING was."""

    PARSING = "parsing"
    VALIDATION = "validation"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    WARNING = "warning"


class ImportState(StrEnum):
    """RUNNING, then exactly one of DONE and FAILED; a DONE one may be ROLLED_BACK."""

    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"
    ROLLED_BACK = "ROLLED_BACK"


class RowSaid(Protocol):
    """What a parser says of a row."""

    @property
    def row_number(self) -> int:
        """The line of the file; the header is line 1."""

    @property
    def category(self) -> str:
        """parsing, validation or warning."""

    @property
    def field(self) -> str | None:
        """The column; None: the row as a whole."""

    @property
    def reason(self) -> str:
        """Why, in words."""

    @property
    def raw(self) -> str:
        """The row as it stands in the file."""


class FilePart(Protocol):
    """Some consecutive rows of a file, made ready for COPY."""

    @property
    def lines(self) -> bytes:
        """Good rows as PostgreSQL's COPY reads them."""

    @property
    def row_count(self) -> int:
        """Rows read, good and bad."""

    @property
    def results(self) -> Sequence[RowSaid]:
        """What there is to say about single rows."""

    @property
    def bytes_done(self) -> int:
        """Bytes of the file read so far."""


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """How a file is to be read; the parser's adapter turns it into its own."""

    format: str
    time_zone: str
    default_account: str | None
    max_bytes: int
    max_rows: int
    max_row_bytes: int


class FileReader(Protocol):
    """Turns a spooled file into parts, off the event loop. Raises `InvalidField` for a file that is refused."""

    async def format_of(self, path: str, request: ReadRequest) -> str:
        """The format that the file's header declares."""
        ...

    def parts(self, path: str, request: ReadRequest) -> AsyncGenerator[FilePart]:
        """The parts of a file, in order; at least one."""
        ...


class SpooledFile(Protocol):
    """A file being received, kept on disk until the import has ended."""

    @property
    def path(self) -> str:
        """Where it lies."""

    @property
    def size(self) -> int:
        """Bytes received so far."""

    @property
    def digest(self) -> bytes:
        """SHA-256 of the bytes received so far."""

    @property
    def line_count(self) -> int:
        """Lines received so far."""

    @property
    def longest_line(self) -> int:
        """Bytes of the longest line received so far."""

    async def write(self, chunk: bytes) -> None:
        """Adds a chunk."""
        ...

    async def lines(self, numbers: Sequence[int]) -> Mapping[int, str]:
        """The lines of these numbers (the first is 1), cut to a length that can be stored."""
        ...


class SpoolRoom(Protocol):
    """Where received files are kept for a while."""

    def file(self) -> AbstractAsyncContextManager[SpooledFile]:
        """An empty file, removed on leaving."""
        ...


@dataclass(frozen=True, slots=True)
class RowResult:
    """What an import says about one row."""

    row_number: int
    category: RowCategory
    field: str | None
    reason: str
    raw: str


@dataclass(frozen=True, slots=True)
class ImportCounts:
    """What the rows of a file came to; they add up: row_count = recorded + repeated + conflicting + rejected.

    A row that stands in the file twice is rejected the second time.
    """

    row_count: int = 0
    recorded: int = 0
    repeated: int = 0
    conflicting: int = 0
    rejected: int = 0
    warnings: int = 0

    def plus(self, other: ImportCounts) -> ImportCounts:
        """Both added."""
        return ImportCounts(
            self.row_count + other.row_count,
            self.recorded + other.recorded,
            self.repeated + other.repeated,
            self.conflicting + other.conflicting,
            self.rejected + other.rejected,
            self.warnings + other.warnings,
        )


@dataclass(frozen=True, slots=True)
class ImportRecord:
    """An import as it is stored."""

    import_id: UUID
    request_id: UUID | None
    file_name: str
    format: str
    content_hash: bytes
    size_bytes: int
    default_account: str | None
    time_zone: str
    state: ImportState
    is_auto_build: bool
    counts: ImportCounts
    build_id: UUID | None
    error: str | None
    created_at: datetime
    finished_at: datetime | None
    rolled_back_at: datetime | None = None
    withdrawn: int = 0
    """Fills that its roll-back took back."""
    is_validated_only: bool = False
    """It was only checked, and is not stored."""


@dataclass(frozen=True, slots=True)
class MergePlan:
    """What the store has to know to merge a staged file."""

    import_id: UUID
    now: datetime
    new_accounts: AccountRules
    """The pattern after which accounts that do not exist are made."""
    is_held: bool
    """Whether the new fills wait for a build that somebody asks for (auto_build_positions = false)."""
    is_validate_only: bool
    """Everything is tried and nothing kept."""
    results_max: int
    allowed_accounts: frozenset[Account] | None = None
    """Rows of others are refused; None: none are."""
    symbols: str | None = None
    """Instruments of this form (a regular expression) that are unknown register themselves as linear; None: none do."""


@dataclass(frozen=True, slots=True)
class StoreResult:
    """What the store says of a row; its raw text is in the file."""

    row_number: int
    category: RowCategory
    field: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class MergedPart:
    """What one part of a file came to in the store."""

    counts: ImportCounts
    """Without `row_count` and warnings, which are the parser's."""
    results: Sequence[StoreResult]
    commits: Sequence[Commit]


@dataclass(frozen=True, slots=True)
class ImportBuild:
    """The build to make of the keys that an import touched."""

    build_id: UUID
    is_immediate: bool
    timeout_s: int
    is_rollback: bool = False


class Turn:
    """The place of a part in the order of its file: it begins when the part before it has ended its own."""

    def __init__(self, before: Turn | None = None) -> None:
        self._before = before
        self._ended = asyncio.Event()

    async def wait(self) -> None:
        """Waits for the turn to begin."""
        if self._before is not None:
            await self._before._ended.wait()
            self._before = None

    def end(self) -> None:
        """Lets the next part begin."""
        self._ended.set()


class StagingLane(Protocol):
    """Where parts of a file become fills, one after the other."""

    async def stage(self, lines: bytes) -> None:
        """Adds parsed rows to the part that is merged next."""
        ...

    async def merge(self, plan: MergePlan, *, turn: Turn) -> MergedPart:
        """Records the staged part in a transaction of its own, in key order and at its turn, and empties the lane."""
        ...


class StagedImport(Protocol):
    """One import's session with the store; what it staged is gone when it ends, however that happens."""

    async def settle_request(self, request_id: UUID) -> ImportRecord | None:
        """Waits for another import under this request id to end, then gives the one that ended well."""
        ...

    async def begin(self, record: ImportRecord) -> None:
        """Stores the import as RUNNING; while this session lives it counts as alive."""
        ...

    async def lane(self, number: int) -> StagingLane:
        """A lane; lane 0 is there already, others are opened when they are first asked for."""
        ...

    async def finish(
        self, record: ImportRecord, *, results: Sequence[RowResult], build: ImportBuild | None
    ) -> ImportRecord:
        """Stores the end of the import, and in the same transaction the build of the keys it touched, if it touched
        any."""
        ...

    async def fail(self, import_id: UUID, *, error: str) -> None:
        """Stores that the import ended badly; what it committed stays."""
        ...


@dataclass(frozen=True, slots=True)
class ImportFilter:
    """Which imports a list shows."""

    import_id: UUID | None = None
    account: Account | None = None


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What taking an import back came to."""

    record: ImportRecord
    build_id: UUID | None
    """The build of what it touched; None where nothing was withdrawn."""
    commits: Sequence[Commit]
    is_replayed: bool = False


class RollbackStore(Protocol):
    """Takes imports back."""

    async def roll_back(
        self, import_id: UUID, *, mark: RequestMark | None, build: ImportBuild, now: datetime
    ) -> RolledBack:
        """Withdraws what only this import attests, and makes a build of it. Again: says that it was done before.

        Raises `NotFound` (also while it runs), `PeriodSealed`, `RequestIdReused`.
        """
        ...


class ImportStore(Protocol):
    """Imports as they are stored."""

    def session(self) -> AbstractAsyncContextManager[StagedImport]:
        """A session of its own with the store."""
        ...

    async def import_record(self, import_id: UUID) -> ImportRecord | None:
        """An import by its id."""
        ...

    async def import_results(self, import_id: UUID, *, limit: int) -> Sequence[RowResult]:
        """The row results kept of an import, in file order."""
        ...

    async def results_page(
        self, import_id: UUID, *, categories: Sequence[RowCategory], size: int, after: Cursor | None
    ) -> Page[RowResult]:
        """The row results kept of an import, of these categories (none: of all), in file order."""
        ...

    async def page(self, wanted: ImportFilter, *, size: int, after: Cursor | None) -> Page[ImportRecord]:
        """Imports, the newest first."""
        ...
