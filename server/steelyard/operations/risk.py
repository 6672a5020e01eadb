"""What limits are held against: the exposures of an account and the result of its day, read in one snapshot."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol
from uuid import UUID

from steelyard.accounting.instruments import Instrument
from steelyard.accounting.keys import Account, InstrumentName, PositionKey
from steelyard.accounting.limits import (
    LimitKind,
    LimitSet,
    LimitsState,
    LimitState,
    RiskFigures,
    RiskRow,
    evaluate_limits,
    figures_of,
)
from steelyard.accounting.marks import STALE_AFTER, Mark
from steelyard.accounting.round_trips import CostMethod
from steelyard.accounting.trading_calendar import day_interval, day_of
from steelyard.operations.day_results import DayResults, DaySnapshot
from steelyard.operations.day_rules import rule_of_texts
from steelyard.operations.ports import AccountRules, Clock, StoredPosition
from steelyard.operations.reading import AS_IT_IS, Answer, Freshness, Heads, Reading, Snapshot

STANDING_ACCOUNTS_MAX = 50
"""Accounts with limits that are looked at together."""
WORST_FIRST = (LimitState.EXCEEDED, LimitState.UNKNOWN, LimitState.WITHIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRecord:
    """The limits of an account in one settle currency, with their record's own life."""

    account: Account
    limits: LimitSet
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """A limit that was exceeded, from the commit that showed it until the one that showed it back within."""

    breach_id: UUID
    account: Account
    currency: str
    kind: LimitKind
    instrument: InstrumentName | None
    """Only of INSTRUMENT_EXPOSURE."""
    limit: Decimal
    """As it was when the breach began."""
    opened_value: Decimal
    opened_seq: int
    """The step of the account's log at which it was seen."""
    opened_at: datetime
    closed_value: Decimal | None = None
    """None also where the limit was taken away."""
    closed_seq: int | None = None
    closed_at: datetime | None = None

    @property
    def subject(self) -> tuple[str, LimitKind, InstrumentName | None]:
        """Which limit it is."""
        return (self.currency, self.kind, self.instrument)


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """What a snapshot says about an account."""

    account: Account
    seq: int
    """The newest step of its log; 0: it never wrote."""
    rules: AccountRules
    """The defaults for an account without a record."""
    limits: Mapping[str, LimitRecord]
    """By settle currency."""
    unfolded: Mapping[PositionKey, str]
    """Keys with entries that are stored but not folded, and their settle currency."""


class RiskSnapshot(DaySnapshot, Protocol):
    """One consistent view of the store."""

    async def facts(self, account: Account) -> AccountFacts:
        """Rules, limits and log of an account; it need not exist."""
        ...

    async def rows(self, account: Account, *, method: CostMethod, since: datetime | None) -> Sequence[RiskRow]:
        """The open positions of an account, and those with a fill executed at `since` (None: never) or later, in key
        order, costs and gross by a method."""
        ...

    async def stored(self, key: PositionKey, *, has_lots: bool) -> StoredPosition:
        """One position as it is folded; version 0 where there is none."""
        ...

    async def traded(
        self, names: Collection[InstrumentName]
    ) -> Mapping[InstrumentName, tuple[Instrument, Mark | None]]:
        """Instruments and their marks; a futures contract has its root's record. Unknown ones are left out."""
        ...

    async def open_breaches(self, account: Account) -> Sequence[Breach]:
        """The breaches that have not ended."""
        ...

    async def heads(self, accounts: Collection[Account]) -> Heads:
        """The newest steps of accounts."""
        ...


class RiskStore(Protocol):
    """Hands out snapshots."""

    def snapshot(self) -> AbstractAsyncContextManager[RiskSnapshot]:
        """A REPEATABLE READ snapshot. Raises `StoreUnavailable`."""
        ...

    async def limited_accounts(self, accounts: Collection[Account]) -> Sequence[Account]:
        """Those of the accounts (none: of all) that have limits, in order."""
        ...


@dataclass(frozen=True, slots=True)
class AccountRisk:
    """An account against its limits, per settle currency."""

    facts: AccountFacts
    rows: Sequence[RiskRow]
    """What is open, and what moved in the day where a loss is limited."""
    figures: Mapping[str, RiskFigures]
    states: Mapping[str, LimitsState]
    """Where each limit stands, of the currencies that have any."""

    def figures_in(self, currency: str) -> RiskFigures:
        """The figures in a currency; zeros where nothing settles in it."""
        return self.figures.get(currency) or RiskFigures()

    def limits_in(self, currency: str) -> LimitSet:
        """The limits in a currency; none are set where there is no record."""
        record = self.facts.limits.get(currency)
        return LimitSet(currency=currency) if record is None else record.limits


@dataclass(frozen=True, slots=True)
class Standing:
    """Where accounts stand against their limits, all of them together."""

    states: Mapping[str, LimitState] = field(default_factory=dict)
    """By settle currency, where any account has limits."""
    is_whole: bool = True
    """False: more accounts have limits than are looked at together."""

    def limit_exceeded(self, currency: str) -> LimitState:
        """EXCEEDED where any limit in the currency is, else UNKNOWN where any may be, else WITHIN."""
        state = self.states.get(currency, LimitState.WITHIN)
        return state if self.is_whole or state is LimitState.EXCEEDED else LimitState.UNKNOWN


NO_LIMITS = Standing()


@dataclass(frozen=True, slots=True)
class RiskTerms:
    """What reading a risk depends on besides the store: the time, and what is kept of the day between reads."""

    days: DayResults
    clock: Clock
    stale_after: timedelta = STALE_AFTER


async def account_risk(snapshot: RiskSnapshot, account: Account, *, terms: RiskTerms) -> AccountRisk:
    """An account in a snapshot against its limits. The day is worked out only where a loss is limited."""
    now = terms.clock()
    facts = await snapshot.facts(account)
    rule = rule_of_texts(facts.rules.day_rule)
    day = day_interval(day_of(now, rule), rule)
    limited = [record.limits for record in facts.limits.values()]
    has_day = any(limits.day_loss_max is not None for limits in limited)
    rows = await snapshot.rows(account, method=facts.rules.cost_method, since=day[0] if has_day else None)
    figures = figures_of(rows)
    for limits in limited:
        figures.setdefault(limits.currency, RiskFigures())
    if has_day:
        results = await terms.days.of(
            snapshot, rows, seq=facts.seq, rules=facts.rules, day=day, unfolded=facts.unfolded
        )
        for currency, result in results.items():
            figures[currency] = replace(figures.get(currency, RiskFigures()), day=result)
    states = {limits.currency: evaluate_limits(limits, figures[limits.currency]) for limits in limited}
    return AccountRisk(facts, rows, figures, states)


async def heads_of(snapshot: RiskSnapshot, risk: AccountRisk, *, accounts: Collection[Account]) -> Heads:
    """The newest steps of accounts; that of the risk's own is known already."""
    facts = risk.facts
    others = [account for account in accounts if account != facts.account]
    known = {facts.account: facts.seq} if facts.seq else {}
    return {**known, **await snapshot.heads(others)} if others else known


class ReadRisk:
    """Tells where accounts stand against their limits."""

    def __init__(self, store: RiskStore, reading: Reading, *, terms: RiskTerms) -> None:
        self._store = store
        self._reading = reading
        self._terms = terms

    async def of(self, account: Account, *, freshness: Freshness = AS_IT_IS) -> Answer[AccountRisk]:
        """One account; it need not exist. Raises `StoreUnavailable`, `NotYetVisible`."""

        async def ask(heads: Collection[Account]) -> Snapshot[AccountRisk]:
            async with self._store.snapshot() as snapshot:
                risk = await account_risk(snapshot, account, terms=self._terms)
                return Snapshot(risk, await heads_of(snapshot, risk, accounts=heads))

        return await self._reading.answer(ask, accounts=(account,), freshness=freshness)

    async def limits_exceeded(self, accounts: Sequence[Account] = ()) -> Mapping[Account, Mapping[str, LimitsState]]:
        """Where accounts (none: all) stand, by account and settle currency; those without limits are left out."""
        return await self._states(await self._store.limited_accounts(accounts))

    async def standing(self, accounts: Sequence[Account] = ()) -> Standing:
        """Where accounts (none: all) stand together; at most 50 with limits are looked at."""
        limited = await self._store.limited_accounts(accounts)
        found: dict[str, set[LimitState]] = {}
        for by_currency in (await self._states(limited[:STANDING_ACCOUNTS_MAX])).values():
            for currency, state in by_currency.items():
                found.setdefault(currency, set()).add(state.limit_exceeded)
        states = {currency: next(each for each in WORST_FIRST if each in known) for currency, known in found.items()}
        return Standing(states, is_whole=len(limited) <= STANDING_ACCOUNTS_MAX)

    async def _states(self, accounts: Sequence[Account]) -> Mapping[Account, Mapping[str, LimitsState]]:
        found = {}
        for account in accounts:
            async with self._store.snapshot() as snapshot:
                found[account] = (await account_risk(snapshot, account, terms=self._terms)).states
        return found
