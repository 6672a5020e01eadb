"""A book whose positions are snapshot, served over the wire; its clock is the test's."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from steelyard.client import Steelyard
from steelyard.operations.keep_snapshots import KeepSnapshots
from steelyard.operations.read_as_of import ReadAsOf
from steelyard.operations.read_snapshots import ReadSnapshots
from steelyard.operations.take_snapshots import Show, TakeSnapshots
from steelyard.rpc.encode_snapshot import shown_position
from steelyard.rpc.page_tokens import PageTokens
from steelyard.rpc.server import GrpcServer, ServerSettings
from steelyard.rpc.services import Services
from steelyard.rpc.snapshot_servicer import SnapshotServicer
from steelyard.storage.history_reads import HistoryReads
from steelyard.storage.snapshot_months import SnapshotMonths
from steelyard.storage.snapshots import PositionSnapshots
from steelyard.telemetry.logs import json_log
from tests.questions.books import Book
from tests.questions.wire import TOKEN_KEY, services


class Shelf:
    """Snapshots of one book."""

    def __init__(self, book: Book, *, show: Show = shown_position, is_publishing: bool = True) -> None:
        self.book = book
        self.months = SnapshotMonths(book.database)
        self.take = TakeSnapshots(
            PositionSnapshots(book.database, is_publishing=is_publishing),
            show=show,
            clock=book.clock,
            jitter=lambda: 0.5,
        )
        self.keep = KeepSnapshots(self.months, kept=timedelta(days=365))

    async def rows(self, sql: str, *arguments: Any) -> Sequence[Any]:
        """What a statement finds."""
        async with self.book.database.read() as connection:
            return list(await connection.fetch(sql, *arguments))

    async def plant(self, sql: str, *arguments: Any) -> None:
        """Changes the store behind the product's back."""
        async with self.book.database.write() as connection:
            await connection.execute(sql, *arguments)

    async def partitions(self) -> list[str]:
        """The months there are."""
        found = await self.rows(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = 'position_snapshots'::regclass ORDER BY 1"
        )
        return [row["relname"].removeprefix("position_snapshots_") for row in found]

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Steelyard]:
        """A client of all the services on the book."""
        book, tokens = self.book, PageTokens(TOKEN_KEY)
        servicer = SnapshotServicer(
            take=self.take,
            read=ReadSnapshots(PositionSnapshots(book.database), book.reading),
            as_of=ReadAsOf(HistoryReads(book.database), book.reading, clock=book.clock),
            tokens=tokens,
            clock=book.clock,
        )
        others = services(book)
        server = GrpcServer(
            Services(positions=others.positions, admin=others.admin, snapshots=servicer),
            settings=ServerSettings(port=0, drain_wait_s=0),
            ping=book.database.ping,
            log=json_log(level="error"),
        )
        await server.start()
        async with Steelyard.connect(server.address) as steelyard:
            yield steelyard
        await server.stop()
