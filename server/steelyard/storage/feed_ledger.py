"""Transactions for the messages of feeds: the book, and beside it the inbox, reports, orders and discrepancies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal

from steelyard.accounting.instruments import Instrument
from steelyard.accounting.keys import Account, InstrumentName, OrderKey, PositionKey
from steelyard.accounting.marks import Mark
from steelyard.accounting.venue_report import Difference, DiscrepancyKind, VenueReport
from steelyard.operations.feed_messages import OrderFeed, Receipt
from steelyard.operations.feed_ports import InboxOutcome, KnownState, VenueState
from steelyard.operations.outbox_ports import DISCREPANCY_FOUND
from steelyard.operations.ports import Clock
from steelyard.storage import discrepancies, inbox, instruments, reconciliation_runs, venue_reports
from steelyard.storage.database import Database
from steelyard.storage.known_lots import KnownLots
from steelyard.storage.ledger import PostgresTransaction
from steelyard.storage.told import Told


class PostgresFeedTransaction(PostgresTransaction):
    """One transaction of a feed; fulfils the port `FeedBook`."""

    validates_sizes = False
    """Whether a position whose size a report contradicts is looked at by a run of its own."""

    async def register_instruments(self, records: Sequence[Instrument]) -> None:
        await instruments.register_instruments(self.connection, records)

    async def receive(self, receipts: Sequence[Receipt], *, account: Account) -> Sequence[InboxOutcome]:
        return await inbox.receive(self.connection, receipts, account=account)

    async def follow_orders(
        self, account: Account, order_ids: Sequence[str], *, feed: OrderFeed
    ) -> Mapping[str, OrderFeed]:
        return await inbox.follow_orders(self.connection, account, order_ids=order_ids, feed=feed)

    async def order_states(self, account: Account, order_id: str) -> Sequence[KnownState]:
        return await inbox.order_states(self.connection, account, order_id=order_id)

    async def keep_order_state(self, account: Account, order_id: str, *, state: KnownState) -> None:
        await inbox.keep_order_state(self.connection, account, order_id=order_id, state=state)

    async def venue_state(self, key: PositionKey) -> VenueState | None:
        return await venue_reports.venue_state(self.connection, key)

    async def keep_report(self, report: VenueReport, *, tie: int, received_at: datetime) -> None:
        await venue_reports.keep_report(self.connection, report, tie=tie, received_at=received_at)

    async def park(self, key: PositionKey, place: OrderKey, *, instead_of: OrderKey | None) -> None:
        await venue_reports.park(self.connection, key, place=place, instead_of=instead_of)

    async def held_elsewhere(self, key: PositionKey) -> Decimal:
        return await venue_reports.held_elsewhere(self.connection, key)

    async def note_difference(self, report: VenueReport, difference: Difference, *, now: datetime) -> bool:
        noted = await discrepancies.note_difference(self.connection, report, difference=difference, now=now)
        if noted is None or not noted.is_new:
            return False
        if self._told is not None:
            self._told.found(difference.kind.value)
        await self.publish(DISCREPANCY_FOUND, report.key, body=noted.body)
        if self.validates_sizes and difference.kind is DiscrepancyKind.SIZE:
            await reconciliation_runs.ask_for(self.connection, report.key, now=now)
        return True

    async def keep_mark(self, instrument: InstrumentName, mark: Mark) -> None:
        await venue_reports.keep_mark(self.connection, instrument, mark=mark)


class PostgresFeedLedger:
    """Opens transactions for the messages of feeds; fulfils the port `FeedLedger`."""

    def __init__(
        self, database: Database, clock: Clock, *, is_publishing: bool = False, validates_sizes: bool = False
    ) -> None:
        """`validates_sizes`: where a report first contradicts a size, a run over that position is asked for."""
        self._database = database
        self._clock = clock
        self._is_publishing = is_publishing
        self._validates_sizes = validates_sizes
        # Without it every message would read all open lots of its position again.
        self._known_lots = KnownLots()

    @asynccontextmanager
    async def transaction(
        self, *, cause: str, is_read_only: bool = False, trace_id: str | None = None
    ) -> AsyncIterator[PostgresFeedTransaction]:
        """A READ COMMITTED transaction that advances the heads last, or a REPEATABLE READ snapshot."""
        opened = self._database.read() if is_read_only else self._database.write()
        with Told(self._database.telemetry, cause=cause, clock=self._clock) as told:
            async with opened as connection:
                transaction = PostgresFeedTransaction(
                    connection,
                    self._clock,
                    cause=cause,
                    known_lots=self._known_lots,
                    is_publishing=self._is_publishing,
                    trace_id=trace_id,
                    told=told,
                )
                transaction.validates_sizes = self._validates_sizes
                yield transaction
                await transaction.finish()
        transaction.committed()
