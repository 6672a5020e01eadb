"""Writes down when limits are broken and when they hold again, by following the logs of the accounts that have any.

Problem: a breach must be on record once, although several processes look, and although exposures move with prices and
days as well as with commits. Choice: poll the heads of the limited accounts (one statement; a head that moved means a
commit) and look at all of them now and then for the prices' sake. An account is evaluated in one snapshot together with
its open breaches; only a difference is written, and the store lets one open breach of a limit exist at a time.
Rejected: evaluating inside the writers' transactions (limits would slow every fill), and one elected process (a breach
would wait for its successor).

A limit whose value is not known stays as it was: a breach ends only where the value is known to be back within, or the
limit is taken away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol
from uuid import UUID, uuid4

from steelyard.accounting.errors import SteelyardError, StoreUnavailable
from steelyard.accounting.keys import Account, InstrumentName
from steelyard.accounting.limits import LimitKind, LimitState
from steelyard.operations.reading import Heads
from steelyard.operations.risk import AccountRisk, Breach, RiskStore, RiskTerms, account_risk

INTERVAL_S = 0.2
"""How often the heads are looked at."""
REPRICE_INTERVAL_S = 5.0
"""How often every limited account is looked at even without a commit: prices move and days end."""
RETRY_INTERVAL_S = 1.0

Subject = tuple[str, LimitKind, InstrumentName | None]


@dataclass(frozen=True, slots=True)
class BreachChanges:
    """Breaches that begin and breaches that end."""

    opened: Sequence[Breach] = ()
    closed: Sequence[Breach] = ()

    def __bool__(self) -> bool:
        return bool(self.opened or self.closed)


class BreachStore(RiskStore, Protocol):
    """Reads risk and keeps breaches."""

    async def watched_heads(self) -> Heads:
        """The heads of the accounts that have limits or open breaches; 0 for one that never wrote."""
        ...

    async def write_breaches(self, changes: BreachChanges) -> BreachChanges:
        """Writes what nobody else has written yet, in one transaction that steps the account's log and tells others of
        what begins; gives what was written."""
        ...


def breach_changes(
    risk: AccountRisk, open_breaches: Sequence[Breach], *, now: datetime, new_id: Callable[[], UUID] = uuid4
) -> BreachChanges:
    """What has to be written so that the open breaches are the limits that are exceeded."""
    facts = risk.facts
    checks = {
        (currency, check.kind, check.instrument): check
        for currency, state in risk.states.items()
        for check in state.checks
    }
    known: Mapping[Subject, Breach] = {breach.subject: breach for breach in open_breaches}
    opened = [
        Breach(
            breach_id=new_id(),
            account=facts.account,
            currency=subject[0],
            kind=check.kind,
            instrument=check.instrument,
            limit=check.limit,
            opened_value=check.value,
            opened_seq=facts.seq,
            opened_at=now,
        )
        for subject, check in checks.items()
        if check.state is LimitState.EXCEEDED and subject not in known
    ]
    closed = []
    for subject, breach in known.items():
        check = checks.get(subject)
        if check is None or check.state is LimitState.WITHIN:
            value = None if check is None else check.value
            closed.append(replace(breach, closed_value=value, closed_seq=facts.seq, closed_at=now))
    return BreachChanges(opened, closed)


class WatchLimits:
    """Follows the limited accounts; one per process, any number of them."""

    def __init__(
        self,
        store: BreachStore,
        *,
        terms: RiskTerms,
        interval_s: float = INTERVAL_S,
        reprice_interval_s: float = REPRICE_INTERVAL_S,
    ) -> None:
        self._store = store
        self._terms = terms
        self._interval_s = interval_s
        self._reprice_interval_s = reprice_interval_s
        self._seen: dict[Account, tuple[int, float]] = {}
        self.failed: dict[Account, SteelyardError] = {}
        """Accounts that could not be evaluated the last time, and why; the others go on."""
        self.task: asyncio.Task[None] | None = None
        """Runs until `close`; when it ends by itself, the process has to end with what it raises."""

    def start(self) -> None:
        """Begins to follow."""
        self.task = asyncio.create_task(self._run(), name="watch_limits")

    async def close(self) -> None:
        """Follows no more."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except SteelyardError:
                # The store is away: nothing is lost, since breaches are found from what is, not from what happened.
                await asyncio.sleep(RETRY_INTERVAL_S)
            await asyncio.sleep(self._interval_s)

    async def look(self) -> None:
        """Evaluates the limited accounts that moved since the last look, or have not been looked at for a while."""
        heads = await self._store.watched_heads()
        now = asyncio.get_running_loop().time()
        for account in self._seen.keys() - heads.keys():
            del self._seen[account]
        for account, seq in heads.items():
            seen = self._seen.get(account)
            if seen is None or seen[0] != seq or now - seen[1] >= self._reprice_interval_s:
                await self._try(account, now=now)

    async def _try(self, account: Account, *, now: float) -> None:
        try:
            self._seen[account] = (await self.evaluate(account), now)
            self.failed.pop(account, None)
        except StoreUnavailable:
            raise
        except SteelyardError as error:
            self.failed[account] = error

    async def evaluate(self, account: Account) -> int:
        """Brings the breaches of an account up to date; gives the step of its log that was looked at."""
        async with self._store.snapshot() as snapshot:
            risk = await account_risk(snapshot, account, terms=self._terms)
            known = await snapshot.open_breaches(account)
        changes = breach_changes(risk, known, now=self._terms.clock())
        if changes:
            await self._store.write_breaches(changes)
        return risk.facts.seq
