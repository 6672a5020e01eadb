"""Takes a venue's report from a caller of the service; a repeat of his request is answered as before."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from steelyard.accounting.venue_report import VenueReport
from steelyard.operations.answering_once import KeptForm, RequestIdentity, answer_once
from steelyard.operations.apply_venue_report import ReportReceipt, apply_report
from steelyard.operations.feed_messages import FeedOutcome, Receipt
from steelyard.operations.feed_ports import FeedBook, FeedLedger, FeedRules
from steelyard.operations.fill_writer import with_retries
from steelyard.operations.ports import AccountRules, Clock, Commit

METHOD = "ReportVenuePosition"
SOURCE = "rpc"
_NO_SYMBOL = r"(?!)"
"""Instruments that a caller names must be known: only feeds make symbols register themselves."""


@dataclass(frozen=True, slots=True)
class VenueReportAnswer:
    """What a report came to."""

    outcome: FeedOutcome
    version: int | None
    """The position's version where the report changed it."""
    discrepancies: Sequence[str]
    """Kinds of the discrepancies it shows."""
    is_replayed: bool = False
    commits: Sequence[Commit] = ()


class ReportVenuePosition:
    """The operation behind the rpc of the same name."""

    def __init__(
        self,
        ledger: FeedLedger,
        clock: Clock,
        *,
        rules: FeedRules,
        new_accounts: AccountRules | None,
        jitter: Callable[[], float],
    ) -> None:
        """`new_accounts` is the pattern of accounts made on first use (None: unknown ones are refused)."""
        self._ledger = ledger
        self._clock = clock
        self._rules = replace(rules, symbols=_NO_SYMBOL)
        self._new_accounts = new_accounts
        self._jitter = jitter

    async def report(self, report: VenueReport, *, request: RequestIdentity) -> VenueReportAnswer:
        """Applies a report in one transaction with the answer to its request id. Raises what it is refused for."""
        # Shielded: a caller who goes away abandons the wait, never the transaction.
        write = with_retries(partial(self._report, report, request), jitter=self._jitter)
        return await asyncio.shield(asyncio.ensure_future(write))

    async def _report(self, report: VenueReport, request: RequestIdentity) -> VenueReportAnswer:
        form = KeptForm(str(report.key.account), METHOD, encode=_bytes, decode=_kept_answer)
        async with self._ledger.transaction(cause="venue") as book:
            answered = await answer_once(
                book, request, form=form, write=lambda: self._apply(book, report, request=request)
            )
        return replace(answered.value, is_replayed=answered.is_replayed, commits=book.commits)

    async def _apply(self, book: FeedBook, report: VenueReport, *, request: RequestIdentity) -> VenueReportAnswer:
        now = self._clock()
        receipt = Receipt(
            source=SOURCE,
            event_id=str(request.request_id),
            content_hash=request.body_hash,
            received_at=now,
        )
        told = await apply_report(
            book, report, receipt=receipt, rules=self._rules, new_accounts=self._new_accounts, now=now
        )
        return _answer(told)


def _answer(told: ReportReceipt) -> VenueReportAnswer:
    return VenueReportAnswer(told.outcome, told.version, [found.kind.value for found in told.differences])


def _bytes(answer: VenueReportAnswer) -> bytes:
    return json.dumps([answer.outcome.value, answer.version, list(answer.discrepancies)]).encode()


def _kept_answer(kept: bytes) -> VenueReportAnswer:
    outcome, version, discrepancies = json.loads(kept)
    return VenueReportAnswer(FeedOutcome(outcome), version, discrepancies)
