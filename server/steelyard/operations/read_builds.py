"""Questions about builds and imports: one, many, and how far one is until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from steelyard.accounting.errors import NotFound
from steelyard.operations.building import RESULTS_TOLD, Build, BuildFilter, BuildStore
from steelyard.operations.importing import ImportFilter, ImportRecord, ImportStore, RowCategory, RowResult
from steelyard.operations.reading import Cursor, Page

ROWS_TOLD = 1_000
"""Row results told of an import in a list."""


class BuildFeed(Protocol):
    """Tells how far a build is."""

    def watch(self, build_id: UUID) -> AsyncGenerator[Build]:
        """The build at once, then whenever it got on, the latest state only; its terminal state last, with results.

        Raises `NotFound`.
        """
        ...


@dataclass(frozen=True, slots=True)
class ToldImport:
    """An import, and what it said of rows where that was asked for."""

    record: ImportRecord
    rows: Sequence[RowResult] = ()


class ReadBuilds:
    """Answers questions about builds and imports."""

    def __init__(self, *, builds: BuildStore, imports: ImportStore, feed: BuildFeed) -> None:
        self._builds = builds
        self._imports = imports
        self._feed = feed

    async def get(self, build_id: UUID) -> Build:
        """A build with the first of its key results, failed ones first. Raises `NotFound`."""
        build = await self._builds.find(build_id, results_max=RESULTS_TOLD)
        if build is None:
            raise NotFound("build", str(build_id))
        return build

    async def page(self, wanted: BuildFilter, *, size: int, after: Cursor | None) -> Page[Build]:
        """Builds, the newest first, without key results."""
        return await self._builds.page(wanted, size=size, after=after)

    async def wait(self, build_id: UUID, *, timeout_s: float) -> Build:
        """The build once it has ended, or as it is when the time is over. Raises `NotFound`."""
        try:
            async with asyncio.timeout(timeout_s):
                async with aclosing(self._feed.watch(build_id)) as told:
                    async for build in told:
                        if build.state.is_terminal:
                            return build
        except TimeoutError:
            pass
        return await self.get(build_id)

    def watch(self, build_id: UUID) -> AsyncGenerator[Build]:
        """The build at once, then whenever it got on; its terminal state last. Raises `NotFound`."""
        return self._feed.watch(build_id)

    async def import_rows(
        self, import_id: UUID, *, categories: Sequence[RowCategory], size: int, after: Cursor | None
    ) -> Page[RowResult]:
        """What an import said of rows, in file order. Raises `NotFound`."""
        if await self._imports.import_record(import_id) is None:
            raise NotFound("import", str(import_id))
        return await self._imports.results_page(import_id, categories=categories, size=size, after=after)

    async def imports(
        self, wanted: ImportFilter, *, size: int, after: Cursor | None, with_rows: bool
    ) -> Page[ToldImport]:
        """Imports, the newest first."""
        page = await self._imports.page(wanted, size=size, after=after)
        told = [
            ToldImport(
                record, await self._imports.import_results(record.import_id, limit=ROWS_TOLD) if with_rows else ()
            )
            for record in page.rows
        ]
        return Page(told, page.next_after)
