"""A book that is asked through the cache, by one process or by several."""

from collections.abc import Collection
from decimal import Decimal

from steelyard.accounting.keys import Account
from steelyard.operations.cached_reads import CachedPerformance, CachedPortfolio
from steelyard.operations.caching import Cache
from steelyard.operations.newest_heads import NewestHeads
from steelyard.operations.ports import Commit
from steelyard.operations.read_portfolio import PortfolioView
from steelyard.operations.reading import Answer, Heads
from steelyard.storage.heads import HeadReads
from tests.questions.books import Book, fill

DESK = Account("desk")


async def epoch_of_tests() -> str:
    """The name of the tests' databases in Redis."""
    return "test"


class CountedLog:
    """The account log of the store, and how often it was asked."""

    def __init__(self, reads: HeadReads) -> None:
        self.asked = 0
        self._reads = reads

    async def heads(self, accounts: Collection[Account]) -> Heads:
        """The newest seqs of accounts."""
        self.asked += 1
        return await self._reads.heads(accounts)

    async def total(self) -> int:
        """The sum of all of them."""
        self.asked += 1
        return await self._reads.total()


class Desk:
    """What one process knows: its own memory, its own heads, a cache that it shares."""

    def __init__(self, book: Book, cache: Cache, *, fresh_s: float = 0.1) -> None:
        self.book = book
        self.log = CountedLog(HeadReads(book.database))
        self.heads = NewestHeads(self.log, fresh_s=fresh_s)
        self.portfolio = CachedPortfolio(book.portfolio, cache, heads=self.heads, clock=book.clock)
        self.performance = CachedPerformance(book.performance, cache, heads=self.heads, clock=book.clock)
        self._fills = 0

    async def close(self) -> None:
        """Ends what is under way."""
        await self.portfolio.close()
        await self.performance.close()

    async def buy(self, quantity: str = "1", *, price: str = "100") -> Commit:
        """A fill of this process: its commit is known here."""
        self._fills += 1
        (commit,) = await self.book.record(fill(f"{id(self)}-{self._fills}", quantity, price, minute=self._fills))
        self.heads.saw([commit])
        return commit


def held(answer: Answer[PortfolioView]) -> Decimal:
    """The quantity of BTCUSDT in a portfolio; 0 where there is none."""
    found = answer.value.portfolio.currencies.get("USDT")
    return Decimal(0) if found is None else found.by_instrument["BTCUSDT"].quantity
