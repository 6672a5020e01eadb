"""Discrepancies on record: listed, and settled by people."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from steelyard.accounting.errors import InvalidField, NotFound, VersionMismatch
from steelyard.accounting.keys import Account
from steelyard.operations.answering_once import KeepsAnswers, KeptForm, RequestIdentity, answer_once
from steelyard.operations.fill_writer import with_retries
from steelyard.operations.ports import Clock, Commit
from steelyard.operations.reading import AS_IT_IS, Answer, Cursor, Freshness, Page, Reading, Snapshot
from steelyard.operations.reconciling import Discrepancy, DiscrepancyFilter, DiscrepancyState

METHOD = "ResolveDiscrepancy"
REASON_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How somebody settles a record."""

    account: Account
    discrepancy_id: UUID
    state: DiscrepancyState
    """RESOLVED or IGNORED."""
    reason: str
    by: str
    expected_version: int | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """A record as a verdict left it."""

    record: Discrepancy
    is_replayed: bool = False
    commits: Sequence[Commit] = ()


class DiscrepancyWrites(KeepsAnswers, Protocol):
    """One transaction on records."""

    @property
    def commits(self) -> Sequence[Commit]:
        """After the commit: the step of the account's log."""
        ...

    async def locked(self, account: Account, discrepancy_id: UUID) -> Discrepancy | None:
        """A record, locked until the commit."""
        ...

    async def write(self, verdict: Verdict, *, now: datetime) -> Discrepancy:
        """Settles a record under the next version; steps the account's log."""
        ...


class DiscrepancyStore(Protocol):
    """Records as they are stored."""

    def transaction(self) -> AbstractAsyncContextManager[DiscrepancyWrites]:
        """A transaction, committed when the block ends well."""
        ...

    async def find(self, account: Account, discrepancy_id: UUID) -> Discrepancy | None:
        """A record by its id."""
        ...

    async def page(
        self, wanted: DiscrepancyFilter, *, size: int, after: Cursor | None, heads: Collection[Account]
    ) -> Snapshot[Page[Discrepancy]]:
        """Records, the newest first."""
        ...


class KeepDiscrepancies:
    """Lists records and takes what people say of them."""

    def __init__(self, store: DiscrepancyStore, reading: Reading, *, clock: Clock, jitter: Callable[[], float]) -> None:
        self._store = store
        self._reading = reading
        self._clock = clock
        self._jitter = jitter

    async def page(
        self, wanted: DiscrepancyFilter, *, size: int, after: Cursor | None = None, freshness: Freshness = AS_IT_IS
    ) -> Answer[Page[Discrepancy]]:
        """A page of records, the newest first."""
        return await self._reading.answer(
            lambda heads: self._store.page(wanted, size=size, after=after, heads=heads),
            accounts=wanted.accounts,
            freshness=freshness,
        )

    async def resolve(self, verdict: Verdict, *, request: RequestIdentity) -> Resolved:
        """Settles an open record; positions stay as they are.

        Raises `NotFound`, `InvalidField` for a record that is settled already or a missing reason, `VersionMismatch`,
        `RequestIdReused`.
        """
        if not verdict.reason.strip():
            raise InvalidField("reason", "is required")
        return await with_retries(lambda: self._resolve(verdict, request=request), jitter=self._jitter)

    async def _resolve(self, verdict: Verdict, *, request: RequestIdentity) -> Resolved:
        form = KeptForm(str(verdict.account), METHOD, encode=_kept, decode=_id_of)
        async with self._store.transaction() as book:

            async def settle() -> UUID:
                await self._settle(book, verdict)
                return verdict.discrepancy_id

            answered = await answer_once(book, request, form=form, write=settle)
        record = await self._store.find(verdict.account, answered.value)
        if record is None:
            raise NotFound("discrepancy", str(answered.value))
        return Resolved(record, is_replayed=answered.is_replayed, commits=book.commits)

    async def _settle(self, book: DiscrepancyWrites, verdict: Verdict) -> None:
        record = await book.locked(verdict.account, verdict.discrepancy_id)
        if record is None:
            raise NotFound("discrepancy", str(verdict.discrepancy_id))
        if verdict.expected_version is not None and verdict.expected_version != record.version:
            raise VersionMismatch(f"the record is at version {record.version}", current_version=str(record.version))
        if record.state is DiscrepancyState.RESOLVED:
            raise InvalidField("discrepancy_id", "names a discrepancy that is resolved already")
        await book.write(verdict, now=self._clock())


def _kept(discrepancy_id: UUID) -> bytes:
    return json.dumps(str(discrepancy_id)).encode()


def _id_of(kept: bytes) -> UUID:
    return UUID(json.loads(kept))
