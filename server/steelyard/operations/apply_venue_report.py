"""Applies a venue's report: it sets the position at its own time where it may, and is compared otherwise.

A report that may set becomes an entry and the key is folded from there. If the fold says that it changed nothing, no
version is written; the entry stays, in place of the one that stayed before it, so that a fill that was executed
earlier but arrives later is absorbed and not counted twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from steelyard.accounting.entries import Adjustment
from steelyard.accounting.errors import NotFound
from steelyard.accounting.fold import FoldRules
from steelyard.accounting.keys import FillId, OrderKey
from steelyard.accounting.marks import AHEAD_TOLERANCE, Mark
from steelyard.accounting.position import FoldState
from steelyard.accounting.units import exactly
from steelyard.accounting.venue_report import (
    Difference,
    SizeAuthority,
    VenueReport,
    check_report,
    differences,
    fits_leg,
    sets_position,
    venue_entry,
)
from steelyard.operations.feed_messages import FeedOutcome, Receipt
from steelyard.operations.feed_ports import (
    FeedBook,
    FeedLedger,
    FeedRules,
    InboxOutcome,
    VenueState,
    instruments_for,
    unknown,
)
from steelyard.operations.fill_writer import with_retries
from steelyard.operations.ports import AccountRules, Clock, KeyChange, StoredPosition
from steelyard.operations.refold import Cause, extend_key, refold_key, state_before

LAST_SEQUENCE = 2**31 - 1
LAST_ID = "~" * 128


@dataclass(frozen=True, slots=True)
class ReportReceipt:
    """What a report came to; `version` is that of the position where it changed it."""

    outcome: FeedOutcome
    version: int | None = None
    differences: Sequence[Difference] = ()


@dataclass(frozen=True, slots=True)
class _Case:
    """A report beside the locked position that it is about."""

    report: VenueReport
    receipt: Receipt
    stored: StoredPosition
    rules: FoldRules
    account: AccountRules
    elsewhere: Decimal
    tie: int
    now: datetime


class ApplyVenueReport:
    """Takes reports of venues, each exactly once."""

    def __init__(self, ledger: FeedLedger, clock: Clock, *, rules: FeedRules, jitter: Callable[[], float]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._rules = rules
        self._jitter = jitter

    async def apply(self, report: VenueReport, receipt: Receipt) -> ReportReceipt:
        """Applies a report in one transaction with its inbox row. Raises what the report is refused for."""
        return await with_retries(lambda: self._apply(report, receipt), jitter=self._jitter)

    async def _apply(self, report: VenueReport, receipt: Receipt) -> ReportReceipt:
        async with self._ledger.transaction(cause="venue", trace_id=receipt.trace_id) as book:
            (known,) = await book.receive([receipt], account=report.key.account)
            if known is not InboxOutcome.NEW:
                return ReportReceipt(FeedOutcome.REPEATED)
            return await apply_report(
                book,
                report,
                receipt=receipt,
                rules=self._rules,
                new_accounts=self._rules.new_accounts,
                now=self._clock(),
            )


async def apply_report(
    book: FeedBook,
    report: VenueReport,
    *,
    receipt: Receipt,
    rules: FeedRules,
    new_accounts: AccountRules | None,
    now: datetime,
) -> ReportReceipt:
    """What one transaction does with a report that was not seen before. Raises what it is refused for."""
    key = report.key
    accounts = await book.accounts([key.account], make=new_accounts)
    if key.account not in accounts:
        raise NotFound("account", key.account)
    records = await instruments_for(book, [key.instrument], rules=rules)
    if key.instrument not in records:
        raise unknown(key.instrument)
    check_report(report, records[key.instrument], now=now)
    stored = (await book.lock_positions([key]))[key]
    tie = _tie(report, await book.venue_state(key))
    if tie is None:
        return ReportReceipt(FeedOutcome.OUTDATED)
    case = _Case(
        report,
        receipt,
        stored,
        FoldRules(records[key.instrument], key.leg, accounts[key.account].lot_method),
        accounts[key.account],
        await book.held_elsewhere(key),
        tie,
        now,
    )
    await _keep_mark(book, report, now=now)
    await book.keep_report(report, tie=case.tie, received_at=receipt.received_at)
    if await _may_set(book, case, rules=rules):
        change = await _place(book, case)
        if change is not None:
            await book.apply([change])
            return ReportReceipt(FeedOutcome.APPLIED, stored.version + 1)
    return await _compare(book, case, rules=rules)


def _tie(report: VenueReport, seen: VenueState | None) -> int | None:
    """How many reports of the very same time came before; None where a newer one is known."""
    if report.reported_at is None or seen is None or seen.reported_at is None or report.reported_at > seen.reported_at:
        return 0
    return seen.ties + 1 if report.reported_at == seen.reported_at else None


async def _keep_mark(book: FeedBook, report: VenueReport, *, now: datetime) -> None:
    at, price = report.reported_at, report.mark_price
    if at is not None and price is not None and at <= now + AHEAD_TOLERANCE:
        await book.keep_mark(report.key.instrument, Mark(price, at, report.source))


async def _may_set(book: FeedBook, case: _Case, *, rules: FeedRules) -> bool:
    report, sealed = case.report, case.account.sealed_before
    if report.reported_at is None or (sealed is not None and report.reported_at < sealed):
        return False
    if not fits_leg(report, elsewhere=case.elsewhere):
        return False
    last = await book.last_fill_at(report.key, before=OrderKey(report.reported_at, LAST_SEQUENCE, LAST_ID))
    return sets_position(
        report,
        authority=SizeAuthority(case.account.size_authority),
        last_fill_at=last,
        tolerance=rules.time_tolerance,
    )


async def _place(book: FeedBook, case: _Case) -> KeyChange | None:
    """Puts the report among the entries; the change it makes, None where it makes none."""
    entry = venue_entry(case.report, entry_id=_entry_id(case), elsewhere=case.elsewhere, tie=case.tie)
    await book.insert_adjustment(entry)
    change = await refold_key(
        book,
        stored=case.stored,
        rules=case.rules,
        changed=_changed(entry, case.stored),
        cause=Cause("venue", entry.adjustment_id),
    )
    if entry.adjustment_id in change.effective_reports:
        return change
    await book.park(entry.key, entry.order, instead_of=None if change.unparks else case.stored.parked)
    if case.stored.stale is not None:
        # A build that folds what is stale may have read the entries before: it must come again.
        again = replace(case.stored.stale, first=entry.order, last=entry.order, entries=0)
        await book.mark_stale({entry.key: again})
    return None


def _entry_id(case: _Case) -> FillId:
    """One id per message and key: the same message always makes the same entry."""
    said = "\n".join((case.receipt.source, case.receipt.event_id, *case.report.key))
    return FillId("venue:" + hashlib.sha256(said.encode()).hexdigest()[:40])


def _changed(entry: Adjustment, stored: StoredPosition) -> tuple[OrderKey, OrderKey]:
    if stored.stale is None:
        return entry.order, entry.order
    return min(entry.order, stored.stale.first), max(entry.order, stored.stale.last)


async def _compare(book: FeedBook, case: _Case, *, rules: FeedRules) -> ReportReceipt:
    """Notes where the report and the book differ; a key nobody knew is held at zero from now on."""
    state = await _state_at(book, case)
    found = differences(
        case.report,
        quantity=_total(state.quantity, case),
        average=None if case.elsewhere else state.average,
        size_tolerance=rules.size_tolerance,
    )
    version = None
    if not case.stored.version and case.stored.stale is None and case.report.size:
        cause = Cause("venue", case.receipt.event_id)
        await book.apply([extend_key(case.stored, case.rules, entries=(), cause=cause)])
        version = 1
    for difference in found:
        await book.note_difference(case.report, difference, now=case.now)
    return ReportReceipt(FeedOutcome.APPLIED if version else FeedOutcome.UNCHANGED, version, found)


async def _state_at(book: FeedBook, case: _Case) -> FoldState:
    """What the report speaks of: the position at its own time, else as it is now."""
    at = case.report.reported_at
    if at is None:
        return case.stored.state
    place = OrderKey(at, LAST_SEQUENCE, LAST_ID)
    return await state_before(book, stored=case.stored, rules=case.rules, place=place)


@exactly
def _total(quantity: Decimal, case: _Case) -> Decimal:
    return quantity + case.stored.pending.quantity + case.elsewhere
