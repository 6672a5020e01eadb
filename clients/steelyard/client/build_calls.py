"""BuildService: files of executions in, and the builds that make positions of what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from google.protobuf.duration_pb2 import Duration

from steelyard.client.caller import Caller, new_request_id
from steelyard.client.errors import Unavailable, translated
from steelyard.client.translation import record_of, set_word
from steelyard.client.work_records import (
    Build,
    BuildMode,
    BuildPriority,
    BuildState,
    Import,
    ImportFormat,
    ImportRow,
    ImportRowCategory,
)
from steelyard.v1 import build_pb2, build_service_pb2, build_service_pb2_grpc, import_pb2

CHUNK_BYTES = 512 * 1024
IMPORT_TIMEOUT_S = 600.0
WAIT_AT_ONCE_S = 20.0
WATCH_ATTEMPTS = 5
WATCH_PAUSE_S = 0.5

Progress = Callable[[int, int | None], None]
"""Told the bytes sent so far, and of how many (None: not known)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOutcome:
    """What became of a file; `rows` are the first 1,000 that something is wrong with."""

    trade_import: Import
    rows: tuple[ImportRow, ...]
    rows_truncated: bool
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportWithRows:
    """An import as it is listed."""

    trade_import: Import
    rows: tuple[ImportRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """An import that was taken back, and the build of what that touched."""

    trade_import: Import
    build_id: str | None
    replayed: bool


class BuildHandle:
    """A build that was asked for: follow it, wait for it, stop it, repeat what failed."""

    def __init__(self, calls: BuildCalls, build_id: str, *, latest: Build | None = None) -> None:
        self._calls = calls
        self.build_id = build_id
        self.latest = latest
        """The newest state this handle has seen."""

    async def watch(self) -> AsyncGenerator[Build, None]:
        """The build as it gets on; the last one is its terminal state."""
        async with aclosing(self._calls.watch_build(self.build_id)) as states:
            async for build in states:
                self.latest = build
                yield build

    async def wait(self, *, timeout_s: float | None = None) -> Build:
        """Waits for the end, as long as it takes. Raises `TimeoutError` when the timeout comes first."""
        async with asyncio.timeout(timeout_s):
            while True:
                self.latest = await self._calls.wait_build(self.build_id, timeout_s=WAIT_AT_ONCE_S)
                if self.latest.state.is_terminal:
                    return self.latest

    async def refresh(self) -> Build:
        """The build as it is now."""
        self.latest = await self._calls.get_build(self.build_id)
        return self.latest

    async def cancel(self) -> Build:
        """Asks the build to stop. Raises `BuildAlreadyDone`."""
        self.latest = await self._calls.cancel_build(self.build_id)
        return self.latest

    async def retry(self) -> BuildHandle:
        """A new build of only what failed."""
        return await self._calls.retry_build(self.build_id)


class BuildCalls(Caller):
    """The calls of BuildService."""

    @cached_property
    def _builds(self) -> build_service_pb2_grpc.BuildServiceStub:
        return build_service_pb2_grpc.BuildServiceStub(self.channel)

    def build(self, build_id: str) -> BuildHandle:
        """A handle on a build known by its id."""
        return BuildHandle(self, build_id)

    async def import_trades(
        self,
        source: str | Path | bytes | AsyncIterable[bytes],
        *,
        file_name: str = "",
        format: ImportFormat | None = None,  # noqa: A002 - the contract's word
        default_account: str = "",
        time_zone: str = "",
        auto_build_positions: bool = True,
        validate_only: bool = False,
        request_id: str | None = None,
        progress: Progress | None = None,
        timeout_s: float = IMPORT_TIMEOUT_S,
    ) -> ImportOutcome:
        """Sends a file: its path, its bytes, or chunks as they come. Bad rows are part of the outcome."""
        header = import_pb2.ImportHeader(
            request_id=new_request_id(request_id),
            file_name=file_name or (Path(source).name if isinstance(source, str | Path) else ""),
            default_account=default_account,
            time_zone=time_zone,
            auto_build_positions=auto_build_positions,
            validate_only=validate_only,
        )
        set_word(header, "format", word=format)
        parts = _parts(header, source, progress=progress)
        answer = await self._send(self._builds.ImportTrades, parts, timeout_s=timeout_s)
        self._remember(answer)
        return record_of(ImportOutcome, answer)

    def list_imports(
        self, *, import_id: str = "", account: str = "", include_rows: bool = False, page_size: int = 0
    ) -> AsyncIterator[ImportWithRows]:
        """Imports, the newest first."""
        request = build_service_pb2.ListImportsRequest(
            import_id=import_id, account=account, include_rows=include_rows, page_size=page_size
        )
        return self._pages(
            self._builds.ListImports,
            request,
            rows=lambda answer: (record_of(ImportWithRows, one) for one in answer.imports),
        )

    def list_import_rows(
        self, import_id: str, *, categories: Iterable[ImportRowCategory] = (), page_size: int = 0
    ) -> AsyncIterator[ImportRow]:
        """What an import said of rows, in the order of the file. Raises `NotFound`."""
        request = build_service_pb2.ListImportRowsRequest(
            import_id=import_id,
            categories=[
                import_pb2.ImportRowCategory.Value(f"IMPORT_ROW_CATEGORY_{category}") for category in categories
            ],
            page_size=page_size,
        )
        return self._pages(
            self._builds.ListImportRows, request, rows=lambda answer: (record_of(ImportRow, row) for row in answer.rows)
        )

    async def rollback_import(self, import_id: str, *, request_id: str | None = None) -> Rollback:
        """Withdraws the fills of an import that nobody else attests."""
        request = build_service_pb2.RollbackImportRequest(request_id=new_request_id(request_id), import_id=import_id)
        return record_of(Rollback, await self._write(self._builds.RollbackImport, request))

    async def create_build(
        self,
        *,
        accounts: Iterable[str] = (),
        pairs: Iterable[tuple[str, str]] = (),
        fills: tuple[str, Iterable[str]] | None = None,
        mode: BuildMode = BuildMode.INCREMENTAL,
        priority: BuildPriority | None = None,
        validate_only: bool = False,
        request_id: str | None = None,
    ) -> BuildHandle:
        """Starts a build of everything, or of accounts, (account, instrument) pairs, or an account's fill ids."""
        request = build_service_pb2.CreateBuildRequest(
            request_id=new_request_id(request_id),
            scope=_scope(accounts=tuple(accounts), pairs=tuple(pairs), fills=fills),
            validate_only=validate_only,
        )
        set_word(request, "mode", word=mode)
        set_word(request, "priority", word=priority)
        return self._handle((await self._write(self._builds.CreateBuild, request)).build)

    async def get_build(self, build_id: str) -> Build:
        """One build as it is now. Raises `NotFound`."""
        request = build_service_pb2.GetBuildRequest(build_id=build_id)
        answer = await self._ask(self._builds.GetBuild, request)
        return record_of(Build, answer.build)

    def list_builds(
        self, *, states: Iterable[BuildState] = (), account: str = "", import_id: str = "", page_size: int = 0
    ) -> AsyncIterator[Build]:
        """Builds, the newest first, without key results."""
        request = build_service_pb2.ListBuildsRequest(
            states=[build_pb2.BuildState.Value(f"BUILD_STATE_{state}") for state in states],
            account=account,
            import_id=import_id,
            page_size=page_size,
        )
        return self._pages(
            self._builds.ListBuilds, request, rows=lambda answer: (record_of(Build, one) for one in answer.builds)
        )

    async def wait_build(self, build_id: str, *, timeout_s: float = WAIT_AT_ONCE_S) -> Build:
        """The build once it has ended, or as it is when the timeout (at most 30 s) is over."""
        timeout = Duration()
        timeout.FromMilliseconds(int(timeout_s * 1_000))
        request = build_service_pb2.WaitBuildRequest(build_id=build_id, timeout=timeout)
        answer = await self._ask(self._builds.WaitBuild, request, timeout_s=timeout_s + self._timeout_s)
        self._remember(answer)
        return record_of(Build, answer.build)

    async def cancel_build(self, build_id: str, *, request_id: str | None = None) -> Build:
        """Asks a build to stop; finished keys stay built. Raises `BuildAlreadyDone`."""
        request = build_service_pb2.CancelBuildRequest(request_id=new_request_id(request_id), build_id=build_id)
        answer = await self._write(self._builds.CancelBuild, request)
        return record_of(Build, answer.build)

    async def retry_build(self, build_id: str, *, request_id: str | None = None) -> BuildHandle:
        """Starts a new build of only what failed in one that has ended."""
        request = build_service_pb2.RetryBuildRequest(request_id=new_request_id(request_id), build_id=build_id)
        return self._handle((await self._write(self._builds.RetryBuild, request)).build)

    async def watch_build(self, build_id: str) -> AsyncGenerator[Build, None]:
        """The build as it gets on, the terminal state last; a cut stream is taken up again."""
        request = build_service_pb2.WatchBuildRequest(build_id=build_id)
        attempts = 0
        while True:
            try:
                with translated():
                    async for answer in self._builds.WatchBuild(request, metadata=self._metadata):
                        attempts = 0
                        self._remember(answer)
                        build = record_of(Build, answer.build)
                        yield build
                        if build.state.is_terminal:
                            return
            except Unavailable:
                if attempts >= WATCH_ATTEMPTS:
                    raise
            # Also after a stream that ended early but well: a server that drains says so by ending it.
            attempts += 1
            await asyncio.sleep(WATCH_PAUSE_S * attempts)

    def _handle(self, build: build_pb2.Build) -> BuildHandle:
        return BuildHandle(self, build.build_id, latest=record_of(Build, build))


def _scope(
    *, accounts: tuple[str, ...], pairs: tuple[tuple[str, str], ...], fills: tuple[str, Iterable[str]] | None
) -> build_pb2.BuildScope:
    given = sum((bool(accounts), bool(pairs), fills is not None))
    if given > 1:
        raise ValueError("a build is about accounts, pairs or fills, one of them")
    if accounts:
        return build_pb2.BuildScope(accounts=build_pb2.AccountScope(accounts=accounts))
    if pairs:
        named = [build_pb2.AccountInstrument(account=account, instrument=name) for account, name in pairs]
        return build_pb2.BuildScope(pairs=build_pb2.PairScope(pairs=named))
    if fills is not None:
        return build_pb2.BuildScope(fills=build_pb2.FillScope(account=fills[0], fill_ids=fills[1]))
    return build_pb2.BuildScope(everything=build_pb2.EverythingScope())


async def _parts(
    header: import_pb2.ImportHeader, source: str | Path | bytes | AsyncIterable[bytes], *, progress: Progress | None
) -> AsyncIterator[build_service_pb2.ImportTradesRequest]:
    yield build_service_pb2.ImportTradesRequest(header=header)
    total = await asyncio.to_thread(_size, source)
    sent = 0
    async for chunk in _chunks(source):
        yield build_service_pb2.ImportTradesRequest(chunk=chunk)
        sent += len(chunk)
        if progress is not None:
            progress(sent, total)


async def _chunks(source: str | Path | bytes | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(source, bytes):
        for start in range(0, len(source), CHUNK_BYTES):
            yield source[start : start + CHUNK_BYTES]
    elif isinstance(source, str | Path):
        # The file is read in threads: a slow disk must not stop the loop.
        file: BinaryIO = await asyncio.to_thread(Path(source).open, "rb")
        try:
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield chunk
        finally:
            file.close()
    else:
        async for piece in source:
            for start in range(0, len(piece), CHUNK_BYTES):
                yield piece[start : start + CHUNK_BYTES]


def _size(source: str | Path | bytes | AsyncIterable[bytes]) -> int | None:
    if isinstance(source, bytes):
        return len(source)
    return Path(source).stat().st_size if isinstance(source, str | Path) else None
