"""A book that tests write to through the real ledger, together with the oracle's view of the same entries."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from uuid import uuid4

from steelyard.accounting.entries import (
    Adjustment,
    AdjustmentKind,
    Fill,
    Side,
)
from steelyard.accounting.keys import Account, FillId, InstrumentName, Leg, PositionKey
from steelyard.accounting.keys import Book as BookName
from steelyard.operations.answering_once import RequestIdentity
from steelyard.operations.apply_fills import FillReceipt, WriteOptions
from steelyard.operations.apply_marks import ApplyMarks
from steelyard.operations.batched_reads import BatchedPositions
from steelyard.operations.keep_accounts import KeepAccounts
from steelyard.operations.keep_instruments import KeepInstruments
from steelyard.operations.ports import AccountRules, Commit
from steelyard.operations.read_events import ReadEvents
from steelyard.operations.read_fills import ReadFills
from steelyard.operations.read_performance import ReadPerformance
from steelyard.operations.read_portfolio import ReadPortfolio
from steelyard.operations.read_positions import ReadPositions
from steelyard.operations.read_trips import ReadTrips
from steelyard.operations.reading import Reading
from steelyard.operations.record_fills import RecordFills
from steelyard.storage.accounts_admin import AccountRecords
from steelyard.storage.database import Database, DatabaseLimits
from steelyard.storage.event_reads import EventReads
from steelyard.storage.fill_reads import FillReads
from steelyard.storage.heads import HeadReads
from steelyard.storage.instruments_admin import InstrumentRecords
from steelyard.storage.known_positions import KnownPositions
from steelyard.storage.ledger import PostgresLedger
from steelyard.storage.marks import MarkTable
from steelyard.storage.performance_reads import PerformanceReads
from steelyard.storage.portfolio_reads import PortfolioReads
from steelyard.storage.position_reads import PositionReads
from steelyard.storage.trip_reads import TripReads
from tests.oracle import OracleFill, OracleInstrument, OraclePosition, replay

START = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)
"""A Monday, 08:30 in Chicago."""
NOW = datetime(2026, 3, 6, 12, 0, tzinfo=UTC)

INSTRUMENTS = {
    "BTCUSDT": OracleInstrument(name="BTCUSDT", settle_currency="USDT"),
    "ETHUSDT": OracleInstrument(name="ETHUSDT", settle_currency="USDT"),
    "XRPUSDT": OracleInstrument(name="XRPUSDT", settle_currency="USDT"),
    "BTCUSD": OracleInstrument(name="BTCUSD", kind="inverse", settle_currency="BTC"),
    "MNQ MAR26": OracleInstrument(name="MNQ MAR26", multiplier="2", settle_currency="USD"),
}


def key(instrument: str = "BTCUSDT", *, account: str = "desk", book: str = "main", leg: str = "NET") -> PositionKey:
    """A position key."""
    return PositionKey(Account(account), BookName(book), InstrumentName(instrument), Leg(leg))


def fill(
    fill_id: str,
    quantity: str,
    price: str,
    *,
    of: PositionKey | None = None,
    fee: str = "0",
    minute: float = 0,
    at: datetime | None = None,
) -> Fill:
    """A fill of a signed quantity, `minute` minutes after the start."""
    delta = Decimal(quantity)
    return Fill(
        key=of or key(),
        fill_id=FillId(fill_id),
        side=Side.BUY if delta > 0 else Side.SELL,
        quantity=abs(delta),
        price=Decimal(price),
        fee=Decimal(fee),
        executed_at=at or START + timedelta(minutes=minute),
    )


def oracle(fills: Iterable[Fill]) -> Mapping[tuple[str, ...], OraclePosition]:
    """What the oracle makes of the same fills."""
    entries = [
        OracleFill(
            account=each.account,
            book=each.key.book,
            instrument=each.key.instrument,
            leg=each.key.leg.value,
            fill_id=each.fill_id,
            side=each.side.value,
            quantity=str(each.quantity),
            price=str(each.price),
            fee=str(each.fee),
            executed_at=each.executed_at,
        )
        for each in fills
    ]
    return {tuple(of): position for of, position in replay(entries, instruments=INSTRUMENTS).items()}


def same(ours: Decimal | None, theirs: Fraction | None) -> bool:
    """Whether an exact number equals the oracle's."""
    return (ours is None and theirs is None) or (ours is not None and theirs is not None and Fraction(ours) == theirs)


class Book:
    """One database with writers and readers."""

    def __init__(self, url: str) -> None:
        self.now = NOW
        self.database = Database(url, DatabaseLimits(pool_size=4))
        self.ledger = PostgresLedger(self.database, self.clock)
        self.reading = Reading(HeadReads(self.database), self.clock)
        self.fills = ReadFills(FillReads(self.database), self.reading)
        self.trips = ReadTrips(TripReads(self.database), self.reading)
        self.events = ReadEvents(EventReads(self.database), self.reading)
        self.portfolio = ReadPortfolio(PortfolioReads(self.database), self.reading, clock=self.clock)
        self.performance = ReadPerformance(PerformanceReads(self.database), self.reading, clock=self.clock)
        self.marks = ApplyMarks(MarkTable(self.database), clock=self.clock)
        self.instruments = KeepInstruments(InstrumentRecords(self.database), jitter=lambda: 0.5)
        self.accounts = KeepAccounts(AccountRecords(self.database), self.reading, jitter=lambda: 0.5)
        self.position_reads = PositionReads(self.database)
        known = KnownPositions(self.database)
        many = BatchedPositions(known, known)
        self.positions = ReadPositions(many, self.reading, clock=self.clock)

    def clock(self) -> datetime:
        """The time that the test says it is."""
        return self.now

    async def begin(self) -> None:
        """Registers the instruments."""
        async with self.database.write() as connection:
            for record in INSTRUMENTS.values():
                await connection.execute(
                    "INSERT INTO instruments (instrument, kind, multiplier, quote_currency, settle_currency) "
                    "VALUES ($1, $2, $3, 'USD', $4)",
                    record.name,
                    record.kind.upper(),
                    Decimal(record.multiplier),
                    record.settle_currency,
                )

    async def close(self) -> None:
        """Gives up the connections."""
        await self.database.close()

    async def record(self, *fills: Fill, rules: AccountRules | None = None) -> Sequence[Commit]:
        """Records fills in one transaction; unknown accounts are made by these rules."""
        writer = RecordFills(self.ledger, self.clock, new_accounts=rules or AccountRules(Account("desk")))
        writer.start()
        result = await writer.record_batch(fills)
        await writer.close()
        assert all(isinstance(item, FillReceipt) for item in result.items), result.items
        return result.commits

    async def adjust(self, adjustment: Adjustment) -> Sequence[Commit]:
        """Records an adjustment."""
        writer = RecordFills(self.ledger, self.clock, new_accounts=AccountRules(Account("desk")))
        return (await writer.adjust(adjustment, request=RequestIdentity(uuid4(), b"adjust"))).commits

    async def store_only(self, *fills: Fill) -> None:
        """Records fills without folding them: they wait for a build of their key."""
        writer = RecordFills(self.ledger, self.clock, new_accounts=AccountRules(Account("desk")))
        await writer.record_batch(fills, options=WriteOptions(is_auto_update=False))

    async def mark(self, **prices: str) -> None:
        """Sets marks as of now."""
        async with self.database.write() as connection:
            for name, price in prices.items():
                await connection.execute(
                    "INSERT INTO marks (instrument, price, marked_at, source) VALUES ($1, $2, $3, 'test') "
                    "ON CONFLICT (instrument) DO UPDATE SET price = excluded.price, marked_at = excluded.marked_at",
                    name,
                    Decimal(price),
                    self.now,
                )


def funding(amount: str, *, of: PositionKey | None = None, minute: float = 0) -> Adjustment:
    """A funding payment."""
    return Adjustment(
        key=of or key(),
        adjustment_id=FillId(f"funding-{minute}"),
        kind=AdjustmentKind.FUNDING,
        effective_at=START + timedelta(minutes=minute),
        amount=Decimal(amount),
    )
