"""Records executions that a feed tells of: many messages in one transaction, each with its inbox row, each once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from steelyard.accounting.errors import FillConflict, SteelyardError
from steelyard.accounting.keys import PositionKey
from steelyard.operations.apply_fills import WriteOptions, apply_fills
from steelyard.operations.feed_messages import Execution, FeedOutcome, OrderFeed, Receipt, usable_id
from steelyard.operations.feed_ports import FeedBook, FeedLedger, FeedRules, InboxOutcome, instruments_for
from steelyard.operations.fill_writer import with_retries
from steelyard.operations.late_entries import RefoldLimits, refold_stale
from steelyard.operations.ports import Clock

Message = tuple[Execution, Receipt]
Result = FeedOutcome | SteelyardError
DEFAULT_LIMITS = RefoldLimits()


class _Refused(SteelyardError):
    """A message of the batch is refused: it is to stand alone, so that nothing of it stays."""

    def __init__(self, why: SteelyardError) -> None:
        self.why = why
        super().__init__(why.message)


class RecordExecutions:
    """Takes executions from feeds. A message that is refused fails alone and leaves no trace."""

    def __init__(
        self,
        ledger: FeedLedger,
        clock: Clock,
        *,
        rules: FeedRules,
        jitter: Callable[[], float],
        limits: RefoldLimits = DEFAULT_LIMITS,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._rules = rules
        self._jitter = jitter
        self._limits = limits

    async def record(self, messages: Sequence[Message]) -> list[Result]:
        """Records messages in one transaction and says of each what it came to. Raises retryable errors only; what
        cannot be stored is found by cutting the batch in halves."""
        try:
            results, owed = await with_retries(partial(self._record, messages), jitter=self._jitter)
        except SteelyardError as error:
            if error.retryable:
                raise
            if len(messages) == 1:
                return [error.why if isinstance(error, _Refused) else error]
            middle = len(messages) // 2
            return [*await self.record(messages[:middle]), *await self.record(messages[middle:])]
        for key in owed:
            await with_retries(partial(refold_stale, self._ledger, key), jitter=self._jitter)
        return results

    async def _record(self, messages: Sequence[Message]) -> tuple[list[Result], Sequence[PositionKey]]:
        account = self._rules.account
        trace_id = messages[0][1].trace_id if len(messages) == 1 else None
        async with self._ledger.transaction(cause="fill", trace_id=trace_id) as book:
            await book.accounts([account], make=self._rules.new_accounts)
            results = await self._received(book, messages)
            followed = await self._followed(book, messages)
            for place, (execution, _) in enumerate(messages):
                if execution.order_id is not None and followed[usable_id(execution.order_id)] is OrderFeed.STATES:
                    results.setdefault(place, FeedOutcome.IGNORED)
            places = [place for place in range(len(messages)) if place not in results]
            fills = [messages[place][0].fill(otherwise_at=messages[place][1].time) for place in places]
            await instruments_for(book, [fill.key.instrument for fill in fills], rules=self._rules)
            applied = await apply_fills(
                book,
                fills,
                options=WriteOptions(),
                new_accounts=replace(self._rules.new_accounts, account=account),
                limits=self._limits,
                now=self._clock(),
            )
            for place, result in zip(places, applied.results, strict=True):
                if isinstance(result, SteelyardError):
                    results[place] = result
                else:
                    results[place] = FeedOutcome.REPEATED if result.is_replayed else FeedOutcome.APPLIED
            _raise_first_refusal(results)
        return [results[place] for place in range(len(messages))], applied.owed

    async def _received(self, book: FeedBook, messages: Sequence[Message]) -> dict[int, Result]:
        """What the inbox decides already: repeats, and ids that are known with other content."""
        first: dict[str, int] = {}
        for place, (_, receipt) in enumerate(messages):
            first.setdefault(receipt.event_id, place)
        outcomes = await book.receive([messages[place][1] for place in first.values()], account=self._rules.account)
        known = dict(zip(first, outcomes, strict=True))
        results: dict[int, Result] = {}
        for place, (execution, receipt) in enumerate(messages):
            outcome = known[receipt.event_id]
            if place != first[receipt.event_id] and outcome is InboxOutcome.NEW:
                same = messages[first[receipt.event_id]][1].content_hash == receipt.content_hash
                outcome = InboxOutcome.REPEATED if same else InboxOutcome.CONFLICTING
            if outcome is InboxOutcome.REPEATED:
                results[place] = FeedOutcome.REPEATED
            elif outcome is InboxOutcome.CONFLICTING:
                fill_id = execution.fill_id
                results[place] = FillConflict(f"fill {fill_id} is known with other content", fill_id=fill_id)
        return results

    async def _followed(self, book: FeedBook, messages: Sequence[Message]) -> Mapping[str, OrderFeed]:
        orders = sorted({usable_id(said.order_id) for said, _ in messages if said.order_id is not None})
        if not orders:
            return {}
        return await book.follow_orders(self._rules.account, orders, feed=OrderFeed.EXECUTIONS)


def _raise_first_refusal(results: Mapping[int, Result]) -> None:
    for result in results.values():
        if isinstance(result, SteelyardError):
            raise _Refused(result)
