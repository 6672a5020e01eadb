"""Kept answers: the port of a cache, the name an answer is kept under, and the part that stands in for no cache.

The name carries the newest commit of every account the question is about, so a write changes the name and nothing is
ever deleted or bumped: an answer that is found under a name is an answer as of those commits. Time to live is only a
safety net, and what bounds how long a price goes unnoticed, since marks are no commits.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, TypeVar

from steelyard.accounting.errors import StoreUnavailable
from steelyard.accounting.keys import Account
from steelyard.operations.reading import Answer, Freshness, Heads

T = TypeVar("T")

STORE_PATIENCE_S = 2.0
"""How long a store that does not answer at all is waited for by a caller who would take older figures."""


class Cache(Protocol):
    """Keeps values under names for a while. It never fails a call: whatever goes wrong is a counted miss."""

    async def get(self, name: str) -> bytes | None:
        """What was put under exactly this name and has not expired; None: a miss, for whatever reason."""
        ...

    def put(self, name: str, value: bytes, *, ttl_s: float) -> None:
        """Begins to keep a value and does not wait for that; it may fail unnoticed but for a counter."""
        ...


class NoCache:
    """Fulfils `Cache` where there is none: every question is a miss, nothing is kept."""

    async def get(self, name: str) -> bytes | None:
        """Nothing."""
        return None

    def put(self, name: str, value: bytes, *, ttl_s: float) -> None:
        """Forgets the value."""


class Form(Protocol[T]):
    """How an answer is written down."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the shape of the answer does, so two releases never read each other's answers."""
        ...

    def write(self, answer: Answer[T]) -> bytes:
        """An answer as bytes."""
        ...

    def read(self, text: bytes) -> Answer[T]:
        """The answer in bytes that `write` made; raises `ValueError` for anything else."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, apart from how new the answer must be."""

    kind: str
    """portfolio, daily_performance, ..."""
    terms: tuple[str, ...]
    """Everything else that the answer depends on, resolved: a date, never `today`."""
    accounts: tuple[Account, ...] = ()
    """Whose commits can change the answer, sorted; none: everybody's."""

    def name(self, seqs: Sequence[int], *, fingerprint: str) -> str:
        """The name of the answer as of these seqs: one for each account, or their sum where everybody is meant."""
        return f"{self.kind}:{self._digest([fingerprint, *self.terms], list(seqs))}"

    def last_name(self, *, fingerprint: str) -> str:
        """The name of the newest answer known, of whatever commits."""
        return f"last:{self.kind}:{self._digest([fingerprint, *self.terms], None)}"

    def _digest(self, terms: list[str], seqs: list[int] | None) -> str:
        text = json.dumps([terms, self.accounts, seqs], ensure_ascii=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


def is_behind(heads: Heads, wanted: Heads) -> bool:
    """Whether some account is seen at less than the seq wanted of it."""
    return any(heads.get(account, 0) < seq for account, seq in wanted.items())


def heads_of(answer: Answer[T]) -> Heads:
    """The commits that an answer has seen."""
    return {commit.account: commit.seq for commit in answer.seen.commits}


async def patiently(read: Awaitable[T], *, max_staleness: timedelta | None, freshness: Freshness) -> T:
    """What a read gives; a store that hangs counts as away where the caller would take older figures.

    Raises `StoreUnavailable`.
    """
    if max_staleness is None:
        return await read
    try:
        async with asyncio.timeout(min(STORE_PATIENCE_S, freshness.wait_s / 2)):
            return await read
    except TimeoutError:
        raise StoreUnavailable from None
