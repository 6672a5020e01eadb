"""Cumulative order events: how far an order is executed becomes the fills between one state and the next.

Problem: an event says "1.0 at 101 on average, fees 0.10" and another said "0.3 at 100, fees 0.03"; the position needs
what happened between them: 0.7 at 101.428571428571428571, fee 0.07. Events come late and twice.
Choice: the states of an order are kept by quantity, and its fills are a pure function of them: each state less the one
before. A state that arrives late lies between two known ones, so it makes a fill of its own and its successor's fill
is derived again (a revision of it). Prices of differences are rounded once, to 18 places, when the fill is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from steelyard.accounting.entries import Entry, Fill, check_fill, entry_of_fill
from steelyard.accounting.errors import FillBusted, InvalidField, PeriodSealed
from steelyard.accounting.fold import FoldRules
from steelyard.accounting.instruments import Instrument
from steelyard.accounting.keys import OrderKey
from steelyard.accounting.units import PLACES_18, ZERO, exactly, quotient
from steelyard.operations.feed_messages import FeedOutcome, OrderFeed, OrderState, Receipt, usable_id
from steelyard.operations.feed_ports import (
    FeedBook,
    FeedLedger,
    FeedRules,
    InboxOutcome,
    KnownState,
    instruments_for,
    unknown,
)
from steelyard.operations.fill_writer import with_retries
from steelyard.operations.late_entries import PastChange, RefoldLimits, added_by, change_key, refold_stale, taken_by
from steelyard.operations.ports import AccountRules, Clock, FillOutcome, Pending
from steelyard.operations.refold import Cause

DEFAULT_LIMITS = RefoldLimits()


@exactly
def fills_of_states(states: Iterable[KnownState], *, order: OrderState) -> list[Fill]:
    """The fills that lead from nothing through an order's states, by quantity. Raises `InvalidField` for a price that
    two states cannot have between them."""
    fills: list[Fill] = []
    quantity = value = fees = ZERO
    for state in sorted(states, key=lambda known: known.filled_quantity):
        step = state.filled_quantity - quantity
        reached = state.filled_quantity * state.average_price
        paid = fees if state.fees is None else state.fees
        price = quotient(reached - value, step, PLACES_18)
        if price <= 0:
            raise InvalidField("average_price", "contradicts an earlier state of the order")
        fills.append(
            Fill(
                key=order.key,
                fill_id=state.fill_id,
                side=order.side,
                quantity=step,
                price=price,
                executed_at=state.reached_at,
                fee=paid - fees,
                fee_currency=order.fee_currency,
                order_id=order.order_id,
            )
        )
        quantity, value, fees = state.filled_quantity, reached, paid
    return fills


def merged(states: Sequence[KnownState], said: OrderState) -> tuple[FeedOutcome, KnownState]:
    """What an event adds to the states of its order: a new state, newer figures of a known one, or nothing."""
    new = KnownState(said.filled_quantity, said.average_price, said.fees, said.at, said.at, said.fill_id)
    known = next((state for state in states if state.filled_quantity == said.filled_quantity), None)
    if known is None:
        return FeedOutcome.APPLIED, new
    if known.average_price == said.average_price and said.fees in (None, known.fees):
        return FeedOutcome.REPEATED, known
    if said.at <= known.told_at:
        return FeedOutcome.OUTDATED, known
    fees = known.fees if said.fees is None else said.fees
    return FeedOutcome.APPLIED, replace(new, fees=fees, reached_at=known.reached_at, fill_id=known.fill_id)


@dataclass(frozen=True, slots=True)
class _Changes:
    """What an event makes of its order's fills."""

    new: list[Fill]
    corrected: list[Fill]

    @classmethod
    def between(cls, before: Sequence[Fill], after: Sequence[Fill]) -> _Changes:
        known = {fill.fill_id: fill for fill in before}
        new = [fill for fill in after if fill.fill_id not in known]
        corrected = [fill for fill in after if fill.fill_id in known and fill.content != known[fill.fill_id].content]
        return cls(new, corrected)


class ApplyOrderEvents:
    """Takes cumulative order events, each exactly once."""

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

    async def apply(self, state: OrderState, receipt: Receipt) -> FeedOutcome:
        """Applies an event in one transaction with its inbox row. Raises what the event is refused for."""
        outcome, is_owed = await with_retries(partial(self._apply, state, receipt), jitter=self._jitter)
        if is_owed:
            await with_retries(partial(refold_stale, self._ledger, state.key), jitter=self._jitter)
        return outcome

    async def _apply(self, state: OrderState, receipt: Receipt) -> tuple[FeedOutcome, bool]:
        account, order_id = state.key.account, usable_id(state.order_id)
        async with self._ledger.transaction(cause="fill", trace_id=receipt.trace_id) as book:
            (known,) = await book.receive([receipt], account=account)
            if known is not InboxOutcome.NEW:
                return FeedOutcome.REPEATED, False
            accounts = await book.accounts([account], make=replace(self._rules.new_accounts, account=account))
            records = await instruments_for(book, [state.key.instrument], rules=self._rules)
            if state.key.instrument not in records:
                raise unknown(state.key.instrument)
            followed = await book.follow_orders(account, [order_id], feed=OrderFeed.STATES)
            if followed[order_id] is not OrderFeed.STATES:
                return FeedOutcome.IGNORED, False
            states = await book.order_states(account, order_id)
            outcome, kept = merged(states, state)
            if outcome is not FeedOutcome.APPLIED:
                return outcome, False
            others = [known for known in states if known.filled_quantity != kept.filled_quantity]
            changes = _Changes.between(
                fills_of_states(states, order=state), fills_of_states([*others, kept], order=state)
            )
            await book.keep_order_state(account, order_id, state=kept)
            instrument = records[state.key.instrument]
            return outcome, await self._write(book, changes, instrument=instrument, account=accounts[account])

    async def _write(self, book: FeedBook, changes: _Changes, *, instrument: Instrument, account: AccountRules) -> bool:
        """Records new fills, corrects known ones and folds; True where the refold is still owed."""
        for fill in (*changes.new, *changes.corrected):
            check_fill(fill, instrument, now=self._clock())
            if account.sealed_before is not None and fill.executed_at < account.sealed_before:
                raise PeriodSealed(f"account {fill.account} is sealed before {account.sealed_before.isoformat()}")
        new, changed = await self._record(book, changes.new, instrument=instrument)
        gone, come = await _correct(book, changes.corrected, instrument=instrument)
        places = [*changed, *(entry.order for entry in (*come, *gone))]
        if not places:
            return False
        key = (*changes.new, *changes.corrected)[0].key
        is_fresh = len(places) == len(new)  # each change is an entry that was never there
        change, is_owed = await change_key(
            book,
            (await book.lock_positions([key]))[key],
            past=_past(places, new=new if is_fresh else (), added=[*new, *come], gone=gone),
            rules=FoldRules(instrument, key.leg, account.lot_method),
            limits=self._limits,
            cause=_cause(changes),
        )
        await book.apply([change])
        return is_owed

    async def _record(
        self, book: FeedBook, fills: Sequence[Fill], *, instrument: Instrument
    ) -> tuple[list[Entry], list[OrderKey]]:
        """The entries that come, and the places that change: more of them, where a known fill came back or moved."""
        outcomes = await book.insert_fills(fills, {instrument.name: instrument}) if fills else ()
        entries, places = [], list[OrderKey]()
        for fill, outcome in zip(fills, outcomes, strict=True):
            if outcome.changed is None:
                continue
            places += outcome.changed[:1] if outcome.stored is None else outcome.changed
            if outcome.outcome is FillOutcome.RECORDED:
                entries.append(entry_of_fill(outcome.stored or fill, instrument))
        return entries, places


async def _correct(book: FeedBook, fills: Sequence[Fill], *, instrument: Instrument) -> tuple[list[Entry], list[Entry]]:
    """Revises stored fills; the entries that go and those that come in their place."""
    gone, come = [], []
    for fill in fills:
        record = await book.lock_fill(fill.account, fill.fill_id)
        assert record is not None
        if record.fill.is_busted:
            raise FillBusted(f"fill {fill.fill_id} was busted", fill_id=fill.fill_id)
        revised = record.fill._replace(
            quantity=fill.quantity,
            price=fill.price,
            fee=fill.fee,
            revision=record.fill.revision + 1,
        )
        await book.correct_fill(revised, instrument)
        gone.append(entry_of_fill(record.fill, instrument))
        come.append(entry_of_fill(revised, instrument))
    return gone, come


@exactly
def _past(
    places: Sequence[OrderKey], *, new: Sequence[Entry], added: Iterable[Entry], gone: Iterable[Entry]
) -> PastChange:
    """`new`: all that changes, where these are entries that were never there before."""
    come, taken = added_by(added), taken_by(gone)
    total = Pending(come.quantity + taken.quantity, come.fees + taken.fees, come.fills + taken.fills)
    if new:
        return PastChange(min(places), max(places), total, sorted(new, key=lambda entry: entry.order))
    return PastChange(min(places), max(places), total, reason="CORRECTION")


def _cause(changes: _Changes) -> Cause:
    fills = (*changes.new, *changes.corrected)
    return Cause("fill", fills[0].fill_id, [fill.fill_id for fill in fills], len(changes.new))
