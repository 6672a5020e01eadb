"""Takes snapshots: positions as they are shown at a moment, stored and never computed again.

Positions are read and told first, then written in a short transaction: nobody waits for what is told. A position that
cannot be told is recorded as failed with the reason, and a chunk that cannot be written is halved until the one row
that is to blame stands alone.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any, Protocol

from steelyard.accounting.errors import InvalidField, NotFound, SteelyardError, StoreUnavailable
from steelyard.accounting.keys import Account, PositionKey
from steelyard.accounting.marks import STALE_AFTER, mark_state
from steelyard.accounting.units import ZERO
from steelyard.operations.answering_once import KeepsAnswers, KeptForm, RequestIdentity, answer_once
from steelyard.operations.fill_writer import with_retries
from steelyard.operations.ports import Clock, Commit
from steelyard.operations.position_view import PositionRow, PositionView
from steelyard.operations.read_positions import Exposures, PositionFilter

METHOD = "CreateSnapshot"
REQUEST_MAX = 5_000
"""Positions that one call may mean."""
CHUNK = 500
"""Positions that the schedule reads and writes at a time."""
ANSWERED_MAX = 1_000
"""Snapshots that the answer to a call holds."""
FAILURE_MAX = 500
"""Characters of a reason."""

ShownPosition = Mapping[str, Any]
"""A position as callers are shown it, by the contract's field names; decimals are text."""
Show = Callable[[PositionView], ShownPosition]


class SnapshotCause(StrEnum):
    """Why a snapshot was taken."""

    REQUEST = "REQUEST"
    SCHEDULE = "SCHEDULE"


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionSnapshot:
    """A position as it was shown."""

    snapshot_id: uuid.UUID
    key: PositionKey
    taken_at: datetime
    cause: SnapshotCause
    version: int
    shown: ShownPosition | None
    """None: it could not be told."""
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class ReadRow:
    """A stored position, or why its row cannot be read."""

    key: PositionKey
    version: int
    row: PositionRow | None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class RowsRead:
    """Positions of one read, with the gross exposures of their accounts."""

    rows: Sequence[ReadRow]
    exposures: Exposures


class SnapshotWrites(KeepsAnswers, Protocol):
    """One transaction that stores snapshots."""

    @property
    def commits(self) -> Sequence[Commit]:
        """After the commit: the step of each touched account's log."""
        ...

    async def store(self, snapshots: Sequence[PositionSnapshot]) -> None:
        """Stores snapshots, notes on their positions when they were taken, and tells others of each."""
        ...

    async def stored(self, account: Account, *, taken_at: datetime, limit: int) -> Sequence[PositionSnapshot]:
        """What a call stored, by key: the answer to its repeat."""
        ...


class SnapshotStore(Protocol):
    """Where positions are read and snapshots kept."""

    async def rows(self, wanted: PositionFilter, *, size: int) -> RowsRead:
        """At most so many positions of a filter in key order, whole rows."""
        ...

    async def due_rows(self, *, after: PositionKey | None, size: int) -> RowsRead:
        """Positions in key order that hold something or have changed since their last snapshot."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[SnapshotWrites]:
        """A transaction, committed when the block ends well."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotReceipt:
    """What a call came to."""

    taken_at: datetime
    taken: int
    failed: int
    snapshots: Sequence[PositionSnapshot]
    """By key, the first ones."""
    is_replayed: bool = False
    commits: Sequence[Commit] = ()


@dataclass(frozen=True, slots=True)
class SnapshotRun:
    """What one run of the schedule came to."""

    taken: int = 0
    failed: int = 0


class TakeSnapshots:
    """Takes them when asked, and all that are due when the schedule says so."""

    def __init__(
        self,
        store: SnapshotStore,
        *,
        show: Show,
        clock: Clock,
        jitter: Callable[[], float],
        stale_after: timedelta = STALE_AFTER,
    ) -> None:
        """`show` gives a position as callers are shown it."""
        self._store = store
        self._show = show
        self._clock = clock
        self._jitter = jitter
        self._stale_after = stale_after

    async def create(self, wanted: PositionFilter, *, request: RequestIdentity) -> SnapshotReceipt:
        """Stores the positions of a filter, which names one account, as they are shown now; all in one transaction.

        Raises `NotFound` where an instrument is named and no position found, `InvalidField` for more than 5,000
        positions, `RequestIdReused`.
        """
        # Shielded: a caller who goes away abandons the wait, never the transaction.
        write = with_retries(partial(self._create, wanted, request), jitter=self._jitter)
        return await asyncio.shield(asyncio.ensure_future(write))

    async def _create(self, wanted: PositionFilter, request: RequestIdentity) -> SnapshotReceipt:
        (account,) = wanted.accounts
        form = KeptForm(str(account), METHOD, encode=_receipt_bytes, decode=_kept_receipt)

        # Read before anything is written, so that no call holds one connection while it waits for another.
        snapshots = self._told(await self._store.rows(wanted, size=REQUEST_MAX + 1), SnapshotCause.REQUEST)
        taken_at = snapshots[0].taken_at if snapshots else self._clock()

        async def write() -> SnapshotReceipt:
            _check_count(snapshots, wanted)
            await book.store(snapshots)
            return _receipt(snapshots, taken_at=taken_at)

        async with self._store.transaction() as book:
            answered = await answer_once(book, request, form=form, write=write)
            receipt = answered.value
            if answered.is_replayed:
                kept = await book.stored(account, taken_at=receipt.taken_at, limit=ANSWERED_MAX)
                receipt = replace(receipt, snapshots=kept, is_replayed=True)
        return replace(receipt, commits=book.commits)

    async def take_due(self) -> SnapshotRun:
        """Takes a snapshot of every position that holds something or has changed since its last one.

        One bad row never stops the rest. Raises `StoreUnavailable`; what was written until then stays.
        """
        run, after = SnapshotRun(), None
        while True:
            read = await self._store.due_rows(after=after, size=CHUNK)
            if not read.rows:
                return run
            snapshots = self._told(read, SnapshotCause.SCHEDULE)
            written = await self._write(snapshots)
            run = SnapshotRun(run.taken + written.taken, run.failed + written.failed)
            after = read.rows[-1].key

    async def _write(self, snapshots: Sequence[PositionSnapshot]) -> SnapshotRun:
        """Writes a chunk; where that fails, its halves."""
        try:
            await with_retries(partial(self._store_all, snapshots), jitter=self._jitter)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            if len(snapshots) > 1:
                middle = len(snapshots) // 2
                first, second = await self._write(snapshots[:middle]), await self._write(snapshots[middle:])
                return SnapshotRun(first.taken + second.taken, first.failed + second.failed)
            if snapshots[0].failure is not None:
                return SnapshotRun(failed=1)
            return await self._write([replace(snapshots[0], shown=None, failure=reason_of(error))])
        failed = sum(snapshot.failure is not None for snapshot in snapshots)
        return SnapshotRun(len(snapshots) - failed, failed)

    async def _store_all(self, snapshots: Sequence[PositionSnapshot]) -> None:
        async with self._store.transaction() as book:
            await book.store(snapshots)

    def _told(self, read: RowsRead, cause: SnapshotCause) -> list[PositionSnapshot]:
        now = self._clock()
        return [self._snapshot(each, read.exposures, cause=cause, now=now) for each in read.rows]

    def _snapshot(
        self, each: ReadRow, exposures: Exposures, *, cause: SnapshotCause, now: datetime
    ) -> PositionSnapshot:
        shown, failure = None, each.failure
        if each.row is not None:
            try:
                shown = self._show(self._view(each.row, exposures, now=now))
            except Exception as error:  # noqa: BLE001 - whatever is wrong with this row, the others go on
                failure = reason_of(error)
        return PositionSnapshot(
            snapshot_id=uuid.uuid4(),
            key=each.key,
            taken_at=now,
            cause=cause,
            version=each.version,
            shown=shown,
            failure=failure,
        )

    def _view(self, row: PositionRow, exposures: Exposures, *, now: datetime) -> PositionView:
        state = mark_state(row.mark, now=now, stale_after=self._stale_after)
        exposure = exposures.get((row.key.account, row.instrument.settle_currency), ZERO)
        return PositionView(row, now, state, exposure)


def reason_of(error: Exception) -> str:
    """Why a position could not be told, in a line."""
    told = error.message if isinstance(error, SteelyardError) else str(error)
    return f"{type(error).__name__}: {told}"[:FAILURE_MAX]


def _check_count(snapshots: Sequence[PositionSnapshot], wanted: PositionFilter) -> None:
    if len(snapshots) > REQUEST_MAX:
        raise InvalidField("account", f"has more than {REQUEST_MAX:,} such positions; ask for fewer at a time")
    if not snapshots and wanted.instruments:
        raise NotFound("position", "/".join((*wanted.accounts, *wanted.instruments)))


def _receipt(snapshots: Sequence[PositionSnapshot], *, taken_at: datetime) -> SnapshotReceipt:
    failed = sum(snapshot.failure is not None for snapshot in snapshots)
    return SnapshotReceipt(
        taken_at=taken_at, taken=len(snapshots) - failed, failed=failed, snapshots=snapshots[:ANSWERED_MAX]
    )


def _receipt_bytes(receipt: SnapshotReceipt) -> bytes:
    return json.dumps([receipt.taken_at.isoformat(), receipt.taken, receipt.failed]).encode()


def _kept_receipt(kept: bytes) -> SnapshotReceipt:
    taken_at, taken, failed = json.loads(kept)
    return SnapshotReceipt(taken_at=datetime.fromisoformat(taken_at), taken=taken, failed=failed, snapshots=())
