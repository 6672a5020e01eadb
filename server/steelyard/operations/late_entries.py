"""Entries that change a key's past: folded again at once, while the caller waits, or deferred, by how many they touch.

Quantity, fees and the count of fills do not depend on order: they change in the acknowledging transaction even where
the other figures have to wait for a refold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from steelyard.accounting.entries import Entry
from steelyard.accounting.errors import UnknownInstrument
from steelyard.accounting.fold import FoldRules
from steelyard.accounting.keys import OrderKey, PositionKey
from steelyard.accounting.position import FiguresState
from steelyard.accounting.units import ZERO, exactly
from steelyard.operations.ports import BookTransaction, KeyChange, Ledger, Pending, StaleRange, StoredPosition
from steelyard.operations.refold import Cause, extend_key, refold_key


@dataclass(frozen=True, slots=True)
class RefoldLimits:
    """How many entries a late fill may make fold again, and where."""

    in_batch: int = 1_000
    """In the transaction that records it."""
    waiting: int = 50_000
    """In a transaction of its own while the caller waits; beyond, the refold is deferred to a build."""


@dataclass(frozen=True, slots=True)
class PastChange:
    """What a transaction changed about a key: the places of the fold, and what it adds whatever the order."""

    first: OrderKey
    last: OrderKey
    added: Pending
    entries: Sequence[Entry] = ()
    """The new entries in fold order, where nothing but new entries changed."""
    reason: str = "LATE"


async def change_key(
    book: BookTransaction,
    stored: StoredPosition,
    *,
    past: PastChange,
    rules: FoldRules,
    limits: RefoldLimits,
    cause: Cause,
) -> tuple[KeyChange, bool]:
    """The change of a locked key, and whether its refold is still owed to the waiting caller."""
    if stored.stale is None and past.entries and _is_newest(stored, past.first):
        return extend_key(stored, rules, entries=past.entries, cause=cause), False
    first, last = past.first, past.last
    if stored.stale is not None:
        first, last = min(first, stored.stale.first), max(last, stored.stale.last)
    behind = await book.count_entries(stored.key, start=first, limit=limits.waiting + 1)
    if behind <= limits.in_batch:
        return await refold_key(book, stored=stored, rules=rules, changed=(first, last), cause=cause), False
    count = max(1, past.added.fills)
    await book.mark_stale({stored.key: StaleRange(first, last, count, 1, is_held=False, reason=past.reason)})
    return _deferred(stored, added=past.added, cause=cause), behind <= limits.waiting


def _is_newest(stored: StoredPosition, place: OrderKey) -> bool:
    newest, parked = stored.state.last, stored.parked
    return (newest is None or place > newest) and (parked is None or place > parked)


async def refold_stale(ledger: Ledger, key: PositionKey) -> None:
    """Folds a stale key again in a transaction of its own, while its caller waits."""
    async with ledger.transaction(cause="refold") as book:
        stored = (await book.lock_positions([key]))[key]
        if stored.stale is None:
            return
        changed = (stored.stale.first, stored.stale.last)
        rules = await rules_of(book, key)
        change = await refold_key(book, stored=stored, rules=rules, changed=changed, cause=Cause("refold"))
        await book.apply([change])


async def rules_of(book: BookTransaction, key: PositionKey) -> FoldRules:
    """What folding a key depends on, of an account that exists. Raises `UnknownInstrument`."""
    accounts = await book.accounts([key.account], make=None)
    instruments = await book.instruments([key.instrument])
    if key.instrument not in instruments:
        raise UnknownInstrument(f"instrument {key.instrument} has no record", instrument=key.instrument)
    return FoldRules(instruments[key.instrument], key.leg, accounts[key.account].lot_method)


def _deferred(stored: StoredPosition, *, added: Pending, cause: Cause) -> KeyChange:
    """The order-free part at once; the figures follow by a refold."""
    return KeyChange(
        key=stored.key,
        expected_version=stored.version,
        state=stored.state,
        cause=cause.name,
        cause_id=cause.id,
        fill_ids=cause.fill_ids,
        fill_count=cause.fill_count,
        since_checkpoint=stored.since_checkpoint,
        trips=(),
        old_lots=stored.state.lots,
        figures_state=FiguresState.REFOLDING,
        pending=_sum(stored.pending, added),
    )


@exactly
def _sum(left: Pending, right: Pending) -> Pending:
    return Pending(left.quantity + right.quantity, left.fees + right.fees, left.fills + right.fills)


@exactly
def added_by(entries: Iterable[Entry]) -> Pending:
    """What fills add whatever their order."""
    quantity, fees, fills = ZERO, ZERO, 0
    for entry in entries:
        quantity += entry.quantity if entry.quantity is not None else ZERO
        fees += entry.fee
        fills += 1
    return Pending(quantity, fees, fills)


@exactly
def taken_by(entries: Iterable[Entry]) -> Pending:
    """What the withdrawal of fills takes away whatever their order."""
    added = added_by(entries)
    return Pending(-added.quantity, -added.fees, -added.fills)
