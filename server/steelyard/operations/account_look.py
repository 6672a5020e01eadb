"""One pass over an account: what is looked at together, what is asked of whom, and what is kept of it.

The venue is asked once, before the first position is read, and again before a difference from it counts: a fill may
have been on its way. A venue that does not answer makes no finding and settles none.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol
from uuid import UUID

from steelyard.accounting.errors import SteelyardError, StoreUnavailable
from steelyard.accounting.keys import Account, InstrumentName, PositionKey
from steelyard.accounting.venue_report import SIZE_TOLERANCE
from steelyard.operations.examine_keys import Examination, Examined, ReconcileBook
from steelyard.operations.fix_positions import FixPositions, FixStore
from steelyard.operations.ports import Clock
from steelyard.operations.reconciling import (
    FINDINGS_TOLD_MAX,
    Compared,
    Finding,
    FindingKind,
    ReconcileObserver,
    Scope,
    Tally,
    Unobserved,
)
from steelyard.operations.venue_positions import OrderManager, VenueFailure, VenuePositions, VenueSource

INSTRUMENTS_AT_ONCE = 50
"""Instruments of an account that share a snapshot."""
CONFIRM_AFTER_S = 1.0
"""How long after a difference from the venue it is asked again."""
BY_KEY = frozenset({Compared.FOLD, Compared.REPORT})
"""What every look at a position compares."""
_SET_BY_VENUE = frozenset(
    {FindingKind.SIZE, FindingKind.SIDE, FindingKind.AVERAGE, FindingKind.MISSING, FindingKind.EXTRA}
)


@dataclass(frozen=True, slots=True)
class ReconcileTerms:
    """How reconciling goes about it."""

    size_tolerance: Decimal = SIZE_TOLERANCE
    confirm_after_s: float = CONFIRM_AFTER_S
    fixes_venue: bool = True
    """Whether a run that fixes also sets what differs from a venue, where the account's authority says so."""
    stalled_after: timedelta = timedelta(seconds=60)
    """How long builds, and entries that wait for one, may stand still."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What was looked at completely, so that a record that was not seen again is over."""

    compared: frozenset[Compared]
    instruments: tuple[InstrumentName, ...] = ()
    """Empty: all of the account."""
    waiting: frozenset[InstrumentName] = frozenset()
    """Those that could not be compared."""


class Records(Protocol):
    """Where findings are kept."""

    async def note(self, findings: Sequence[Finding], *, run_id: UUID, now: datetime) -> int:
        """Puts findings on record, those that are open already as the same record; how many are new."""
        ...

    async def settle(self, account: Account, settled: Settled, *, before: datetime, now: datetime) -> int:
        """Resolves open records that were looked for and not seen since `before`; how many."""
        ...


class ReconcileStore(FixStore, Protocol):
    """The book and the records as reconciling needs them."""

    def snapshot(self) -> AbstractAsyncContextManager[ReconcileBook]:
        """One consistent view of the book that holds nobody up."""
        ...

    def recording(self) -> AbstractAsyncContextManager[Records]:
        """A transaction on the records; what is new is told to others with it."""
        ...

    async def accounts(self, scope: Scope) -> Sequence[Account]:
        """The accounts in a scope that have anything."""
        ...

    async def count_keys(self, scope: Scope) -> int:
        """How many positions a scope has."""
        ...

    def instruments(self, account: Account, scope: Scope, *, size: int) -> AsyncIterator[Sequence[InstrumentName]]:
        """The instruments of an account in a scope with positions or entries, `size` at a time."""
        ...

    async def integrity(
        self, account: Account, scope: Scope, *, now: datetime, stalled_after: timedelta
    ) -> Sequence[Finding]:
        """What is wrong beside positions: fills of imports that were taken back, builds without progress."""
        ...


@dataclass(slots=True)
class Progress:
    """What a run came to, as it goes on."""

    run_id: UUID
    scope: Scope
    is_fixing: bool
    is_trial: bool = False
    """Nothing is written, neither positions nor records."""
    keys_total: int = 0
    keys_checked: int = 0
    keys_waiting: int = 0
    keys_fixed: int = 0
    found_new: int = 0
    resolved: int = 0
    venue_error: str | None = None
    kinds: Counter[str] = field(default_factory=Counter)
    mismatches: int = 0
    """Findings against a position's own entries."""
    told: list[Finding] = field(default_factory=list)
    """The first findings, as many as an answer names."""

    def found(self, findings: Sequence[Finding]) -> None:
        """Counts findings."""
        self.kinds.update(finding.kind.value for finding in findings)
        self.mismatches += sum(finding.compared is Compared.FOLD for finding in findings)
        self.told += findings[: FINDINGS_TOLD_MAX - len(self.told)]

    @property
    def tally(self) -> Tally:
        """As it is now."""
        return Tally(
            keys_total=max(self.keys_total, self.keys_checked + self.keys_waiting),
            keys_checked=self.keys_checked,
            keys_waiting=self.keys_waiting,
            keys_fixed=self.keys_fixed,
            found=self.kinds.total(),
            found_new=self.found_new,
            resolved=self.resolved,
            by_kind=dict(self.kinds),
            venue_error=self.venue_error,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """Everything that a pass works with."""

    store: ReconcileStore
    venue: VenueSource
    orders: OrderManager
    fix: FixPositions
    clock: Clock
    terms: ReconcileTerms = ReconcileTerms()
    observer: ReconcileObserver = field(default_factory=Unobserved)


class AccountLook:
    """One pass over an account."""

    def __init__(
        self, looking: Looking, account: Account, *, progress: Progress, on_progress: Callable[[], object]
    ) -> None:
        self._with = looking
        self._account = account
        self._progress = progress
        self._on_progress = on_progress
        self._started = looking.clock()
        self._asked: VenuePositions | None = None
        self._waiting: set[InstrumentName] = set()
        self._held_back: list[Finding] = []
        """Differences from the venue, until it has said so twice."""
        self._to_set: list[Finding] = []
        """What a venue may set."""

    async def everything(self) -> None:
        """Looks at all instruments in the run's scope, against everything there is to compare with."""
        scope = self._progress.scope
        self._asked = await self._ask()
        seen: set[InstrumentName] = set()
        async for names in self._with.store.instruments(self._account, scope, size=INSTRUMENTS_AT_ONCE):
            seen.update(names)
            await self._look(names)
        beyond = sorted(self._named_by_venue() - seen)
        for start in range(0, len(beyond), INSTRUMENTS_AT_ONCE):
            await self._look(beyond[start : start + INSTRUMENTS_AT_ONCE])
        await self._keep(await self._confirmed())
        await self._keep(await self._beside())
        compared = BY_KEY | {Compared.ORDERS, Compared.BOOK}
        await self._settle(compared if self._asked is None else compared | {Compared.VENUE})
        await self._follow_venue()

    async def sample(self, instrument: InstrumentName) -> None:
        """Looks at one instrument's positions without asking anybody else."""
        await self._look([instrument])
        await self._settle(BY_KEY)

    # -- looking -------------------------------------------------------------------------------------------------------

    async def _ask(self) -> VenuePositions | None:
        venue, named = self._with.venue, self._progress.scope.instruments
        if venue.account != self._account:
            return None
        answer = await venue.positions(named[0] if len(named) == 1 else None)
        if isinstance(answer, VenueFailure):
            self._progress.venue_error = answer.told
            self._with.observer.venue_failed(answer.reason)
            return None
        return answer

    def _named_by_venue(self) -> set[InstrumentName]:
        if self._asked is None:
            return set()
        wanted = self._progress.scope.instruments
        return {each.instrument for each in self._asked.positions if not wanted or each.instrument in wanted}

    async def _look(self, names: Sequence[InstrumentName]) -> None:
        examined = await self._examined(names)
        progress = self._progress
        progress.keys_checked += len(examined.keys)
        progress.keys_waiting += len(examined.waiting)
        self._waiting.update(key.instrument for key in examined.waiting)
        self._held_back += [finding for finding in examined.findings if finding.compared is Compared.VENUE]
        await self._keep([finding for finding in examined.findings if finding.compared is not Compared.VENUE])
        self._on_progress()

    async def _examined(self, names: Sequence[InstrumentName]) -> Examined:
        terms = Examination(
            now=self._with.clock(),
            venue=self._asked,
            covers=self._with.venue.covers,
            size_tolerance=self._with.terms.size_tolerance,
        )
        async with self._with.store.snapshot() as book:
            return await terms.look(book, self._account, instruments=names)

    async def _confirmed(self) -> list[Finding]:
        """Differences from the venue that are still there when it is asked again."""
        if not self._held_back:
            return []
        await asyncio.sleep(self._with.terms.confirm_after_s)
        self._asked = await self._ask()
        if self._asked is None:
            return []
        before = {(finding.key, finding.kind) for finding in self._held_back}
        examined = await self._examined(sorted({key.instrument for key, _ in before}))
        again = [finding for finding in examined.findings if finding.compared is Compared.VENUE]
        return [finding for finding in again if (finding.key, finding.kind) in before]

    async def _beside(self) -> list[Finding]:
        """What is compared for the whole account at once."""
        scope, terms = self._progress.scope, self._with.terms
        found = await self._with.store.integrity(
            self._account, scope, now=self._with.clock(), stalled_after=terms.stalled_after
        )
        orders = await self._with.orders.differences(self._account, instruments=scope.instruments)
        return [*found, *(_of_orders(each.key, each.ours, theirs=each.theirs, orders=each.orders) for each in orders)]

    # -- keeping and fixing --------------------------------------------------------------------------------------------

    async def _keep(self, findings: Sequence[Finding]) -> None:
        progress = self._progress
        progress.found(findings)
        if not findings or progress.is_trial:
            return
        async with self._with.store.recording() as records:
            progress.found_new += await records.note(findings, run_id=progress.run_id, now=self._with.clock())
        if progress.is_fixing:
            self._to_set += [finding for finding in findings if _may_be_set(finding)]
            for key in sorted({finding.key for finding in findings if finding.compared is Compared.FOLD}):
                await self._fix_fold(key)

    async def _fix_fold(self, key: PositionKey) -> None:
        with _left_open():
            self._progress.keys_fixed += await self._with.fix.fold(key, run_id=self._progress.run_id)

    async def _follow_venue(self) -> None:
        if not self._with.terms.fixes_venue:
            return
        progress = self._progress
        for key in sorted({finding.key for finding in self._to_set}):
            is_asked = any(finding.key == key and finding.compared is Compared.VENUE for finding in self._to_set)
            told = self._asked if is_asked else None
            with _left_open():
                progress.keys_fixed += await self._with.fix.follow_venue(key, told=told, run_id=progress.run_id)

    async def _settle(self, compared: Collection[Compared]) -> None:
        progress = self._progress
        if progress.is_trial:
            return
        settled = Settled(frozenset(compared), progress.scope.instruments, frozenset(self._waiting))
        async with self._with.store.recording() as records:
            progress.resolved += await records.settle(
                self._account, settled, before=self._started, now=self._with.clock()
            )


@contextmanager
def _left_open() -> Iterator[None]:
    """A fix that is refused leaves its record open; a store that is away ends the run."""
    try:
        yield
    except StoreUnavailable:
        raise
    except SteelyardError:
        return


def _may_be_set(finding: Finding) -> bool:
    return finding.compared in (Compared.VENUE, Compared.REPORT) and finding.kind in _SET_BY_VENUE


def _of_orders(key: PositionKey, ours: Decimal, *, theirs: Decimal, orders: int) -> Finding:
    detail = f"{orders} {'order' if orders == 1 else 'orders'} filled otherwise than is said of them"
    return Finding(key, FindingKind.SIZE, Compared.ORDERS, ours, theirs, detail, source="orders")
