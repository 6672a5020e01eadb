"""Reconciling: positions are held against their own entries, their venue and their orders; what differs goes on record.

Looking and fixing are apart. Looking reads snapshots and changes no position. A fix is a write of its own, with a
version, an event and a cause like any other: what differs from the fold of a position's own entries is folded anew;
what differs from a venue is set by an adjustment, and only where the account lets its venue say what it holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol
from uuid import UUID, uuid4

from steelyard.accounting.errors import InvalidField, NotFound, SteelyardError, VersionMismatch
from steelyard.accounting.keys import Account, InstrumentName, PositionKey
from steelyard.operations.account_look import AccountLook, Looking, Progress
from steelyard.operations.examine_keys import told
from steelyard.operations.reconciling import (
    Compared,
    Finding,
    ReconciliationStats,
    Run,
    RunCause,
    RunState,
    Scope,
    Tally,
)

IN_CALL_MAX = 5_000
"""Positions that a call looks at while its caller waits; more are left to a worker."""
SAVE_INTERVAL_S = 1.0


class RunStore(Protocol):
    """Runs as they are stored."""

    async def begin(self, run: Run) -> Run | None:
        """Stores a new run; the stored one where its id is known. Raises `RequestIdReused`."""
        ...

    async def save(self, run: Run) -> None:
        """Writes how far a run is, or how it ended."""
        ...

    async def find(self, run_id: UUID) -> Run | None:
        """A run by its id."""
        ...

    async def take(self, *, now: datetime) -> Run | None:
        """The oldest run that waits, or that its worker has left; it is the caller's from now on."""
        ...

    async def tidy(self, *, now: datetime) -> None:
        """Forgets runs that are kept no longer."""
        ...

    async def stats(self, accounts: tuple[Account, ...]) -> ReconciliationStats:
        """What all runs that are kept came to, and what is open of these accounts (none: of all)."""
        ...


@dataclass(frozen=True, slots=True)
class Validation:
    """What looking at one position came to."""

    findings: Sequence[Finding]
    is_fixed: bool
    venue_error: str | None

    @property
    def is_valid(self) -> bool:
        """Whether it was as it should be when it was looked at."""
        return not self.findings

    @property
    def error_message(self) -> str:
        """What was wrong, in words; empty: nothing."""
        return "; ".join(map(told, self.findings))


@dataclass(frozen=True, slots=True)
class RunAnswer:
    """A run as a call leaves it, and the first of what it found."""

    run: Run
    findings: Sequence[Finding] = ()
    is_replayed: bool = False


class Reconcile:
    """Looks at positions for callers and for the schedule."""

    def __init__(self, looking: Looking, runs: RunStore, *, in_call_max: int = IN_CALL_MAX) -> None:
        self._with = looking
        self._runs = runs
        self._in_call_max = in_call_max

    # -- one position --------------------------------------------------------------------------------------------------

    async def validate(
        self, key: PositionKey, *, is_fixing: bool, is_trial: bool, expected_version: int | None = None
    ) -> Validation:
        """Looks at one position, with all books and legs of its instrument beside it, and fixes it if asked to.

        Raises `NotFound` where nobody knows of it, `VersionMismatch`, `StoreUnavailable`.
        """
        is_known = await self._is_known(key, expected_version=expected_version)
        scope = Scope((key.account,), (key.instrument,))
        progress = Progress(uuid4(), scope, is_fixing=is_fixing, is_trial=is_trial)
        await AccountLook(self._with, key.account, progress=progress, on_progress=_go_on).everything()
        findings = [finding for finding in progress.told if _concerns(finding, key)]
        if not is_known and not findings:
            raise NotFound("position", "/".join(key))
        return Validation(findings, progress.keys_fixed > 0, progress.venue_error)

    async def _is_known(self, key: PositionKey, *, expected_version: int | None) -> bool:
        async with self._with.store.snapshot() as book:
            seen = {each.key: each for each in await book.seen(key.account, [key.instrument])}
        version = seen[key].stored.version if key in seen else 0
        if expected_version is not None and expected_version != version:
            raise VersionMismatch(f"the position is at version {version}", current_version=str(version))
        return key in seen

    # -- runs ----------------------------------------------------------------------------------------------------------

    async def run(
        self, scope: Scope, *, is_fixing: bool, is_background: bool, request: tuple[UUID, bytes]
    ) -> RunAnswer:
        """Looks at all positions in a scope; beyond what a call may do, or if asked to, it is left to a worker.

        `request` is the id of the run and the hash of what was asked: the same again answers with the run as it is.
        Raises `RequestIdReused`, `StoreUnavailable`.
        """
        now = self._with.clock()
        is_left = is_background or await self._with.store.count_keys(scope) > self._in_call_max
        run = Run(
            run_id=request[0],
            cause=RunCause.CALL,
            state=RunState.PENDING if is_left else RunState.RUNNING,
            scope=scope,
            is_fixing=is_fixing,
            tally=Tally(),
            created_at=now,
            updated_at=now,
            body_hash=request[1],
        )
        known = await self._runs.begin(run)
        if known is not None:
            return RunAnswer(known, is_replayed=True)
        if is_left:
            return RunAnswer(run)
        progress = Progress(run.run_id, scope, is_fixing=is_fixing)
        # Shielded: a caller who goes away abandons the wait, not the run.
        return RunAnswer(await asyncio.shield(asyncio.ensure_future(self.work_on(run, progress))), progress.told)

    async def try_out(self, scope: Scope) -> RunAnswer:
        """What a run over a scope would find; nothing is written. Raises `InvalidField` for too large a scope."""
        if await self._with.store.count_keys(scope) > self._in_call_max:
            raise InvalidField("accounts", f"a trial looks at no more than {self._in_call_max:,} positions at once")
        now = self._with.clock()
        progress = Progress(uuid4(), scope, is_fixing=False, is_trial=True)
        await self._all_accounts(progress)
        run = Run(
            run_id=progress.run_id,
            cause=RunCause.CALL,
            state=RunState.SUCCEEDED,
            scope=scope,
            is_fixing=False,
            tally=progress.tally,
            created_at=now,
            updated_at=self._with.clock(),
            started_at=now,
            finished_at=self._with.clock(),
        )
        return RunAnswer(run, progress.told)

    async def work_on(self, run: Run, progress: Progress | None = None) -> Run:
        """Does a run that is ours, saves how far it is, and how it ended. Raises what ended it otherwise."""
        mine = progress or Progress(run.run_id, run.scope, is_fixing=run.is_fixing)
        saving = asyncio.ensure_future(self._save_regularly(run, mine))
        try:
            await self._all_accounts(mine)
        except BaseException as error:
            told_as = error.message if isinstance(error, SteelyardError) else type(error).__name__
            saving.cancel()
            await self._end(run, mine, state=RunState.FAILED, error=told_as)
            raise
        finally:
            saving.cancel()
            await asyncio.wait([saving])
        return await self._end(run, mine, state=RunState.SUCCEEDED)

    async def _all_accounts(self, progress: Progress) -> None:
        progress.keys_total = await self._with.store.count_keys(progress.scope)
        for account in await self._with.store.accounts(progress.scope):
            await AccountLook(self._with, account, progress=progress, on_progress=_go_on).everything()

    async def _save_regularly(self, run: Run, progress: Progress) -> None:
        while True:
            await asyncio.sleep(SAVE_INTERVAL_S)
            now = self._with.clock()
            await self._runs.save(replace(run, state=RunState.RUNNING, tally=progress.tally, updated_at=now))

    async def _end(self, run: Run, progress: Progress, *, state: RunState, error: str | None = None) -> Run:
        now = self._with.clock()
        ended = replace(run, state=state, tally=progress.tally, error=error, updated_at=now, finished_at=now)
        await self._runs.save(ended)
        self._with.observer.reconciled(ended, mismatches=progress.mismatches)
        return ended

    async def find(self, run_id: UUID) -> Run:
        """A run as it is. Raises `NotFound`."""
        run = await self._runs.find(run_id)
        if run is None:
            raise NotFound("run", str(run_id))
        return run

    async def stats(self, accounts: tuple[Account, ...]) -> ReconciliationStats:
        """What all runs that are kept came to, and what is open of these accounts (none: of all)."""
        return await self._runs.stats(accounts)

    # -- for the schedule ----------------------------------------------------------------------------------------------

    async def run_all(self, *, is_fixing: bool) -> Run:
        """The periodic run over everything."""
        now = self._with.clock()
        run = Run(
            run_id=uuid4(),
            cause=RunCause.PERIODIC,
            state=RunState.RUNNING,
            scope=Scope(),
            is_fixing=is_fixing,
            tally=Tally(),
            created_at=now,
            updated_at=now,
        )
        await self._runs.begin(run)
        return await self.work_on(run)

    async def take_up(self) -> int:
        """Does the runs that wait, or that a worker has left; how many."""
        done = 0
        while run := await self._runs.take(now=self._with.clock()):
            await self.work_on(run)
            done += 1
        return done

    async def sample(self, pairs: Sequence[tuple[Account, InstrumentName]], *, is_fixing: bool) -> int:
        """Looks at a few positions without asking anybody else; how many findings there are against their own
        entries. A sample that finds nothing leaves no trace."""
        now = self._with.clock()
        mismatches = 0
        for account, instrument in pairs:
            progress = Progress(uuid4(), Scope((account,), (instrument,)), is_fixing=is_fixing)
            await AccountLook(self._with, account, progress=progress, on_progress=_go_on).sample(instrument)
            mismatches += progress.mismatches
            run = Run(
                run_id=progress.run_id,
                cause=RunCause.SAMPLE,
                state=RunState.RUNNING,
                scope=progress.scope,
                is_fixing=is_fixing,
                tally=progress.tally,
                created_at=now,
                updated_at=now,
            )
            if progress.kinds:
                await self._runs.begin(run)
                await self._end(run, progress, state=RunState.SUCCEEDED)
            else:
                self._with.observer.reconciled(replace(run, state=RunState.SUCCEEDED), mismatches=0)
        return mismatches

    async def tidy(self) -> None:
        """Forgets runs that are kept no longer."""
        await self._runs.tidy(now=self._with.clock())


def _go_on() -> None:
    pass


def _concerns(finding: Finding, key: PositionKey) -> bool:
    """A venue knows no books: what it says of a leg concerns every book that holds it."""
    is_venues = finding.compared in (Compared.VENUE, Compared.REPORT) and finding.key.leg is key.leg
    return finding.key == key or is_venues
