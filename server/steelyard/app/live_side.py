"""What makes answers quicker and prices newer, where settings name it: Redis before the store, a source of prices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from steelyard.accounting.errors import StoreUnavailable
from steelyard.accounting.keys import InstrumentName
from steelyard.app.settings import Settings
from steelyard.app.watched_parts import price_calls, redis_calls, watch_answers, watch_redis
from steelyard.operations.account_tail import AccountTail
from steelyard.operations.cached_answers import CachedAnswersFigures
from steelyard.operations.cached_reads import CachedPerformance, CachedPortfolio
from steelyard.operations.caching import NoCache
from steelyard.operations.fresh_prices import FreshPrices
from steelyard.operations.last_known import LastKnownPortfolio
from steelyard.operations.mark_tail import MarkTail
from steelyard.operations.newest_heads import NewestHeads
from steelyard.operations.portfolio_feeds import PortfolioFeeds
from steelyard.operations.ports import Clock
from steelyard.operations.read_performance import PerformanceAnswers, ReadPerformance
from steelyard.operations.read_portfolio import PortfolioAnswers, ReadPortfolio
from steelyard.operations.read_positions import ReadPositions
from steelyard.operations.refresh_marks import RefreshMarks
from steelyard.operations.service_status import CacheSigns
from steelyard.operations.watch_portfolio import WatchPortfolio
from steelyard.operations.watch_positions import WatchPositions
from steelyard.prices.sources import PriceSourceSettings, price_source
from steelyard.storage.change_reads import ChangeReads
from steelyard.storage.database import Database
from steelyard.storage.heads import HeadReads
from steelyard.storage.marks import MarkTable

if TYPE_CHECKING:
    from steelyard.cache.redis_cache import RedisCache

WARMED_ACCOUNTS = 100


class LivePrices:
    """Refreshes what reads find stale, from the source that settings name."""

    def __init__(self, settings: Settings, database: Database, *, clock: Clock) -> None:
        self.is_on = settings.price_source != "none"
        self._source = price_source(
            PriceSourceSettings(
                settings.price_source, url=settings.price_source_url, instruments=settings.price_source_instruments
            )
        )
        self._refresh = RefreshMarks(
            self._source,
            MarkTable(database),
            clock=clock,
            stale_after=settings.stale_after,
            report=price_calls(database.telemetry, settings.price_source),
        )

    @property
    def met_stale(self) -> Callable[[Iterable[InstrumentName]], None]:
        """Told of instruments held at a stale price; returns at once."""
        return self._refresh.met

    def fresh(self, positions: ReadPositions, portfolio: ReadPortfolio) -> FreshPrices:
        """Answers at fresh prices only, for who demands them."""
        return FreshPrices(self._refresh, positions=positions, portfolio=portfolio)

    async def close(self) -> None:
        """Ends refreshes under way and gives up connections."""
        await self._refresh.close()
        await self._source.close()


class Watches:
    """Everything that is watched, from one tail of the log and one of the prices."""

    def __init__(self, settings: Settings, database: Database, *, portfolio: ReadPortfolio, clock: Clock) -> None:
        changes = ChangeReads(database)
        self._accounts = AccountTail(changes)
        self._marks = MarkTail(MarkTable(database))
        self._feeds = PortfolioFeeds(portfolio, HeadReads(database), marks=self._marks)
        self.positions = WatchPositions(
            changes, self._accounts, marks=self._marks, clock=clock, stale_after=settings.stale_after
        )
        self.portfolio = WatchPortfolio(self._feeds, changes, clock=clock)

    @property
    def account_tail(self) -> AccountTail:
        """The tail of the log that feeds every watch."""
        return self._accounts

    def start(self) -> None:
        """Begins to follow what is watched."""
        self._accounts.start()
        self._marks.start()
        self._feeds.start()

    @property
    def tasks(self) -> Sequence[asyncio.Task[None] | None]:
        """What follows; each runs as long as the service."""
        return (self._accounts.task, self._marks.task, self._feeds.task)

    def say_goodbye(self) -> None:
        """Tells every watcher that the service goes; their streams end."""
        self._accounts.say_goodbye()
        self._feeds.say_goodbye()

    async def close(self) -> None:
        """Follows no more."""
        await self._accounts.close()
        await self._feeds.close()
        await self._marks.close()


class CachedAnswers:
    """Portfolio and performance: through a cache where Redis is named, else straight from the store."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        *,
        portfolio: ReadPortfolio,
        performance: ReadPerformance,
        prices: LivePrices,
        clock: Clock,
    ) -> None:
        self.portfolio: PortfolioAnswers = LastKnownPortfolio(portfolio, clock=clock)
        self.performance: PerformanceAnswers = performance
        self._heads = HeadReads(database)
        self._redis: RedisCache | None = None
        self._cached: list[CachedPortfolio | CachedPerformance] = []
        self._warming: asyncio.Task[None] | None = None
        if settings.redis_url is None and not prices.is_on:
            return
        if settings.redis_url is not None:
            # Imported here: most processes are named no Redis, and its driver takes long to load.
            from steelyard.cache.redis_cache import RedisCache

            key = b"" if settings.cache_key is None else settings.cache_key.get_secret_value().encode()
            url = settings.redis_url.get_secret_value()
            called = redis_calls(database.telemetry)
            self._redis = RedisCache(url, epoch=ChangeReads(database).epoch, key=key, called=called)
            watch_redis(database.telemetry.meters, self._redis)
        cache = self._redis or NoCache()
        # The newest heads are asked for with every question, so an answer is never older than the last commit.
        heads = NewestHeads(self._heads, fresh_s=0)
        ttl_s = settings.portfolio_cache_s
        cached = CachedPortfolio(portfolio, cache, heads=heads, clock=clock, ttl_s=ttl_s, met_stale=prices.met_stale)
        figures = CachedPerformance(performance, cache, heads=heads, clock=clock)
        self.portfolio, self.performance, self._cached = cached, figures, [cached, figures]
        watch_answers(database.telemetry.meters, "portfolio", figures=lambda: [cached.figures])
        watch_answers(database.telemetry.meters, "performance", figures=lambda: figures.figures)

    async def probe(self) -> CacheSigns | None:
        """How Redis is doing; None: there is none. Raises nothing."""
        if self._redis is None:
            return None
        kept = [figures for each in self._cached for figures in _figures_of(each)]
        hits = sum(figures.hits for figures in kept)
        asked = hits + sum(figures.from_store + figures.uncached + figures.last_known for figures in kept)
        return CacheSigns(await self._redis.is_reachable(), hits / asked if asked else None)

    def start(self) -> None:
        """Reads the portfolios of the accounts that wrote last, so that the first questions find them."""
        if self._cached:
            self._warming = asyncio.create_task(self._warm(), name="cache-warming")

    async def _warm(self) -> None:
        try:
            accounts = await self._heads.recent_accounts(WARMED_ACCOUNTS)
        except StoreUnavailable:
            return
        for cached in self._cached:
            if isinstance(cached, CachedPortfolio):
                await cached.warm(accounts)

    async def close(self) -> None:
        """Ends what is under way and gives up connections."""
        if self._warming is not None:
            self._warming.cancel()
        for cached in self._cached:
            await cached.close()
        if self._redis is not None:
            await self._redis.close()


def _figures_of(cached: CachedPortfolio | CachedPerformance) -> Sequence[CachedAnswersFigures]:
    return cached.figures if isinstance(cached, CachedPerformance) else (cached.figures,)
