"""The ledger: transactions on the book, as operations see them through their ports."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from steelyard.accounting.entries import Adjustment, Entry, Fill
from steelyard.accounting.errors import VersionMismatch
from steelyard.accounting.fold import Checkpoint
from steelyard.accounting.instruments import Instrument
from steelyard.accounting.keys import Account, FillId, InstrumentName, OrderKey, PositionKey
from steelyard.accounting.lots import Lot
from steelyard.accounting.position import EMPTY
from steelyard.accounting.round_trips import RoundTrip
from steelyard.operations.ports import (
    AccountRules,
    Clock,
    Commit,
    FillOutcome,
    FillRecord,
    KeyChange,
    RecordedFill,
    StaleRange,
    StoredPosition,
)
from steelyard.storage import (
    fill_corrections,
    fills,
    instruments,
    outbox,
    past_changes,
    positions,
    requests,
    round_trips,
    seals,
    stale_keys,
    venue_reports,
)
from steelyard.storage.account_log import advance_heads
from steelyard.storage.bulk import arrays, unnested
from steelyard.storage.database import Connection, Database
from steelyard.storage.known_lots import Identity, KnownLots, identity_of
from steelyard.storage.rules_in_use import RulesInUse
from steelyard.storage.told import Told

_EVENTS = f"""
INSERT INTO position_events
    (account, book, instrument, leg, version, seq, cause, cause_id, change, fill_ids, fill_count, state, committed_at)
SELECT n.account, n.book, n.instrument, n.leg, n.version, h.seq, n.cause, n.cause_id, n.change,
       ARRAY(SELECT jsonb_array_elements_text(n.fill_ids)), n.fill_count, n.state, h.committed_at
FROM {unnested(positions.EVENT)} JOIN account_heads h USING (account)
"""  # noqa: S608


class PostgresTransaction:
    """One transaction; fulfils the port `OpenTransaction`."""

    def __init__(
        self,
        connection: Connection,
        clock: Clock,
        *,
        cause: str,
        known_lots: KnownLots | None = None,
        is_publishing: bool = False,
        trace_id: str | None = None,
        told: Told | None = None,
    ) -> None:
        """`is_publishing`: what changes is put into the outbox as well."""
        self._known_lots = known_lots or KnownLots()
        self._written: list[tuple[PositionKey, Identity, tuple[Lot, ...]]] = []
        self.connection = connection
        self._outbox = outbox.OutboxRows(trace_id) if is_publishing else None
        self.commit_id = secrets.randbits(62)
        self.commits: Sequence[Commit] = ()
        self._clock = clock
        self._cause = cause
        self._touched: set[Account] = set()
        self._events: list[tuple[object, ...]] = []
        self._before: dict[PositionKey, StoredPosition] = {}
        self._entered = seals.EarliestEntries()
        self._rules = RulesInUse()
        self._locked_at: dict[tuple[Account, FillId], datetime] = {}
        self._told = told

    async def accounts(self, names: Iterable[Account], *, make: AccountRules | None) -> Mapping[Account, AccountRules]:
        found = await instruments.find_accounts(self.connection, names, make=make)
        self._rules.accounts.update(found)
        return found

    async def instruments(self, names: Iterable[InstrumentName]) -> Mapping[InstrumentName, Instrument]:
        found = await instruments.find_instruments(self.connection, names)
        self._rules.instruments.update(found)
        return found

    async def insert_fills(
        self, new: Sequence[Fill], records: Mapping[InstrumentName, Instrument]
    ) -> Sequence[RecordedFill]:
        outcomes = await fills.insert_fills(self.connection, new, instruments=records, commit_id=self.commit_id)
        for fill, outcome in zip(new, outcomes, strict=True):
            if outcome.changed is not None:
                self._entered.note(fill.account, outcome.changed[0].executed_at)
        return outcomes

    async def repeats_of_known(
        self, fills_again: Sequence[Fill], records: Mapping[InstrumentName, Instrument]
    ) -> Sequence[RecordedFill | None]:
        return await seals.repeats_of_known(self.connection, fills_again, instruments=records)

    async def insert_adjustment(self, adjustment: Adjustment) -> FillOutcome:
        self._entered.note(adjustment.key.account, adjustment.effective_at)
        return await fills.insert_adjustment(self.connection, adjustment, commit_id=self.commit_id)

    async def lock_positions(self, keys: Iterable[PositionKey]) -> Mapping[PositionKey, StoredPosition]:
        return await self._positions(keys, is_locking=True)

    async def peek_positions(self, keys: Iterable[PositionKey]) -> Mapping[PositionKey, StoredPosition]:
        return await self._positions(keys, is_locking=False)

    async def _positions(
        self, keys: Iterable[PositionKey], *, is_locking: bool
    ) -> Mapping[PositionKey, StoredPosition]:
        # READ COMMITTED sees commits between two statements: the rows are locked before their lots are read.
        wanted = sorted(set(keys))
        found = await positions.find_positions(self.connection, wanted, is_locking=is_locking)
        held = [key for key, stored in found.items() if stored.state.quantity]
        lots = {
            key: self._known_lots.of(key, identity_of(found[key].state, version=found[key].version)) for key in held
        }
        unknown = [key for key, known in lots.items() if known is None]
        if unknown:
            lots.update(await round_trips.read_lots(self.connection, unknown))
        found.update({key: positions.with_lots(found[key], lots[key] or ()) for key in held})
        self._before.update(found)
        return found

    def entries(
        self, key: PositionKey, *, start: OrderKey | None, inclusive: bool, end: OrderKey | None = None
    ) -> AsyncIterator[Sequence[Entry]]:
        return fills.read_entries(self.connection, key, start=start, inclusive=inclusive, end=end)

    async def count_entries(self, key: PositionKey, *, start: OrderKey | None, limit: int) -> int:
        return await fills.count_entries(self.connection, key, start=start, limit=limit)

    async def last_fill_at(self, key: PositionKey, *, before: OrderKey) -> datetime | None:
        return await fills.last_fill_at(self.connection, key, before=before)

    async def applied_versions(
        self, identities: Sequence[tuple[Account, FillId]]
    ) -> Mapping[tuple[Account, FillId], int | None]:
        return await fills.applied_versions(self.connection, identities)

    async def last_trip_opened_before(self, key: PositionKey, order: OrderKey) -> RoundTrip | None:
        return await round_trips.last_trip_opened_before(self.connection, key, order=order)

    async def trips_from(self, key: PositionKey, order: OrderKey) -> Sequence[RoundTrip]:
        return await round_trips.trips_from(self.connection, key, order=order)

    async def checkpoint_before(self, key: PositionKey, order: OrderKey) -> Checkpoint | None:
        return await round_trips.checkpoint_before(self.connection, key, order=order)

    async def mark_stale(self, ranges: Mapping[PositionKey, StaleRange]) -> None:
        await stale_keys.mark_stale(self.connection, ranges)

    async def apply(self, changes: Sequence[KeyChange]) -> None:
        ordered = sorted(changes, key=lambda change: change.key)
        await positions.write_positions(self.connection, ordered, now=self._clock())
        await round_trips.write_lots(self.connection, ordered)
        await round_trips.write_trips(self.connection, ordered)
        await round_trips.write_checkpoints(self.connection, ordered)
        changed = past_changes.changes_of_past(ordered, before=self._before)
        await past_changes.note(self.connection, changed, commit_id=self.commit_id)
        cleared = [(change.key, change.clears_stale) for change in ordered if change.clears_stale is not None]
        await stale_keys.clear_stale(self.connection, cleared)
        unparked = [(*change.key, change.unparks) for change in ordered if change.unparks is not None]
        if unparked:
            await venue_reports.unpark(self.connection, unparked, commit_id=self.commit_id)
        for change in ordered:
            self._written.append(
                (change.key, identity_of(change.state, version=change.expected_version + 1), change.state.lots)
            )
            stored = self._before.get(change.key)
            before = EMPTY if stored is None else stored.state
            if self._told is not None:
                self._told.add(change, stored)
            self._events.append(positions.event_values(change, was_open=bool(before.quantity)))
            self._touched.add(change.key.account)
            if self._outbox is not None:
                self._outbox.add_change(change, before=before)

    async def answer_to(self, *, scope: str, request_id: UUID, method: str, body_hash: bytes) -> bytes | None:
        return await requests.answer_to(
            self.connection, scope=scope, request_id=request_id, method=method, body_hash=body_hash
        )

    async def store_answer(
        self, *, scope: str, request_id: UUID, method: str, body_hash: bytes, response: bytes
    ) -> None:
        is_first = await requests.store_answer(
            self.connection, scope=scope, request_id=request_id, method=method, body_hash=body_hash, response=response
        )
        if not is_first:
            raise VersionMismatch("the same request is being answered")

    async def lock_fill(self, account: Account, fill_id: FillId) -> FillRecord | None:
        record = await fills.lock_fill(self.connection, account=account, fill_id=fill_id)
        if record is not None:
            self._locked_at[account, fill_id] = record.fill.executed_at
        return record

    async def correct_fill(self, corrected: Fill, instrument: Instrument) -> None:
        before = self._locked_at.get((corrected.account, corrected.fill_id), corrected.executed_at)
        self._entered.note(corrected.account, min(before, corrected.executed_at))
        await fill_corrections.correct_fill(self.connection, corrected, instrument=instrument, commit_id=self.commit_id)

    async def publish(self, topic: str, key: PositionKey, *, body: Mapping[str, Any]) -> None:
        if self._outbox is not None:
            self._outbox.add(topic, key, body=body)
            self._touched.add(key.account)

    async def touch(self, accounts: Iterable[Account]) -> None:
        self._touched.update(accounts)

    def committed(self) -> None:
        """Remembers what this transaction has written, once it counts."""
        self._known_lots.keep(self._written)

    async def finish(self) -> None:
        """The last statements before COMMIT: heads in account order, then the events stamped with them."""
        seqs = await advance_heads(self.connection, self._touched, commit_id=self.commit_id, cause=self._cause)
        if self._touched:
            await self._rules.check(self.connection, entered=self._entered.at)
        if self._events:
            await self.connection.execute(_EVENTS, *arrays(self._events, positions.EVENT))
        if self._outbox is not None:
            await self._outbox.write(self.connection)
        self.commits = tuple(Commit(Account(account), seq) for account, seq in sorted(seqs.items()))


class PostgresLedger:
    """Opens transactions on the book; fulfils the port `Ledger`."""

    def __init__(self, database: Database, clock: Clock, *, is_publishing: bool = False) -> None:
        self._database = database
        self._clock = clock
        self._is_publishing = is_publishing
        self._known_lots = KnownLots()

    @asynccontextmanager
    async def transaction(self, *, cause: str, is_read_only: bool = False) -> AsyncIterator[PostgresTransaction]:
        """A READ COMMITTED transaction that advances the heads last, or a REPEATABLE READ snapshot."""
        opened = self._database.read() if is_read_only else self._database.write()
        with Told(self._database.telemetry, cause=cause, clock=self._clock) as told:
            async with opened as connection:
                transaction = PostgresTransaction(
                    connection,
                    self._clock,
                    cause=cause,
                    known_lots=self._known_lots,
                    is_publishing=self._is_publishing,
                    told=told,
                )
                yield transaction
                await transaction.finish()
        transaction.committed()
