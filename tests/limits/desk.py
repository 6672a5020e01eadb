"""The operations on limits, on one database with a book to write to."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from steelyard.accounting.entries import Side
from steelyard.accounting.keys import Account, PositionKey
from steelyard.accounting.limits import LimitSet, LimitsState
from steelyard.accounting.what_if import Order
from steelyard.operations.answering_once import RequestIdentity
from steelyard.operations.check_order import CheckOrder, OrderCheck
from steelyard.operations.correct_fills import CorrectFills
from steelyard.operations.day_results import DayResults
from steelyard.operations.keep_limits import BreachFilter, KeepLimits, LimitsReceipt
from steelyard.operations.late_entries import RefoldLimits
from steelyard.operations.risk import Breach, ReadRisk, RiskTerms
from steelyard.operations.watch_limits import WatchLimits
from steelyard.storage.limits import LimitRecords
from tests.questions.books import Book, key

DESK = Account("desk")


class LimitDesk(Book):
    """A book whose accounts have limits."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.store = LimitRecords(self.database, self.clock, is_publishing=True)
        self.terms = RiskTerms(DayResults(), self.clock)
        self.risk = ReadRisk(self.store, self.reading, terms=self.terms)
        self.limits = KeepLimits(self.store, self.reading, risk=self.risk, jitter=lambda: 0.5)
        self.orders = CheckOrder(self.store, self.reading, terms=self.terms)
        self.watch = WatchLimits(self.store, terms=self.terms, interval_s=0.01, reprice_interval_s=0.05)
        self.correcting = CorrectFills(self.ledger, self.clock, jitter=lambda: 0.5, limits=RefoldLimits())

    async def limit(
        self,
        currency: str = "USDT",
        *,
        account: Account = DESK,
        request: tuple[UUID, bytes] | None = None,
        expected_version: int | None = None,
        **limits: Any,
    ) -> LimitsReceipt:
        """Sets limits; amounts are given as text."""
        values: dict[str, Any] = {
            name: Decimal(value) if isinstance(value, str) else value for name, value in limits.items()
        }
        identity = RequestIdentity(*(request or (uuid4(), b"body")))
        wanted = LimitSet(currency=currency, **values)
        return await self.limits.set(account, wanted, request=identity, expected_version=expected_version)

    async def states(self, account: Account = DESK) -> dict[str, LimitsState]:
        """Where the account stands, by currency."""
        return dict((await self.limits.get(account)).value.states)

    async def day(self, currency: str = "USDT", account: Account = DESK) -> tuple[Decimal, bool]:
        """The net realized of the account's day, and whether it is complete."""
        day = (await self.limits.get(account)).value.figures_in(currency).day
        return day.net_realized, day.is_complete

    async def fresh_day(self, currency: str = "USDT", account: Account = DESK) -> tuple[Decimal, bool]:
        """The same, worked out by a process that remembers nothing."""
        risk = ReadRisk(self.store, self.reading, terms=RiskTerms(DayResults(), self.clock))
        day = (await risk.of(account)).value.figures_in(currency).day
        return day.net_realized, day.is_complete

    async def check(self, order: Order, *, working: Sequence[Order] = ()) -> OrderCheck:
        """What an order would do."""
        return (await self.orders.check(order, working=working)).value

    async def breaches(self, **wanted: Any) -> Sequence[Breach]:
        """Breaches, the newest first."""
        return (await self.limits.breaches(BreachFilter(**wanted), size=50)).value.rows


def order(quantity: str, price: str | None = None, *, of: PositionKey | None = None, fee: str = "0") -> Order:
    """An order for a signed quantity."""
    delta = Decimal(quantity)
    return Order(
        key=of or key(),
        side=Side.BUY if delta > 0 else Side.SELL,
        quantity=abs(delta),
        price=None if price is None else Decimal(price),
        fee=Decimal(fee),
    )
