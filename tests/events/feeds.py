"""The handlers of the three queues on one database, and what they left there."""

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import asyncpg

from steelyard.accounting.errors import SteelyardError
from steelyard.accounting.keys import DEFAULT_BOOK, Account, InstrumentName, Leg, PositionKey
from steelyard.accounting.round_trips import CostMethod
from steelyard.accounting.units import decimal_text
from steelyard.events.handlers import Delivery, ExecutionHandler, Handler, OrderEventHandler, ReportHandler
from steelyard.operations.apply_venue_report import ApplyVenueReport
from steelyard.operations.feed_ports import FeedRules
from steelyard.operations.order_events import ApplyOrderEvents
from steelyard.operations.ports import StoredPosition
from steelyard.operations.record_executions import RecordExecutions
from steelyard.storage.database import Database
from steelyard.storage.feed_ledger import PostgresFeedLedger
from tests.events.worked import EXECUTIONS, ORDERS, REPORTS, Row

NOW = datetime(2025, 1, 15, 12, 0, tzinfo=UTC)
RULES = FeedRules()


def key(instrument: str, *, book: str = "main", leg: str = "NET", account: str = "main") -> PositionKey:
    """A key of the feeds' account."""
    return PositionKey(Account(account), type(DEFAULT_BOOK)(book), InstrumentName(instrument), Leg(leg))


class Feeds:
    """What consumes the queues, without a broker before it."""

    def __init__(
        self,
        url: str,
        *,
        rules: FeedRules = RULES,
        is_publishing: bool = False,
        ledger: PostgresFeedLedger | None = None,
    ) -> None:
        self.url = url
        self.database = Database(url)
        self.ledger = ledger or PostgresFeedLedger(self.database, lambda: NOW, is_publishing=is_publishing)
        given: dict[str, Any] = {"rules": rules, "jitter": random.random}
        self.reports = ApplyVenueReport(self.ledger, lambda: NOW, **given)
        self.executions = RecordExecutions(self.ledger, lambda: NOW, **given)
        self.orders = ApplyOrderEvents(self.ledger, lambda: NOW, **given)
        account = rules.account
        self.handlers: Mapping[str, Handler] = {
            REPORTS: ReportHandler(self.reports, source=REPORTS, account=account),
            EXECUTIONS: ExecutionHandler(self.executions, source=EXECUTIONS, account=account),
            ORDERS: OrderEventHandler(self.orders, source=ORDERS, account=account),
        }

    async def send(self, queue: str, *bodies: bytes, received_at: datetime = NOW) -> list[str]:
        """What the messages came to: outcomes, or reasons of refusals."""
        deliveries = [Delivery(body, received_at) for body in bodies]
        verdicts = await self.handlers[queue].handle(deliveries)
        return [item.reason if isinstance(item, SteelyardError) else item.value for item in verdicts]

    async def position(self, of: PositionKey) -> StoredPosition:
        """A position as it is stored."""
        async with self.ledger.transaction(cause="read", is_read_only=True) as book:
            return (await book.peek_positions([of]))[of]

    async def rows(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of the database."""
        connection = await asyncpg.connect(self.url)
        found = await connection.fetch(statement, *values)
        await connection.close()
        return [dict(row) for row in found]

    async def close(self) -> None:
        """Lets the connections go."""
        await self.database.close()


def shown(stored: StoredPosition) -> tuple[str, str | None, str, str, int]:
    """Quantity, average, realized, fees and version, as the worked table shows them."""
    state, sums = stored.state, stored.state.lifetime
    return (
        decimal_text(state.quantity),
        None if state.average is None else decimal_text(state.average),
        decimal_text(sums.realized(CostMethod.AVERAGE)),
        decimal_text(sums.fees),
        stored.version,
    )


def expected(row: Row) -> tuple[str, str | None, str, str, int]:
    """The same of a row of the table."""
    return row.quantity, row.average, row.realized, row.fees, row.version
