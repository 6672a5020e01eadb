"""Corrects fills: an amendment is a new revision, a bust withdraws one for good; both fold what they touch again.

A correction names the revision it means. Repeating it is a replay: an amendment whose content already is that of the
next revision, a bust of a busted fill. The account of a fill never changes: bust it and record it anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from steelyard.accounting.entries import Fill, check_fill, entry_of_fill
from steelyard.accounting.errors import FillBusted, NotFound, PeriodSealed, UnknownInstrument, VersionMismatch
from steelyard.accounting.fold import FoldRules
from steelyard.accounting.instruments import Instrument
from steelyard.accounting.keys import Account, FillId, InstrumentName, PositionKey
from steelyard.operations.fill_writer import with_retries
from steelyard.operations.late_entries import PastChange, RefoldLimits, added_by, change_key, refold_stale, taken_by
from steelyard.operations.ports import (
    AccountRules,
    Clock,
    Commit,
    FillRecord,
    KeyChange,
    Ledger,
    OpenTransaction,
    Pending,
)
from steelyard.operations.refold import Cause


@dataclass(frozen=True, slots=True)
class CorrectionReceipt:
    """What a correction came to: the revision it made, and the versions of the positions it changed."""

    fill_id: FillId
    revision: int
    versions: Mapping[PositionKey, int]
    is_replayed: bool = False
    commits: Sequence[Commit] = ()


@dataclass(frozen=True, slots=True)
class Bust:
    """A correction that withdraws the fill for good."""


Correction = Callable[[Fill], Fill] | Bust
"""An amendment makes the new content from the current one."""


class CorrectFills:
    """Amends and busts fills."""

    def __init__(self, ledger: Ledger, clock: Clock, *, jitter: Callable[[], float], limits: RefoldLimits) -> None:
        self._ledger = ledger
        self._clock = clock
        self._jitter = jitter
        self._limits = limits

    async def amend(
        self, account: Account, fill_id: FillId, *, expected_revision: int, amendment: Callable[[Fill], Fill]
    ) -> CorrectionReceipt:
        """Replaces a fill's content. Raises `NotFound`, `FillBusted`, `VersionMismatch` and what refuses a fill."""
        return await self._shielded(account, fill_id, expected_revision=expected_revision, correction=amendment)

    async def bust(self, account: Account, fill_id: FillId, *, expected_revision: int) -> CorrectionReceipt:
        """Withdraws a fill for good. Raises `NotFound`, `VersionMismatch`."""
        return await self._shielded(account, fill_id, expected_revision=expected_revision, correction=Bust())

    async def _shielded(
        self, account: Account, fill_id: FillId, *, expected_revision: int, correction: Correction
    ) -> CorrectionReceipt:
        write = with_retries(
            lambda: self._correct(account, fill_id, expected_revision=expected_revision, correction=correction),
            jitter=self._jitter,
        )
        return await asyncio.shield(asyncio.ensure_future(write))

    async def _correct(
        self, account: Account, fill_id: FillId, *, expected_revision: int, correction: Correction
    ) -> CorrectionReceipt:
        async with self._ledger.transaction(cause="correction") as book:
            record = await book.lock_fill(account, fill_id)
            if record is None:
                raise NotFound("fill", fill_id)
            corrected = _corrected(record, expected_revision=expected_revision, correction=correction)
            if corrected is None:
                return CorrectionReceipt(fill_id, record.fill.revision, {}, is_replayed=True)
            step, owed = await self._apply(book, record, corrected=corrected)
        for key in owed:
            await refold_stale(self._ledger, key)
        return replace(step, commits=book.commits)

    async def _apply(
        self, book: OpenTransaction, record: FillRecord, *, corrected: Fill
    ) -> tuple[CorrectionReceipt, list[PositionKey]]:
        before = record.fill
        names = {before.key.instrument, corrected.key.instrument}
        instruments = await book.instruments(names)
        rules = (await book.accounts([before.account], make=None))[before.account]
        _check(corrected, before=before, instruments=instruments, rules=rules, now=self._clock())
        await book.correct_fill(corrected, instruments[corrected.key.instrument])
        changes, owed = await self._changes(book, record, corrected=corrected, instruments=instruments)
        await book.apply(changes)
        versions = {change.key: change.expected_version + 1 for change in changes}
        return CorrectionReceipt(before.fill_id, corrected.revision, versions), owed

    async def _changes(
        self,
        book: OpenTransaction,
        record: FillRecord,
        *,
        corrected: Fill,
        instruments: Mapping[InstrumentName, Instrument],
    ) -> tuple[list[KeyChange], list[PositionKey]]:
        before = record.fill
        pasts = _pasts(record, corrected, instruments=instruments)
        positions = await book.lock_positions(pasts)
        # As new as the stale ranges: see apply_fills.
        lot_method = (await book.accounts([before.account], make=None))[before.account].lot_method
        changes, owed = [], []
        for key, past in sorted(pasts.items(), key=lambda item: item[0]):
            fold_rules = FoldRules(instruments[key.instrument], key.leg, lot_method)
            change, is_owed = await change_key(
                book,
                positions[key],
                past=past,
                rules=fold_rules,
                limits=self._limits,
                cause=Cause("correction", before.fill_id, [before.fill_id], 1),
            )
            changes.append(change)
            if is_owed:
                owed.append(key)
        return changes, owed


def _corrected(record: FillRecord, *, expected_revision: int, correction: Correction) -> Fill | None:
    """The fill as the correction makes it; None where it was made already."""
    fill = record.fill
    if isinstance(correction, Bust):
        if fill.is_busted:
            return None
        _check_revision(fill, expected_revision)
        return fill._replace(is_busted=True, revision=fill.revision + 1)
    if fill.is_busted:
        raise FillBusted(f"fill {fill.fill_id} was busted", fill_id=fill.fill_id)
    amended = correction(fill)._replace(revision=fill.revision + 1)
    if fill.revision == expected_revision + 1 and _same(amended, fill):
        return None
    _check_revision(fill, expected_revision)
    return amended


def _same(left: Fill, right: Fill) -> bool:
    return left.content == right.content and left.fee_rate == right.fee_rate


def _check_revision(fill: Fill, expected: int) -> None:
    if fill.revision != expected:
        raise VersionMismatch(f"the fill is at revision {fill.revision}", current_version=str(fill.revision))


def _check(
    corrected: Fill,
    *,
    before: Fill,
    instruments: Mapping[InstrumentName, Instrument],
    rules: AccountRules,
    now: datetime,
) -> None:
    if corrected.key.instrument not in instruments:
        raise UnknownInstrument(f"instrument {corrected.key.instrument} has no record")
    if rules.sealed_before is not None and min(before.executed_at, corrected.executed_at) < rules.sealed_before:
        raise PeriodSealed(f"account {before.account} is sealed before {rules.sealed_before.isoformat()}")
    check_fill(corrected, instruments[corrected.key.instrument], now=now)


def _pasts(
    record: FillRecord, corrected: Fill, *, instruments: Mapping[InstrumentName, Instrument]
) -> dict[PositionKey, PastChange]:
    """What each touched key loses and gains; an amendment may move the fill to another key, or bring it back."""
    before = record.fill
    gone = [entry_of_fill(before, instruments[before.key.instrument])] if record.state == "LIVE" else []
    come = [] if corrected.is_busted else [entry_of_fill(corrected, instruments[corrected.key.instrument])]
    if corrected.key != before.key:
        return {
            before.key: PastChange(before.order, before.order, taken_by(gone), reason="CORRECTION"),
            corrected.key: PastChange(corrected.order, corrected.order, added_by(come), come, reason="CORRECTION"),
        }
    taken, added = taken_by(gone), added_by(come)
    orders = (before.order, before.order if corrected.is_busted else corrected.order)
    total = Pending(taken.quantity + added.quantity, taken.fees + added.fees, taken.fills + added.fills)
    return {before.key: PastChange(min(orders), max(orders), total, reason="CORRECTION")}
