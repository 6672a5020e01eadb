"""BuildService. Each method: check -> call the operation -> translate -> fill the answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from uuid import UUID

from steelyard.accounting.errors import InvalidField
from steelyard.operations.building import Build
from steelyard.operations.create_builds import CreateBuilds
from steelyard.operations.import_trades import ImportTrades
from steelyard.operations.ports import Clock
from steelyard.operations.read_builds import ROWS_TOLD, ReadBuilds
from steelyard.operations.reading import Seen
from steelyard.operations.roll_back_import import RollBackImport
from steelyard.rpc import decode, decode_build, encode_build
from steelyard.rpc.access import asker, own_accounts
from steelyard.rpc.calls import Context, seconds_left
from steelyard.rpc.header import read_header, write_header
from steelyard.rpc.page_tokens import PageTokens
from steelyard.v1 import build_service_pb2, build_service_pb2_grpc, common_pb2, import_pb2

IMPORTS_WITH_ROWS_MAX = 20


class BuildServicer(build_service_pb2_grpc.BuildServiceServicer):
    """Files of executions in, and the jobs that build positions from what is stored."""

    def __init__(
        self,
        *,
        imports: ImportTrades,
        rollback: RollBackImport,
        create: CreateBuilds,
        read: ReadBuilds,
        tokens: PageTokens,
        clock: Clock,
    ) -> None:
        self._imports = imports
        self._rollback = rollback
        self._create = create
        self._read = read
        self._tokens = tokens
        self._clock = clock

    async def ImportTrades(
        self, request_iterator: AsyncIterator[build_service_pb2.ImportTradesRequest], context: Context
    ) -> build_service_pb2.ImportTradesResponse:
        """Takes one file: first a header, then its bytes."""
        parts = aiter(request_iterator)
        wanted = replace(decode_build.import_request(await _header(parts)), allowed_accounts=own_accounts())
        receipt = await self._imports.run(wanted, _chunks(parts))
        return build_service_pb2.ImportTradesResponse(
            header=write_header(receipt.commits, at=self._clock()),
            trade_import=encode_build.trade_import(receipt.record),
            rows=encode_build.import_rows(receipt.results[:ROWS_TOLD]),
            rows_truncated=receipt.results_truncated,
            replayed=receipt.is_replayed,
        )

    async def ListImports(
        self, request: build_service_pb2.ListImportsRequest, context: Context
    ) -> build_service_pb2.ListImportsResponse:
        """Imports, the newest first."""
        size = decode.page_size(request.page_size)
        page = await self._read.imports(
            decode_build.import_filter(request),
            size=min(size, IMPORTS_WITH_ROWS_MAX) if request.include_rows else size,
            after=self._tokens.cursor(request),
            with_rows=request.include_rows,
        )
        return build_service_pb2.ListImportsResponse(
            header=self._header(),
            imports=[
                build_service_pb2.ImportWithRows(
                    trade_import=encode_build.trade_import(told.record), rows=encode_build.import_rows(told.rows)
                )
                for told in page.rows
            ],
            next_page_token=self._tokens.next(request, page.next_after),
        )

    async def ListImportRows(
        self, request: build_service_pb2.ListImportRowsRequest, context: Context
    ) -> build_service_pb2.ListImportRowsResponse:
        """What an import said of rows, in the order of the file."""
        page = await self._read.import_rows(
            decode.uuid(request.import_id, field="import_id"),
            categories=decode_build.row_categories(request),
            size=decode.page_size(request.page_size),
            after=self._tokens.cursor(request),
        )
        return build_service_pb2.ListImportRowsResponse(
            header=self._header(),
            rows=encode_build.import_rows(page.rows),
            next_page_token=self._tokens.next(request, page.next_after),
        )

    async def RollbackImport(
        self, request: build_service_pb2.RollbackImportRequest, context: Context
    ) -> build_service_pb2.RollbackImportResponse:
        """Withdraws the fills of an import that nobody else attests."""
        mark = decode_build.request_mark(request)
        done = await self._rollback.run(decode.uuid(request.import_id, field="import_id"), mark)
        return build_service_pb2.RollbackImportResponse(
            header=write_header(done.commits, at=self._clock()),
            trade_import=encode_build.trade_import(done.record),
            build_id=None if done.build_id is None else str(done.build_id),
            replayed=done.is_replayed,
        )

    async def CreateBuild(
        self, request: build_service_pb2.CreateBuildRequest, context: Context
    ) -> build_service_pb2.CreateBuildResponse:
        """Starts a build and answers at once."""
        mark = decode_build.request_mark(request)
        build, is_replayed = await self._create.create(decode_build.wanted_build(request), mark, asker=asker())
        return build_service_pb2.CreateBuildResponse(
            header=write_header((), at=self._clock()), build=encode_build.build(build), replayed=is_replayed
        )

    async def GetBuild(
        self, request: build_service_pb2.GetBuildRequest, context: Context
    ) -> build_service_pb2.GetBuildResponse:
        """One build as it is now."""
        build = await self._read.get(_build_id(request.build_id))
        return build_service_pb2.GetBuildResponse(header=self._header(build), build=encode_build.build(build))

    async def ListBuilds(
        self, request: build_service_pb2.ListBuildsRequest, context: Context
    ) -> build_service_pb2.ListBuildsResponse:
        """Builds, the newest first, without key results."""
        page = await self._read.page(
            decode_build.build_filter(request),
            size=decode.page_size(request.page_size),
            after=self._tokens.cursor(request),
        )
        return build_service_pb2.ListBuildsResponse(
            header=self._header(),
            builds=[encode_build.build(build) for build in page.rows],
            next_page_token=self._tokens.next(request, page.next_after),
        )

    async def WaitBuild(
        self, request: build_service_pb2.WaitBuildRequest, context: Context
    ) -> build_service_pb2.WaitBuildResponse:
        """Waits until a build has ended, or the timeout is over."""
        timeout_s, left_s = decode_build.wait_timeout_s(request), seconds_left(context)
        build = await self._read.wait(
            _build_id(request.build_id), timeout_s=timeout_s if left_s is None else min(timeout_s, left_s)
        )
        return build_service_pb2.WaitBuildResponse(header=self._header(build), build=encode_build.build(build))

    async def CancelBuild(
        self, request: build_service_pb2.CancelBuildRequest, context: Context
    ) -> build_service_pb2.CancelBuildResponse:
        """Asks a build to stop."""
        mark = decode_build.request_mark(request)
        build, is_replayed = await self._create.cancel(_build_id(request.build_id), mark)
        return build_service_pb2.CancelBuildResponse(
            header=self._header(), build=encode_build.build(build), replayed=is_replayed
        )

    async def RetryBuild(
        self, request: build_service_pb2.RetryBuildRequest, context: Context
    ) -> build_service_pb2.RetryBuildResponse:
        """Starts a new build of only what failed or was not reached."""
        mark = decode_build.request_mark(request)
        build, is_replayed = await self._create.retry(_build_id(request.build_id), mark, asker=asker())
        return build_service_pb2.RetryBuildResponse(
            header=write_header((), at=self._clock()), build=encode_build.build(build), replayed=is_replayed
        )

    async def WatchBuild(
        self, request: build_service_pb2.WatchBuildRequest, context: Context
    ) -> AsyncGenerator[build_service_pb2.WatchBuildResponse]:
        """Tells a build at once, then whenever it gets on, and its terminal state last."""
        async with aclosing(self._read.watch(_build_id(request.build_id))) as told:
            async for build in told:
                yield build_service_pb2.WatchBuildResponse(header=self._header(build), build=encode_build.build(build))

    def _header(self, build: Build | None = None) -> common_pb2.ResponseHeader:
        return read_header(Seen(() if build is None else build.commits, self._clock()))


def _build_id(text: str) -> UUID:
    return decode.uuid(text, field="build_id")


async def _header(parts: AsyncIterator[build_service_pb2.ImportTradesRequest]) -> import_pb2.ImportHeader:
    async for part in parts:
        if part.WhichOneof("part") == "header":
            return part.header
        break
    raise InvalidField("header", "must come first")


async def _chunks(parts: AsyncIterator[build_service_pb2.ImportTradesRequest]) -> AsyncIterator[bytes]:
    async for part in parts:
        if part.WhichOneof("part") != "chunk":
            raise InvalidField("chunk", "only chunks may follow the header")
        yield part.chunk
