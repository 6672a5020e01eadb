"""Fixing positions: a write of its own, with a version, an event and a cause, under the lock of the position's row.

What differs from the fold of a position's own entries is folded anew from the very start. What differs from a venue is
set as a report of the venue would set it, which the account's authority must allow. Nothing else is ever changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Protocol
from uuid import UUID

from steelyard.accounting.errors import VersionMismatch
from steelyard.accounting.keys import Account, InstrumentName, PositionKey
from steelyard.accounting.units import ZERO
from steelyard.accounting.venue_report import SizeAuthority, VenueReport
from steelyard.operations.apply_venue_report import apply_report
from steelyard.operations.compare_positions import fold_findings
from steelyard.operations.examine_keys import ReconcileBook, fold_entries
from steelyard.operations.feed_messages import Receipt
from steelyard.operations.feed_ports import FeedBook, FeedRules
from steelyard.operations.fill_writer import with_retries
from steelyard.operations.late_entries import rules_of
from steelyard.operations.ports import Clock
from steelyard.operations.reconciling import Compared
from steelyard.operations.refold import Cause, refold_key
from steelyard.operations.venue_positions import VenuePositions

CAUSE = "reconcile"
FOLDED_HERE_MAX = 50_000
"""Entries that a fix folds itself; a position with more is handed to a build."""
REBUILT = "REBUILT"
"""The resolution: folded anew from its entries."""
ADJUSTED = "ADJUSTED"
"""The resolution: set to what the venue says."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """A fix that was made: what it settles."""

    compared: Collection[Compared]
    resolution: str
    version: int
    """The version of the position that it made."""
    run_id: UUID
    now: datetime


class FixBook(FeedBook, ReconcileBook, Protocol):
    """One transaction in which a position is fixed."""

    async def restore(self, key: PositionKey) -> None:
        """Gives a position that has entries but no row its row back, empty, under the last version that it had; what
        is left over of one without any version goes."""
        ...

    async def fixed(self, key: PositionKey, done: Fixed) -> int:
        """Resolves the open records of a position that a fix has settled; how many."""
        ...


class FixStore(Protocol):
    """Where positions are fixed."""

    def fixing(self, *, cause: str) -> AbstractAsyncContextManager[FixBook]:
        """A transaction that advances the heads of all touched accounts last."""
        ...

    async def rebuild(self, account: Account, instrument: InstrumentName) -> UUID:
        """Starts a full build of an instrument's positions; its id."""
        ...


class FixPositions:
    """Makes positions right."""

    def __init__(
        self, store: FixStore, clock: Clock, *, jitter: Callable[[], float], rules: FeedRules | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._jitter = jitter
        self._rules = rules or FeedRules()

    async def fold(self, key: PositionKey, *, run_id: UUID, expected_version: int | None = None) -> bool:
        """Folds a position anew from its entries; False where it was right already, or where a build does it.

        Raises `VersionMismatch` where it is not at the version expected.
        """
        work = partial(self._fold, key, run_id=run_id, expected_version=expected_version)
        is_fixed = await with_retries(work, jitter=self._jitter)
        if is_fixed is None:
            await self._store.rebuild(key.account, key.instrument)
        return bool(is_fixed)

    async def _fold(self, key: PositionKey, *, run_id: UUID, expected_version: int | None) -> bool | None:
        async with self._store.fixing(cause=CAUSE) as book:
            await book.restore(key)
            stored = (await book.lock_positions([key]))[key]
            if expected_version is not None and stored.version != expected_version:
                raise VersionMismatch("the position has changed meanwhile", current_version=str(stored.version))
            if await book.count_entries(key, start=None, limit=FOLDED_HERE_MAX + 1) > FOLDED_HERE_MAX:
                return None
            seen = next((each for each in await book.seen(key.account, [key.instrument]) if each.key == key), None)
            if seen is None:
                return False
            rules = await rules_of(book, key)
            if not fold_findings(seen, await fold_entries(book, seen, rules=rules)):
                return False
            # Its lots are read whatever its quantity is, so that none is left over.
            whole = replace(stored, state=replace(stored.state, lots=seen.stored.state.lots))
            cause = Cause(CAUSE, str(run_id))
            change = await refold_key(book, stored=whole, rules=rules, changed=None, cause=cause)
            await book.apply([change])
            done = Fixed((Compared.FOLD,), REBUILT, stored.version + 1, run_id, self._clock())
            await book.fixed(key, done)
            return True

    async def follow_venue(self, key: PositionKey, *, told: VenuePositions | None, run_id: UUID) -> bool:
        """Sets a position to what its venue says, `told` now or else in its last report; False where the account does
        not let it, or nothing changes."""
        work = partial(self._follow_venue, key, told=told, run_id=run_id)
        return await with_retries(work, jitter=self._jitter)

    async def _follow_venue(self, key: PositionKey, *, told: VenuePositions | None, run_id: UUID) -> bool:
        now = self._clock()
        async with self._store.fixing(cause=CAUSE) as book:
            account = (await book.accounts([key.account], make=None)).get(key.account)
            if account is None or SizeAuthority(account.size_authority) is SizeAuthority.FILLS:
                return False
            report = await _last_report(book, key) if told is None else _report(key, told)
            if report is None:
                return False
            receipt = Receipt(source=CAUSE, event_id=str(run_id), content_hash=b"", received_at=now)
            taken = await apply_report(book, report, receipt=receipt, rules=self._rules, new_accounts=None, now=now)
            if taken.version is None or taken.differences:
                return False
            settled = (Compared.VENUE, Compared.REPORT)
            await book.fixed(key, Fixed(settled, ADJUSTED, taken.version, run_id, now))
            return True


async def _last_report(book: FixBook, key: PositionKey) -> VenueReport | None:
    known = await book.reports(key.account, [key.instrument])
    return next((each.report for each in known if each.report.key == key), None)


def _report(key: PositionKey, told: VenuePositions) -> VenueReport:
    """What a venue's answer says of one position; what it does not name is flat."""
    for each in told.positions:
        if (each.instrument, each.leg) == (key.instrument, key.leg):
            return VenueReport(
                key=key,
                size=each.quantity.copy_abs(),
                quantity=each.quantity,
                average_price=each.average_price if each.quantity else None,
                reported_at=told.at,
                unrealized_pnl=each.unrealized_pnl,
                realized_pnl=each.realized_pnl,
                mark_price=each.mark_price,
                source=told.source,
            )
    return VenueReport(key=key, size=ZERO, quantity=ZERO, reported_at=told.at, source=told.source)
