"""What one transaction does with a handful of fills: check, record, fold, and say of each what it came to.

The order of steps is the lock order of the store: fills, then positions, then (at commit) the heads of the accounts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple, Protocol

from steelyard.accounting.entries import Entry, Fill, check_fill, entry_of_fill
from steelyard.accounting.errors import (
    FillConflict,
    LegOverrun,
    PeriodSealed,
    SteelyardError,
    UnknownInstrument,
    VersionMismatch,
)
from steelyard.accounting.fold import FoldRules
from steelyard.accounting.instruments import Instrument
from steelyard.accounting.keys import Account, FillId, InstrumentName, OrderKey, PositionKey
from steelyard.operations.late_entries import PastChange, RefoldLimits, added_by, change_key
from steelyard.operations.ports import (
    AccountRules,
    BookTransaction,
    Commit,
    FillOutcome,
    KeyChange,
    OpenTransaction,
    RecordedFill,
    StaleRange,
    StoredPosition,
)
from steelyard.operations.refold import Cause

# Names of their own: looking members up in their class is slow.
_RECORDED = FillOutcome.RECORDED
_REPEATS = (FillOutcome.REPEATED, FillOutcome.BUSTED)


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How a caller wants his fills recorded."""

    is_auto_update: bool = True
    """False stores the fill as pending, to be folded by the next build of its key."""
    is_validate_only: bool = False
    is_reject_overrun: bool = False
    expected_version: int | None = None


class FillReceipt(NamedTuple):
    """What a fill came to. `version` is that of the position in which it is applied; None while it is pending."""

    fill_id: FillId
    key: PositionKey
    version: int | None
    is_replayed: bool = False
    is_pending: bool = False
    commits: Sequence[Commit] = ()
    """Of its account. Receipts of one account and transaction share one list, which the commit fills."""


@dataclass(slots=True)
class Applied:
    """The outcome of one transaction: per fill a receipt or an error, and keys whose refold is still owed."""

    results: list[FillReceipt | SteelyardError] = field(default_factory=list)
    commits: dict[Account, list[Commit]] = field(default_factory=dict)
    """What the receipts of each account show as their commits."""
    owed: list[PositionKey] = field(default_factory=list)
    """Keys too long to fold again here, short enough to fold while the caller waits."""


class PlaceInLine(Protocol):
    """When a transaction that follows another one closely may go on to positions."""

    async def come(self) -> None:
        """Waits until the transaction before has ended."""
        ...

    def hold_positions(self) -> None:
        """The positions are locked: the next transaction may begin."""
        ...


class _Alone:
    async def come(self) -> None:
        pass

    def hold_positions(self) -> None:
        pass


ALONE: PlaceInLine = _Alone()
"""Follows nothing, and nothing follows it."""


@dataclass(slots=True)
class _Recorded:
    """The new entries of a key in this transaction."""

    fills: list[Fill]
    first: OrderKey
    last: OrderKey
    is_fresh: bool = True
    """False: one of the fills was known and came back or moved, so entries are to be read as the store has them now."""


@dataclass(frozen=True, slots=True)
class _Terms:
    """What folding the keys of one transaction depends on."""

    accounts: Mapping[Account, AccountRules]
    instruments: Mapping[InstrumentName, Instrument]
    options: WriteOptions
    limits: RefoldLimits

    def rules_of(self, key: PositionKey) -> FoldRules:
        return FoldRules(self.instruments[key.instrument], key.leg, self.accounts[key.account].lot_method)


async def apply_fills(
    book: OpenTransaction,
    fills: Sequence[Fill],
    *,
    options: WriteOptions,
    new_accounts: AccountRules | None,
    limits: RefoldLimits,
    now: datetime,
    turn: PlaceInLine = ALONE,
) -> Applied:
    """Records fills that share their options and folds them into their positions, each key one version further."""
    rules = await book.accounts({fill.key.account for fill in fills}, make=new_accounts)
    instruments = await book.instruments({fill.key.instrument for fill in fills})
    refusals = [_refusal(fill, rules=rules, instruments=instruments, now=now) for fill in fills]
    accepted = [fill for fill, refusal in zip(fills, refusals, strict=True) if refusal is None]
    outcomes = iter(await book.insert_fills(accepted, instruments) if accepted else ())
    recorded = [None if refusal is not None else next(outcomes) for refusal in refusals]
    await _let_repeats_pass(book, fills, refusals=refusals, recorded=recorded, instruments=instruments)
    by_key = _changes_by_key(fills, recorded)
    await turn.come()
    applied = Applied()
    if options.is_auto_update:
        # A fill that came back may lie on another key than it was given with.
        others = {key.instrument for key in by_key} - instruments.keys()
        known = {**instruments, **await book.instruments(others)} if others else instruments
        terms = _Terms(rules, known, options, limits)
        versions = await _fold(book, by_key, terms=terms, applied=applied, turn=turn)
    else:
        versions = {}
        await _set_aside(book, by_key)
    if accepted:
        await book.touch(key.account for key in by_key)
    replayed = await book.applied_versions(
        [(fill.account, fill.fill_id) for fill, step in zip(fills, recorded, strict=True) if _is_repeat(step)]
    )
    for fill, refusal, step in zip(fills, refusals, recorded, strict=True):
        commits = applied.commits.setdefault(fill.key.account, [])
        applied.results.append(_result(fill, refusal or step, commits=commits, versions=versions, replayed=replayed))
    return applied


def _refusal(
    fill: Fill,
    *,
    rules: Mapping[Account, AccountRules],
    instruments: Mapping[InstrumentName, Instrument],
    now: datetime,
) -> SteelyardError | None:
    account = rules.get(fill.account)
    if account is not None and account.sealed_before is not None and fill.executed_at < account.sealed_before:
        return PeriodSealed(f"account {fill.account} is sealed before {account.sealed_before.isoformat()}")
    instrument = instruments.get(fill.key.instrument)
    if instrument is None:
        return UnknownInstrument(f"instrument {fill.key.instrument} has no record", instrument=fill.key.instrument)
    try:
        check_fill(fill, instrument, now=now)
    except SteelyardError as error:
        return error
    return None


async def _let_repeats_pass(
    book: OpenTransaction,
    fills: Sequence[Fill],
    *,
    refusals: list[SteelyardError | None],
    recorded: list[RecordedFill | None],
    instruments: Mapping[InstrumentName, Instrument],
) -> None:
    """A fill of a sealed period that is known as it stands is a repeat, and changes nothing."""
    sealed = [
        place
        for place, refusal in enumerate(refusals)
        if isinstance(refusal, PeriodSealed) and fills[place].key.instrument in instruments
    ]
    if not sealed:
        return
    known = await book.repeats_of_known([fills[place] for place in sealed], instruments)
    for place, repeat in zip(sealed, known, strict=True):
        if repeat is not None:
            refusals[place], recorded[place] = None, repeat


def _changes_by_key(fills: Sequence[Fill], recorded: Sequence[RecordedFill | None]) -> dict[PositionKey, _Recorded]:
    by_key: dict[PositionKey, _Recorded] = {}
    for given, step in zip(fills, recorded, strict=True):
        if step is None or step.changed is None:
            continue
        first, last = step.changed
        fill = step.stored or given
        known = by_key.get(fill.key)
        if known is None:
            known = by_key[fill.key] = _Recorded([], first, last)
        elif first < known.first or last > known.last:
            known.first, known.last = min(first, known.first), max(last, known.last)
        if step.stored is not None:
            known.is_fresh = False
        if step.outcome is _RECORDED:
            known.fills.append(fill)
    return by_key


async def _set_aside(book: BookTransaction, by_key: Mapping[PositionKey, _Recorded]) -> None:
    """Keeps new fills as pending: stored, but left out of the position until something folds their key."""
    await book.mark_stale(
        {
            key: StaleRange(new.first, new.last, len(new.fills), 1, is_held=True, reason="PENDING")
            for key, new in by_key.items()
        }
    )


async def _fold(
    book: BookTransaction,
    by_key: Mapping[PositionKey, _Recorded],
    *,
    terms: _Terms,
    applied: Applied,
    turn: PlaceInLine,
) -> dict[PositionKey, int]:
    positions = await book.lock_positions(by_key) if by_key else {}
    turn.hold_positions()
    # A change of an account's lot method marks its keys stale: rules older than the stale ranges read with the locks
    # would fold such a range by the old method and clear it.
    terms = replace(terms, accounts=await book.accounts({key.account for key in by_key}, make=None))
    changes: list[KeyChange] = []
    for key, new in sorted(by_key.items()):
        stored = positions[key]
        expected = terms.options.expected_version
        if expected is not None and stored.version != expected:
            raise VersionMismatch(f"the position is at version {stored.version}", current_version=str(stored.version))
        change = await _change(book, stored, new=new, terms=terms, applied=applied)
        if terms.options.is_reject_overrun and change.state.lifetime.unmatched > stored.state.lifetime.unmatched:
            raise LegOverrun(f"{key.leg} leg of {key.instrument} holds {abs(stored.state.quantity)}")
        changes.append(change)
    await book.apply(changes)
    return {change.key: change.expected_version + 1 for change in changes}


async def _change(
    book: BookTransaction, stored: StoredPosition, *, new: _Recorded, terms: _Terms, applied: Applied
) -> KeyChange:
    rules = terms.rules_of(stored.key)
    entries = sorted((entry_of_fill(fill, rules.instrument) for fill in new.fills), key=_order)
    change, is_owed = await change_key(
        book,
        stored,
        past=PastChange(new.first, new.last, added_by(entries), entries if new.is_fresh else ()),
        rules=rules,
        limits=terms.limits,
        cause=Cause("fill", new.fills[0].fill_id if new.fills else None, _ids(new.fills), len(new.fills)),
    )
    if is_owed:
        applied.owed.append(stored.key)
    return change


def _order(entry: Entry) -> OrderKey:
    return entry.order


def _ids(fills: Sequence[Fill]) -> list[str]:
    return [fill.fill_id for fill in fills[:100]]


def _is_repeat(step: RecordedFill | None) -> bool:
    return step is not None and step.outcome is not _RECORDED and step.outcome in _REPEATS


def _result(
    fill: Fill,
    step: SteelyardError | RecordedFill | None,
    *,
    commits: Sequence[Commit],
    versions: Mapping[PositionKey, int],
    replayed: Mapping[tuple[Account, FillId], int | None],
) -> FillReceipt | SteelyardError:
    if isinstance(step, SteelyardError):
        return step
    assert step is not None
    key = fill.key if step.stored is None else step.stored.key
    version = versions.get(key)
    if step.outcome is _RECORDED:
        return FillReceipt(fill.fill_id, key, version, is_pending=version is None, commits=commits)
    if step.outcome is FillOutcome.CONFLICTING:
        return FillConflict(f"fill {fill.fill_id} is known with other content", fill_id=fill.fill_id)
    # A repeat within the batch that records the fill has no commit to be found by yet.
    version = replayed.get((fill.account, fill.fill_id)) or version
    is_pending = version is None and step.outcome is not FillOutcome.BUSTED
    return FillReceipt(fill.fill_id, key, version, is_replayed=True, is_pending=is_pending, commits=commits)
