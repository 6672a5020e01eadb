"""What was executed: a fill with its revisions, and the fills of an account by time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from steelyard.accounting.entries import Fill
from steelyard.accounting.errors import NotFound
from steelyard.accounting.keys import Account, Book, FillId, InstrumentName, Leg
from steelyard.operations.reading import AS_IT_IS, Answer, Cursor, Freshness, Page, Reading, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class FillView:
    """A fill as it is told: one revision of it, and whether its position has it."""

    fill: Fill
    settle_currency: str
    is_withdrawn: bool = False
    """Busted, or its import was rolled back: it counts no more."""
    recorded_at: datetime
    applied_version: int | None = None
    """The first version of its position that holds this revision; None while it waits, and for earlier revisions."""
    is_pending: bool = False
    """Whether it is stored only and waits for its key to be folded."""
    import_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FillFilter:
    """Which fills of an account are meant; conditions are joined by and, None means any."""

    account: Account
    book: Book | None = None
    instrument: InstrumentName | None = None
    leg: Leg | None = None
    import_id: UUID | None = None
    """Brought or repeated by this import."""
    executed_from: datetime | None = None
    executed_before: datetime | None = None
    has_withdrawn: bool = False
    """Whether those are listed too that count no more."""
    is_oldest_first: bool = False


@dataclass(frozen=True, slots=True)
class FillHistory:
    """A fill as it counts now, and all its revisions, the first one first."""

    fill: FillView
    revisions: Sequence[FillView]


class FillStore(Protocol):
    """Reads fills, each answer in one snapshot with the heads of the accounts named."""

    async def fill(
        self, account: Account, fill_id: FillId, *, heads: Collection[Account]
    ) -> Snapshot[FillHistory | None]:
        """One fill with its revisions."""
        ...

    async def fills(
        self, wanted: FillFilter, *, size: int, after: Cursor | None, heads: Collection[Account]
    ) -> Snapshot[Page[FillView]]:
        """Fills in fold order, or the other way round."""
        ...


class ReadFills:
    """Answers questions about executions."""

    def __init__(self, store: FillStore, reading: Reading) -> None:
        self._store = store
        self._reading = reading

    async def get(self, account: Account, fill_id: FillId, *, freshness: Freshness = AS_IT_IS) -> Answer[FillHistory]:
        """One fill as it counts now, with all its revisions. Raises `NotFound`."""
        answer = await self._reading.answer(
            lambda heads: self._store.fill(account, fill_id, heads=heads), accounts=(account,), freshness=freshness
        )
        if answer.value is None:
            raise NotFound("fill", f"{account}/{fill_id}")
        return Answer(answer.value, answer.seen)

    async def page(
        self, wanted: FillFilter, *, size: int, after: Cursor | None = None, freshness: Freshness = AS_IT_IS
    ) -> Answer[Page[FillView]]:
        """A page of fills: the latest execution first, or in fold order."""
        return await self._reading.answer(
            lambda heads: self._store.fills(wanted, size=size, after=after, heads=heads),
            accounts=(wanted.account,),
            freshness=freshness,
        )
