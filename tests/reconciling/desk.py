"""A book with everything that a clean one may hold, what looks at it, and ways to damage it."""

import random
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from steelyard.accounting.entries import Adjustment, AdjustmentKind, Side
from steelyard.accounting.keys import Account, FillId, PositionKey
from steelyard.accounting.lots import LotMethod
from steelyard.accounting.round_trips import CostMethod
from steelyard.accounting.venue_report import VenueReport
from steelyard.operations.account_look import Looking, ReconcileTerms
from steelyard.operations.apply_venue_report import ApplyVenueReport
from steelyard.operations.correct_fills import CorrectFills
from steelyard.operations.feed_messages import OrderState, Receipt
from steelyard.operations.feed_ports import FeedRules
from steelyard.operations.fix_positions import FixPositions
from steelyard.operations.keep_discrepancies import KeepDiscrepancies
from steelyard.operations.late_entries import RefoldLimits
from steelyard.operations.order_events import ApplyOrderEvents
from steelyard.operations.ports import AccountRules
from steelyard.operations.reconcile import Reconcile, RunAnswer
from steelyard.operations.reconciling import Discrepancy, DiscrepancyFilter, Scope
from steelyard.operations.venue_positions import NoVenue, VenueSource
from steelyard.storage.discrepancy_records import DiscrepancyRecords
from steelyard.storage.feed_ledger import PostgresFeedLedger
from steelyard.storage.reconciliation import PostgresReconciliation
from steelyard.storage.reconciliation_runs import ReconciliationRuns
from tests.questions.books import START, fill, funding, key
from tests.questions.books import Book as PlainBook

TABLES = (
    *("accounts", "account_heads", "account_commits", "adjustments", "build_keys", "builds", "checkpoints"),
    *("discrepancies", "fill_revisions", "fills", "lots", "order_states", "outbox", "position_events", "positions"),
    *("reconciliation_runs", "requests", "round_trips", "stale_keys", "venue_reports"),
)
FLIPS = ("1", "-3", "5", "-3", "2", "-1")
HIFO_LOTS = ("5", "4", "3", "-6", "2", "-1")
HIFO = AccountRules(Account("lots"), cost_method=CostMethod.LOTS, lot_method=LotMethod.HIFO)
EVERYTHING = Scope()
VENUES = AccountRules(Account("venues"), size_authority="VENUE")


class ReconcileDesk(PlainBook):
    """A book, and what looks at it."""

    def __init__(self, url: str, *, venue: VenueSource | None = None, is_publishing: bool = True) -> None:
        super().__init__(url)
        self.url = url
        self.store = PostgresReconciliation(self.database, self.clock, is_publishing=is_publishing)
        self.runs = ReconciliationRuns(self.database)
        self.feeds = PostgresFeedLedger(self.database, self.clock, is_publishing=is_publishing, validates_sizes=True)
        self.correcting = CorrectFills(self.ledger, self.clock, jitter=lambda: 0.5, limits=RefoldLimits())
        self.records = KeepDiscrepancies(
            DiscrepancyRecords(self.database), self.reading, clock=self.clock, jitter=lambda: 0.5
        )
        self.terms = ReconcileTerms(confirm_after_s=0)
        self.listen_to(venue or NoVenue())

    def listen_to(self, venue: VenueSource) -> None:
        """Compares with this venue from now on."""
        self.looking = Looking(
            store=self.store,
            venue=venue,
            orders=self.store,
            fix=FixPositions(self.store, self.clock, jitter=lambda: 0.5),
            clock=self.clock,
            terms=self.terms,
        )
        self.reconcile = Reconcile(self.looking, self.runs)

    async def look(self, scope: Scope = EVERYTHING, *, is_fixing: bool = False) -> RunAnswer:
        """A run, a second after whatever was before it."""
        self.now += timedelta(seconds=1)
        return await self.reconcile.run(scope, is_fixing=is_fixing, is_background=False, request=(uuid4(), b""))

    async def found(self, **wanted: Any) -> Sequence[Discrepancy]:
        """Records, the newest first."""
        return (await self.records.page(DiscrepancyFilter(**wanted), size=500)).value.rows

    async def damage(self, statement: str, *values: Any) -> None:
        """Changes the store behind the product's back."""
        async with self.database.write() as connection:
            done = await connection.execute(statement, *values)
        assert not done.endswith(" 0"), done

    async def rows(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """What the store holds."""
        async with self.database.read() as connection:
            return [dict(row) for row in await connection.fetch(statement, *values)]

    async def tables(self, *left_out: str) -> dict[str, list[str]]:
        """Every row of every table, as text."""
        async with self.database.read() as connection:
            return {
                name: [row["t"] for row in await connection.fetch(f"SELECT t::text AS t FROM {name} t ORDER BY 1")]
                for name in TABLES
                if name not in left_out
            }

    async def version(self, of: PositionKey) -> int:
        """The version of a position; 0 without a row."""
        async with self.store.snapshot() as book:
            return (await book.peek_positions([of]))[of].version

    async def report(self, of: PositionKey, quantity: str, *, average: str | None = None, minute: float) -> None:
        """A venue's report."""
        applying = ApplyVenueReport(self.feeds, self.clock, rules=FeedRules(), jitter=random.random)
        signed = Decimal(quantity)
        report = VenueReport(
            key=of,
            size=abs(signed),
            quantity=signed,
            average_price=None if average is None else Decimal(average),
            reported_at=START + timedelta(minutes=minute),
        )
        receipt = Receipt(source="queue", event_id=str(uuid4()), content_hash=b"", received_at=self.now)
        await applying.apply(report, receipt)

    async def order(self, of: PositionKey, *, order_id: str, filled: str, average: str, minute: float) -> None:
        """A cumulative state of an order."""
        applying = ApplyOrderEvents(self.feeds, self.clock, rules=FeedRules(), jitter=random.random)
        state = OrderState(
            key=of,
            side=Side.BUY,
            order_id=order_id,
            filled_quantity=Decimal(filled),
            average_price=Decimal(average),
            fees=Decimal("0.1"),
            at=START + timedelta(minutes=minute),
        )
        receipt = Receipt(source="orders", event_id=str(uuid4()), content_hash=b"", received_at=self.now)
        await applying.apply(state, receipt)

    async def fill_with_everything(self) -> None:
        """Flips, lots, hedge legs, books, an inverse, late fills, a bust, adjustments, reports, orders, flat keys."""
        await self.record(
            *(fill(f"flip{n}", q, str(100 + n), fee="0.1", minute=n) for n, q in enumerate(FLIPS)),
            *(fill(f"mnq{n}", "1" if n % 2 else "-1", "25000", of=key("MNQ MAR26"), minute=n) for n in range(7)),
            *(fill(f"inv{n}", "100", str(50_000 + n), of=key("BTCUSD"), minute=n) for n in range(3)),
            *(fill(f"swing{n}", "2", "3000", of=key("ETHUSDT", book="swing"), minute=n) for n in range(2)),
            *(fill(f"long{n}", q, "90", of=LONG, minute=n) for n, q in enumerate(("3", "-1", "2"))),
            *(fill(f"short{n}", q, "95", of=SHORT, minute=n) for n, q in enumerate(("-3", "1", "-2"))),
        )
        await self.record(*(fill(f"flat{n}", q, "1", of=key("XRPUSDT")) for n, q in enumerate(("4", "-4"))))
        await self.record(
            *(fill(f"lot{n}", q, str(10 + n), of=LOTS, minute=n) for n, q in enumerate(HIFO_LOTS)),
            rules=HIFO,
        )
        await self.record(fill("late", "1", "99", minute=2.5), fill("later", "-2", "101", minute=0.5))
        await self.adjust(funding("-1.25", minute=3))
        await self.adjust(correction("7", "98", minute=8))
        await self.record(fill("after", "-1", "97", minute=9))
        await self._with_venues()
        await self.order(ORDERED, order_id="o1", filled="0.3", average="100", minute=1)
        await self.order(ORDERED, order_id="o1", filled="1.0", average="101", minute=2)

    async def _with_venues(self) -> None:
        await self.record(fill("v1", "1", "50000", of=REPORTED, minute=1), rules=VENUES)
        await self.report(REPORTED, "1.5", average="50100", minute=5)
        await self.record(fill("v2", "-0.5", "50200", of=REPORTED, minute=7))
        await self.record(fill("v3", "0.25", "50000", of=REPORTED, minute=4))
        await self.report(key("XRPUSDT"), "0", minute=30)
        await self.report(key("ETHUSDT"), "4", minute=30)


LONG, SHORT = key("XRPUSDT", account="hedge", leg="LONG"), key("XRPUSDT", account="hedge", leg="SHORT")
LOTS = key("ETHUSDT", account="lots")
REPORTED = key("BTCUSDT", account="venues")
ORDERED = key("BTCUSDT", account="orders")


def correction(quantity: str, average: str, *, of: PositionKey | None = None, minute: float) -> Adjustment:
    """An adjustment that sets quantity and average."""
    return Adjustment(
        key=of or key(),
        adjustment_id=FillId(f"correction-{minute}"),
        kind=AdjustmentKind.CORRECTION,
        effective_at=START + timedelta(minutes=minute),
        quantity=Decimal(quantity),
        average_price=Decimal(average),
    )


def kinds(records: Sequence[Discrepancy]) -> set[tuple[str, str, str]]:
    """(instrument, kind, compared with) of records."""
    return {(each.finding.key.instrument, each.finding.kind.value, each.finding.compared.value) for each in records}
