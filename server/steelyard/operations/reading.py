"""What every question has in common: pages, how new an answer is, and waiting for a commit asked for.

An answer is read in one snapshot together with the heads of the accounts it names, so a caller may hand them back as
`min_commit` and never see anything older.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from steelyard.accounting.errors import NotYetVisible
from steelyard.accounting.keys import Account
from steelyard.operations.ports import Clock, Commit

POLL_INTERVAL_S = 0.02
"""How often the heads are looked at while a commit is waited for."""
LONGEST_WAIT_S = 30.0
"""How long a commit is waited for at most, whatever the caller's deadline."""

T = TypeVar("T")
R = TypeVar("R")

Cursor = tuple[Any, ...]
"""The place of a row in the order of its list: what a page token holds."""
Heads = Mapping[Account, int]
"""The newest seq of accounts; accounts that never wrote are left out."""


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """Rows in the order of the list, and the place after which the next page begins (None: this is the last one)."""

    rows: Sequence[R]
    next_after: Cursor | None = None


class ServedFrom(StrEnum):
    """Where an answer was read."""

    STORE = "STORE"
    CACHE = "CACHE"
    LAST_KNOWN = "LAST_KNOWN"
    """The store is away, and the caller allowed figures of some age."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How new an answer is: at least as new as these commits."""

    commits: Sequence[Commit]
    read_at: datetime
    served_from: ServedFrom = ServedFrom.STORE


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What was asked for, and how new it is."""

    value: T
    seen: Seen


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[T]):
    """What a store read, and the heads that the same snapshot saw."""

    value: T
    heads: Heads


@dataclass(frozen=True, slots=True)
class Freshness:
    """How new an answer must be, and how long may be waited for that."""

    min_commit: Heads = field(default_factory=dict)
    wait_s: float = 5.0
    """Seconds until the caller's deadline."""


AS_IT_IS = Freshness()
"""Whatever the store shows now."""


class HeadReads(Protocol):
    """Reads the account log's heads."""

    async def heads(self, accounts: Collection[Account]) -> Heads:
        """The newest visible seq of accounts."""
        ...


Ask = Callable[[Collection[Account]], Awaitable[Snapshot[T]]]
"""Reads an answer in one snapshot with the heads of these accounts."""


class Reading:
    """Asks a store until the answer is as new as the caller demands."""

    def __init__(self, heads: HeadReads, clock: Clock) -> None:
        self._heads = heads
        self._clock = clock

    async def answer(self, ask: Ask[T], *, accounts: Iterable[Account], freshness: Freshness) -> Answer[T]:
        """Reads, and reads again once what was asked for is visible. Raises `NotYetVisible` at the deadline.

        The answer names the heads of `accounts` and of those in `min_commit`.
        """
        names = sorted({*accounts, *freshness.min_commit})
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(freshness.wait_s, LONGEST_WAIT_S)
        while True:
            snapshot = await ask(names)
            if not _behind(snapshot.heads, freshness.min_commit):
                heads = snapshot.heads
                commits = tuple(Commit(name, heads[name]) for name in names if name in heads)
                return Answer(snapshot.value, Seen(commits, self._clock()))
            await self._wait(freshness.min_commit, deadline)

    async def _wait(self, wanted: Heads, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        while missing := _behind(await self._heads.heads(list(wanted)), wanted):
            left = deadline - loop.time()
            if left <= 0:
                raise NotYetVisible(f"commit {wanted[missing[0]]} of account {missing[0]} is not visible here yet")
            await asyncio.sleep(min(POLL_INTERVAL_S, left))


def _behind(heads: Heads, wanted: Heads) -> Sequence[Account]:
    return [account for account, seq in wanted.items() if heads.get(account, 0) < seq]


def page_of(rows: Sequence[R], *, size: int, place: Callable[[R], Cursor]) -> Page[R]:
    """The page in rows of which one more than `size` was asked for: the surplus one tells that there is a next page."""
    if len(rows) <= size:
        return Page(rows)
    kept = rows[:size]
    return Page(kept, place(kept[-1]))
