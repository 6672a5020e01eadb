"""Importing a file of executions: spool, parse, stage, merge, and leave a build of what it touched.

The file is spooled first, so nothing is recorded of a file that is refused as a whole, and a repeat is recognised by
its content. Then a part is merged, in a transaction of its own, while the parser reads on. What an import commits never
depends on its build.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

from steelyard.accounting import keys
from steelyard.accounting.errors import InvalidField, QueueFull, RequestIdReused, SteelyardError
from steelyard.accounting.lots import LotMethod
from steelyard.accounting.round_trips import CostMethod
from steelyard.operations.importing import (
    FilePart,
    FileReader,
    ImportBuild,
    ImportCounts,
    ImportRecord,
    ImportState,
    ImportStore,
    MergePlan,
    ReadRequest,
    RowResult,
    SpooledFile,
    SpoolRoom,
    StagedImport,
)
from steelyard.operations.merge_parts import Merger, Tally, read_ahead
from steelyard.operations.ports import AccountRules, Clock, Commit

CHUNK_MAX = 1024 * 1024
"""Bytes of a file that one chunk may hold."""
FILE_NAME_MAX = 255
DEFAULT_TIME_ZONE = "America/Los_Angeles"
"""The zone of an exporter who names none."""
VENUE_FORMATS = frozenset({"BINANCE", "BYBIT"})
"""Exports of linear perpetuals by the venue itself: what a contract is worth needs no guess."""


@dataclass(frozen=True, slots=True)
class ImportLimits:
    """What bounds imports."""

    file_bytes_max: int = 1024**3
    rows_max: int = 5_000_000
    row_bytes_max: int = 64 * 1024
    part_rows_max: int = 50_000
    """Rows that one transaction records."""
    results_kept: int = 10_000
    """Row results that are stored; the counts are always complete."""
    results_answered: int = 1_000
    """Row results that come with the answer."""
    small_rows_max: int = 1_000
    """Imports that recorded no more than this are built at immediate priority."""
    running_max: int = 4
    build_timeout_s: int = 3_600


@dataclass(frozen=True, slots=True)
class AccountPatterns:
    """How accounts that do not exist are made."""

    futures_lot_method: LotMethod = LotMethod.FIFO
    time_zone: str = "America/Chicago"

    def of_format(self, name: str) -> AccountRules:
        """A futures journal's accounts are kept by lots, others by the weighted average."""
        is_futures = name == "NINJATRADER"
        return AccountRules(
            account=keys.Account(""),
            cost_method=CostMethod.LOTS if is_futures else CostMethod.AVERAGE,
            lot_method=self.futures_lot_method if is_futures else LotMethod.FIFO,
            time_zone=self.time_zone,
        )


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What somebody wants imported."""

    request_id: UUID | None
    file_name: str
    format: str = ""
    """NINJATRADER, GENERIC_CSV, BYBIT or BINANCE; blank: whichever the header declares."""
    default_account: str | None = None
    time_zone: str = DEFAULT_TIME_ZONE
    is_auto_build: bool = True
    is_validate_only: bool = False
    allowed_accounts: frozenset[keys.Account] | None = None
    """Rows of others are refused; None: the caller may write all."""


@dataclass(frozen=True, slots=True)
class ImportReceipt:
    """What became of a file."""

    record: ImportRecord
    results: Sequence[RowResult]
    """The first row results, in file order."""
    commits: Sequence[Commit]
    is_replayed: bool = False
    results_truncated: bool = False
    """Whether there is more to say about rows than `results` does."""


class ImportTrades:
    """Imports files of executions."""

    def __init__(
        self,
        *,
        store: ImportStore,
        reader: FileReader,
        spool: SpoolRoom,
        clock: Clock,
        limits: ImportLimits | None = None,
        patterns: AccountPatterns | None = None,
        venue_symbols: str | None = None,
    ) -> None:
        """`venue_symbols`: of what form the symbols are that a venue's own export registers as linear instruments."""
        self._store = store
        self._reader = reader
        self._spool = spool
        self._clock = clock
        self._limits = limits or ImportLimits()
        self._patterns = patterns or AccountPatterns()
        self._venue_symbols = venue_symbols
        self._running = 0

    async def run(self, request: ImportRequest, chunks: AsyncIterator[bytes]) -> ImportReceipt:
        """Imports the file that the chunks make up. A repeat of a request id gets the first answer.

        Raises `InvalidField` for a request or file that is refused as a whole (then nothing is recorded),
        `RequestIdReused`, `QueueFull`, `StoreUnavailable`.
        """
        request = _checked(request)
        if self._running >= self._limits.running_max:
            raise QueueFull(f"{self._running} imports are running already")
        self._running += 1
        try:
            async with self._spool.file() as spooled:
                await self._receive(spooled, chunks)
                async with self._store.session() as session:
                    return await self._settle(request, spooled, session=session)
        finally:
            self._running -= 1

    async def _receive(self, spooled: SpooledFile, chunks: AsyncIterator[bytes]) -> None:
        async for chunk in chunks:
            if len(chunk) > CHUNK_MAX:
                raise InvalidField("chunk", f"must not be larger than {CHUNK_MAX} bytes")
            if spooled.size + len(chunk) > self._limits.file_bytes_max:
                raise InvalidField("file", f"is larger than {self._limits.file_bytes_max} bytes")
            await spooled.write(chunk)

    async def _settle(self, request: ImportRequest, spooled: SpooledFile, *, session: StagedImport) -> ImportReceipt:
        """Gives the earlier answer to a repeat, else imports. Once rows may be committed, a caller's leaving only
        abandons the wait."""
        if request.request_id is not None and not request.is_validate_only:
            earlier = await session.settle_request(request.request_id)
            if earlier is not None:
                return await self._replay(earlier, request=request, spooled=spooled)
        self._check_shape(spooled)
        asked = self._asked(request)
        request = replace(request, format=await self._reader.format_of(spooled.path, asked))
        async with aclosing(self._reader.parts(spooled.path, asked)) as parts:
            # A file whose header is none of ours is refused here, before anything is recorded.
            first = await anext(parts)
            work = asyncio.ensure_future(
                self._record(request, spooled, session=session, parts=read_ahead(first, parts))
            )
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                await asyncio.wait([work])
                raise

    def _check_shape(self, spooled: SpooledFile) -> None:
        if spooled.line_count - 1 > self._limits.rows_max:
            raise InvalidField("file", f"has more than {self._limits.rows_max} rows")
        if spooled.longest_line > self._limits.row_bytes_max:
            raise InvalidField("file", f"holds a row of more than {self._limits.row_bytes_max} bytes")

    def _asked(self, request: ImportRequest) -> ReadRequest:
        limits = self._limits
        return ReadRequest(
            format=request.format,
            time_zone=request.time_zone,
            default_account=request.default_account,
            max_bytes=limits.file_bytes_max,
            max_rows=limits.rows_max,
            max_row_bytes=limits.row_bytes_max,
        )

    async def _replay(self, earlier: ImportRecord, *, request: ImportRequest, spooled: SpooledFile) -> ImportReceipt:
        asked = (spooled.digest, request.default_account, request.time_zone, request.is_auto_build)
        given = (earlier.content_hash, earlier.default_account, earlier.time_zone, earlier.is_auto_build)
        if asked != given or (request.format and request.format != earlier.format and earlier.format):
            raise RequestIdReused(request_id=str(request.request_id))
        limit = self._limits.results_answered
        results = await self._store.import_results(earlier.import_id, limit=limit + 1)
        return ImportReceipt(
            earlier, results[:limit], commits=(), is_replayed=True, results_truncated=len(results) > limit
        )

    def _new_record(self, request: ImportRequest, spooled: SpooledFile) -> ImportRecord:
        return ImportRecord(
            import_id=uuid4(),
            request_id=request.request_id,
            file_name=request.file_name,
            format=request.format,
            content_hash=spooled.digest,
            size_bytes=spooled.size,
            default_account=request.default_account,
            time_zone=request.time_zone,
            state=ImportState.RUNNING,
            is_auto_build=request.is_auto_build,
            counts=ImportCounts(),
            build_id=None,
            error=None,
            created_at=self._clock(),
            finished_at=None,
            is_validated_only=request.is_validate_only,
        )

    async def _record(
        self, request: ImportRequest, spooled: SpooledFile, *, session: StagedImport, parts: AsyncGenerator[FilePart]
    ) -> ImportReceipt:
        tally = Tally(self._limits.results_kept)
        record = self._new_record(request, spooled)
        if not request.is_validate_only:
            await session.begin(record)
        try:
            async with aclosing(parts):
                await self._merge(self._plan(request, record), session=session, tally=tally, parts=parts)
            results = await self._results(spooled, tally)
            done = replace(record, state=ImportState.DONE, counts=tally.counts, finished_at=self._clock())
            if not request.is_validate_only:
                build = self._build(tally.counts) if request.is_auto_build else None
                done = await session.finish(done, results=results, build=build)
        except Exception as error:
            if not request.is_validate_only:
                await self._note_failure(session, record, error=error)
            raise
        commits = [Commit(account, seq) for account, seq in sorted(tally.commits.items())]
        told = self._limits.results_answered
        return ImportReceipt(
            done,
            results[:told],
            () if request.is_validate_only else commits,
            results_truncated=len(results) > told,
        )

    def _plan(self, request: ImportRequest, record: ImportRecord) -> MergePlan:
        return MergePlan(
            import_id=record.import_id,
            now=record.created_at,
            new_accounts=self._patterns.of_format(request.format),
            is_held=not request.is_auto_build,
            is_validate_only=request.is_validate_only,
            results_max=self._limits.results_kept,
            allowed_accounts=request.allowed_accounts,
            symbols=self._venue_symbols if request.format in VENUE_FORMATS else None,
        )

    async def _merge(
        self, plan: MergePlan, *, session: StagedImport, tally: Tally, parts: AsyncIterator[FilePart]
    ) -> None:
        """Stages what is parsed and merges it in parts of at most so many rows."""
        merger = Merger(session, plan, tally=tally, rows_max=self._limits.part_rows_max)
        try:
            async for part in parts:
                await merger.take(part)
            await merger.finish()
        finally:
            await merger.abandon()

    async def _results(self, spooled: SpooledFile, tally: Tally) -> list[RowResult]:
        """All that is said about rows, in file order, with the rows as they stand in the file."""
        raw = await spooled.lines(sorted({said.row_number for said in tally.unseen})) if tally.unseen else {}
        results = tally.results + [
            RowResult(said.row_number, said.category, said.field, said.reason, raw.get(said.row_number, ""))
            for said in tally.unseen
        ]
        results.sort(key=lambda result: (result.row_number, result.category))
        return results[: tally.results_max]

    def _build(self, counts: ImportCounts) -> ImportBuild:
        is_small = counts.recorded <= self._limits.small_rows_max
        return ImportBuild(uuid4(), is_immediate=is_small, timeout_s=self._limits.build_timeout_s)

    async def _note_failure(self, session: StagedImport, record: ImportRecord, *, error: Exception) -> None:
        """The error goes on to the caller; where the store is away the sweep notes the failure later."""
        told = error.message if isinstance(error, SteelyardError) else "an unexpected error"
        try:
            await session.fail(record.import_id, error=told)
        except SteelyardError:
            return


def _checked(request: ImportRequest) -> ImportRequest:
    """The request, refused where it cannot be right. Raises `InvalidField`."""
    name = request.file_name.strip()
    if len(name) > FILE_NAME_MAX or "\x00" in name:
        raise InvalidField("file_name", f"must be at most {FILE_NAME_MAX} characters")
    account = request.default_account or None
    if account is not None:
        keys.account(account, field="default_account")
    return replace(request, file_name=name, default_account=account, time_zone=request.time_zone or DEFAULT_TIME_ZONE)
