"""The figures that watchers of portfolios follow: read once for all who watch the same, when something moved.

Problem: many watch the same portfolios, and commits and prices move faster than anybody wants to be told. Choice: one
task per process looks at the heads of the watched accounts in one statement and hears of prices from `mark_tail`; a
feed in which something moved is read again, not sooner than its most impatient watcher wants, and numbered when its
figures are others than before. A watcher keeps only the number he was told last, so a slow one costs nothing and is
told the newest.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from steelyard.accounting.errors import QueueFull, SteelyardError
from steelyard.accounting.keys import Account, Book, InstrumentName
from steelyard.operations.mark_tail import MarkTail
from steelyard.operations.newest_heads import AccountLog
from steelyard.operations.ports import Commit
from steelyard.operations.read_portfolio import PortfolioView
from steelyard.operations.reading import Answer

LOOK_INTERVAL_S = 0.1
"""How often the heads are looked at."""
LOOK_AGAIN_S = 5.0
"""How often a feed is read even where nothing moved: prices grow stale, and days of limits end."""
RETRY_INTERVAL_S = 1.0
FEEDS_MAX = 200
"""Portfolios that are watched at a time; any number of watchers may share one."""
READ_AT_ONCE = 4


class PortfolioCause(StrEnum):
    """Why figures are told."""

    BEGIN = "BEGIN"
    COMMITS = "COMMITS"
    PRICES = "PRICES"


@dataclass(frozen=True, slots=True)
class PortfolioFilter:
    """Which positions are added up; an empty part means all."""

    accounts: tuple[Account, ...] = ()
    books: tuple[Book, ...] = ()
    instruments: tuple[InstrumentName, ...] = ()


@dataclass(frozen=True, slots=True)
class Figures:
    """A portfolio as it was told or is to be told."""

    number: int
    """Grows whenever the figures are others than before."""
    view: PortfolioView
    commits: Sequence[Commit]
    digest: str
    """Of everything but the moment of the calculation: equal digests are equal figures, in any process."""
    by_commits: int
    """The number of the newest figures that commits had changed."""

    def cause(self, *, since: int) -> PortfolioCause:
        """What changed the figures since those of a number."""
        return PortfolioCause.COMMITS if self.by_commits > since else PortfolioCause.PRICES


class ReadsPortfolios(Protocol):
    """Adds positions up; `ReadPortfolio` does."""

    async def get(
        self, *, accounts: Sequence[Account], instruments: Sequence[InstrumentName], books: Collection[Book]
    ) -> Answer[PortfolioView]:
        """The portfolio of accounts, instruments and books (none: of all)."""
        ...


class Feed:
    """One portfolio that somebody watches; fulfils `mark_tail.PriceListener`."""

    def __init__(self, wanted: PortfolioFilter, read: ReadsPortfolios, *, marks: MarkTail) -> None:
        self.wanted = wanted
        self.figures: Figures | None = None
        self.seq = -1
        """The sum of its accounts' seqs that the figures are at least as new as."""
        self.head = 0
        """The newest sum known."""
        self.intervals_s: list[float] = []
        """What its watchers want to wait for at least."""
        self.wakes: set[asyncio.Event] = set()
        self.is_moved = False
        """Whether a price of what is held has moved since the figures were read."""
        self.read_s = 0.0
        self._read = read
        self._marks = marks
        self._held: set[InstrumentName] = set()
        self._reading = asyncio.Lock()

    def price_moved(self, instrument: InstrumentName) -> None:
        """Takes note."""
        self.is_moved = True

    def is_due(self, *, now_s: float) -> bool:
        """Whether the figures are to be read now."""
        waited_s = now_s - self.read_s
        has_news = self.is_moved or self.head > self.seq
        return waited_s >= (min(self.intervals_s, default=LOOK_AGAIN_S) if has_news else LOOK_AGAIN_S)

    async def read(self) -> Figures:
        """Reads the figures; they are numbered anew, and everybody woken, where they have changed."""
        async with self._reading:
            head, wanted, had_moved = self.head, self.wanted, self.is_moved
            self.is_moved, self.read_s = False, _loop_s()
            try:
                answer = await self._read.get(
                    accounts=wanted.accounts, instruments=wanted.instruments, books=wanted.books
                )
            except BaseException:
                self.is_moved = self.is_moved or had_moved
                raise
            is_by_commits = head > self.seq
            self.seq = head
            self._follow(answer.value)
            return self._publish(answer, is_by_commits=is_by_commits)

    def close(self) -> None:
        """Hears of prices no more."""
        for instrument in self._held:
            self._marks.leave(self, instrument)
        self._held.clear()

    def _publish(self, answer: Answer[PortfolioView], *, is_by_commits: bool) -> Figures:
        before, digest = self.figures, digest_of(answer.value)
        if before is not None and before.digest == digest:
            self.figures = Figures(before.number, before.view, answer.seen.commits, digest, before.by_commits)
            return self.figures
        number = 1 if before is None else before.number + 1
        by_commits = number if before is None or is_by_commits else before.by_commits
        self.figures = Figures(number, answer.value, answer.seen.commits, digest, by_commits)
        for wake in self.wakes:
            wake.set()
        return self.figures

    def _follow(self, view: PortfolioView) -> None:
        """Hears of the prices of what is held now."""
        held = {
            InstrumentName(name)
            for sums in view.portfolio.currencies.values()
            for name, group in sums.by_instrument.items()
            if group.open_count
        }
        for name in held - self._held:
            self._marks.watch(self, name, known=self._marks.newest(name))
        for name in self._held - held:
            self._marks.leave(self, name)
        self._held = held


def digest_of(view: PortfolioView) -> str:
    """A short name of figures, whenever they were calculated."""
    told = repr((list(view.portfolio.currencies.items()), view.limits))
    return hashlib.blake2b(told.encode(), digest_size=12).hexdigest()


class PortfolioFeeds:
    """The portfolios that somebody watches, and the task that keeps them up to date."""

    def __init__(
        self, read: ReadsPortfolios, log: AccountLog, *, marks: MarkTail, interval_s: float = LOOK_INTERVAL_S
    ) -> None:
        self._read = read
        self._log = log
        self._marks = marks
        self._interval_s = interval_s
        self._feeds: dict[PortfolioFilter, Feed] = {}
        self.task: asyncio.Task[None] | None = None
        """Runs until `close`; when it ends by itself, the process has to end with what it raises."""
        self.reads = 0
        """Portfolios read since the start."""
        self.is_closing = False

    def start(self) -> None:
        """Begins to follow."""
        self.task = asyncio.create_task(self._run(), name="portfolio_feeds")

    def say_goodbye(self) -> None:
        """Wakes every watcher to tell him that the service goes."""
        self.is_closing = True
        for feed in self._feeds.values():
            for wake in feed.wakes:
                wake.set()

    async def close(self) -> None:
        """Follows no more."""
        self.say_goodbye()
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    def join(self, wanted: PortfolioFilter, wake: asyncio.Event, *, interval_s: float) -> Feed:
        """The feed of a portfolio, which sets `wake` when its figures change. Raises `QueueFull` over the limit."""
        feed = self._feeds.get(wanted)
        if feed is None:
            if len(self._feeds) >= FEEDS_MAX:
                raise QueueFull(f"{FEEDS_MAX} portfolios are watched already")
            feed = self._feeds[wanted] = Feed(wanted, self._read, marks=self._marks)
        feed.wakes.add(wake)
        feed.intervals_s.append(interval_s)
        return feed

    def leave(self, feed: Feed, wake: asyncio.Event, *, interval_s: float) -> None:
        """Wakes a watcher no more; a feed that nobody watches ends."""
        feed.wakes.discard(wake)
        feed.intervals_s.remove(interval_s)
        if not feed.wakes:
            self._feeds.pop(feed.wanted, None)
            feed.close()

    async def now(self, feed: Feed) -> Figures:
        """The figures of a feed as new as everything committed before this call."""
        await self._look_at([feed])
        self.reads += 1
        return await feed.read()

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except SteelyardError:
                # The store is away: watchers keep waiting, and the first look afterwards finds what moved meanwhile.
                await asyncio.sleep(RETRY_INTERVAL_S)
            await asyncio.sleep(self._interval_s)

    async def look(self) -> None:
        """Looks at the heads once, and reads the feeds that are due."""
        feeds = list(self._feeds.values())
        if not feeds:
            return
        await self._look_at(feeds)
        now_s = _loop_s()
        due = [feed for feed in feeds if feed.wakes and feed.is_due(now_s=now_s)]
        for first in range(0, len(due), READ_AT_ONCE):
            some = due[first : first + READ_AT_ONCE]
            self.reads += len(some)
            await asyncio.gather(*(feed.read() for feed in some))

    async def _look_at(self, feeds: Iterable[Feed]) -> None:
        named = [feed for feed in feeds if feed.wanted.accounts]
        everybody = [feed for feed in feeds if not feed.wanted.accounts]
        if named:
            heads = await self._log.heads({account for feed in named for account in feed.wanted.accounts})
            for feed in named:
                feed.head = max(feed.head, sum(heads.get(account, 0) for account in feed.wanted.accounts))
        if everybody:
            total = await self._log.total()
            for feed in everybody:
                feed.head = max(feed.head, total)


def _loop_s() -> float:
    return asyncio.get_running_loop().time()
