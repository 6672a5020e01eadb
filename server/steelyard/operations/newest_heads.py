"""The newest commits this process knows of, asked for again at most ten times a second.

Three sources, of which the newest counts: the account log, read when what is known is older than `fresh_s`; the
process's own writes and whatever else has seen a commit (`saw`); and what the caller himself demands, which is never
believed beyond his own call. So an answer found under these commits is never older than the caller's own writes, and
at most `fresh_s` older than anybody else's.

Reads of the log go in rounds, each of which begins after everybody in it has asked. So nothing that was committed
before a question can be missing from what it is told, and however many ask, the log is read once at a time.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from steelyard.accounting.keys import Account
from steelyard.operations.ports import Commit, Ledger, OpenTransaction
from steelyard.operations.reading import Heads
from steelyard.operations.rounds import Rounds
from steelyard.operations.single_flight import SingleFlight

FRESH_S = 0.1
"""How old what is known may be before the log is asked again."""
ACCOUNTS_MAX = 10_000
"""Accounts remembered; a forgotten one is asked for again."""


class AccountLog(Protocol):
    """Reads the account log."""

    async def heads(self, accounts: Collection[Account]) -> Heads:
        """The newest visible seq of accounts."""
        ...

    async def total(self) -> int:
        """The sum of all accounts' seqs: it grows with every commit of anybody."""
        ...


@dataclass(frozen=True, slots=True)
class _Known:
    seq: int
    at_s: float
    """When it was certainly the newest."""
    news: int = 0
    """Of a sum: how much had been heard of before it was read, all of which it counts."""


class NewestHeads:
    """Knows the newest commits of accounts, and of all of them together."""

    def __init__(
        self, log: AccountLog, *, fresh_s: float = FRESH_S, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._fresh_s = fresh_s
        self._now_s = now_s
        self._known: OrderedDict[Account, _Known] = OrderedDict()
        self._total: _Known | None = None
        self._news = 0
        self._reads: Rounds[Sequence[Account], None] = Rounds(self._read, name="heads")
        self._reads_of_total: SingleFlight[_Known] = SingleFlight()

    def saw(self, commits: Iterable[Commit]) -> None:
        """Takes note of commits that are known to be visible: own writes, answers, a tail of the log."""
        now_s = self._now_s()
        for commit in commits:
            self._note(commit.account, commit.seq, at_s=now_s)

    async def of(self, accounts: Sequence[Account], *, at_least: Heads) -> Sequence[int]:
        """The newest seqs of accounts, 0 for one that never wrote; what the caller demands counts for him."""
        old = [account for account in accounts if not self._is_fresh(self._known.get(account))]
        if old:
            await self._reads.ask(old)
        return [max(self._seq(account), at_least.get(account, 0)) for account in accounts]

    async def of_all(self, *, at_least: Heads) -> int | None:
        """The sum over all accounts at a moment when all that is demanded was visible; None: it is not visible yet."""
        missing = [account for account, seq in at_least.items() if self._seq(account) < seq]
        if missing:
            await self._reads.ask(missing)
            if any(self._seq(account) < at_least[account] for account in missing):
                return None
        news = self._news
        while (total := self._total) is None or total.news < news or not self._is_fresh(total):
            total, is_joined = await self._reads_of_total.run("total", self._read_total)
            if is_joined:  # it may have begun before we asked; the next one has not
                total, _ = await self._reads_of_total.run("total", self._read_total)
            if total.news >= news:
                break  # with nothing remembered for any time, this one was read for us
        return total.seq

    def _seq(self, account: Account) -> int:
        known = self._known.get(account)
        return 0 if known is None else known.seq

    def _is_fresh(self, known: _Known | None) -> bool:
        return known is not None and self._now_s() - known.at_s < self._fresh_s

    def _note(self, account: Account, seq: int, *, at_s: float) -> None:
        known = self._known.get(account)
        if known is not None and known.seq > seq:
            return
        if known is None or known.seq < seq:
            self._news += 1
        self._known[account] = _Known(seq, at_s if known is None else max(at_s, known.at_s))
        self._known.move_to_end(account)
        while len(self._known) > ACCOUNTS_MAX:
            self._known.popitem(last=False)

    async def _read(self, asked: Sequence[Sequence[Account]]) -> Sequence[None]:
        accounts = sorted({account for named in asked for account in named})
        begun_s = self._now_s()
        heads = await self._log.heads(accounts)
        for account in accounts:
            self._note(account, heads.get(account, 0), at_s=begun_s)
        return [None] * len(asked)

    async def _read_total(self) -> _Known:
        begun_s, news = self._now_s(), self._news
        self._total = _Known(await self._log.total(), begun_s, news)
        return self._total


class NotedLedger:
    """A ledger whose commits this process knows of at once; fulfils `ports.Ledger`."""

    def __init__(self, ledger: Ledger, heads: NewestHeads) -> None:
        self._ledger = ledger
        self._heads = heads

    @asynccontextmanager
    async def transaction(self, *, cause: str, is_read_only: bool = False) -> AsyncIterator[OpenTransaction]:
        """A transaction of the ledger; after its commit it is known."""
        async with self._ledger.transaction(cause=cause, is_read_only=is_read_only) as book:
            yield book
        self._heads.saw(book.commits)
