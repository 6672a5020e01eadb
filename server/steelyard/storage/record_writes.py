"""Transactions on the records that give numbers their meaning: accounts and instruments.

A change of meaning does not fold anything itself: it marks keys as stale from the very start, and the refold follows.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from uuid import UUID

from steelyard.accounting.entries import EARLIEST
from steelyard.accounting.errors import VersionMismatch
from steelyard.accounting.keys import Account, OrderKey, PositionKey
from steelyard.operations.ports import Commit, StaleRange
from steelyard.storage import requests
from steelyard.storage.account_log import advance_heads
from steelyard.storage.codec import key_of
from steelyard.storage.database import Connection, Database
from steelyard.storage.outbox import OutboxRows
from steelyard.storage.stale_keys import mark_stale

VERY_START = OrderKey(EARLIEST, -(2**31), " ")
"""A place before every entry that the store can hold: no id begins with a blank."""

_KEYS = """
SELECT account, book, instrument, leg, fill_count, last_executed_at, last_sequence, last_entry_id
FROM positions WHERE {} ORDER BY account, book, instrument, leg
"""
_KEYS_OF_ACCOUNT = _KEYS.format("account = $1")
_KEYS_OF_INSTRUMENTS = _KEYS.format("instrument = ANY($1::text[])")


class RecordTransaction:
    """One transaction on a record, with the answer to its request id and the accounts it touches."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.commits: Sequence[Commit] = ()
        self.touched: set[Account] = set()
        self._outbox = OutboxRows(None)
        self._refolded: list[tuple[str, Any]] = []
        self._marked: set[PositionKey] = set()
        self._concerns_all = False

    def tell(self, topic: str, key: PositionKey, *, body: Mapping[str, Any], version: int | None = None) -> None:
        """Puts a message into the outbox, which leaves after the commit; steps the account's log, by which messages are
        numbered. Only for a store that publishes: nobody else would ever take the row out."""
        self._outbox.add(topic, key, body=body, version=version)
        self.touched.add(key.account)

    async def lock(self, kind: str, name: str) -> None:
        """Lets one writer at a time decide about a record, also about one that does not exist yet."""
        await self.connection.execute("SELECT pg_advisory_xact_lock(hashtext($1), hashtext($2))", kind, name)

    async def answer_to(self, *, scope: str, request_id: UUID, method: str, body_hash: bytes) -> bytes | None:
        """The kept answer to a request id; raises `RequestIdReused` where it was given another body."""
        return await requests.answer_to(
            self.connection, scope=scope, request_id=request_id, method=method, body_hash=body_hash
        )

    async def store_answer(
        self, *, scope: str, request_id: UUID, method: str, body_hash: bytes, response: bytes
    ) -> None:
        """Keeps the answer to a request id, in this transaction."""
        is_first = await requests.store_answer(
            self.connection, scope=scope, request_id=request_id, method=method, body_hash=body_hash, response=response
        )
        if not is_first:
            raise VersionMismatch("the same request is being answered")

    async def refold_account(self, account: Account) -> None:
        """Marks all keys of an account to be folded again from the very start."""
        self.touched.add(account)
        await self._refold(_KEYS_OF_ACCOUNT, account)

    async def refold_instruments(self, names: Sequence[str]) -> None:
        """Marks all keys of instruments, in every account, to be folded again from the very start."""
        self._concerns_all = True
        await self._refold(_KEYS_OF_INSTRUMENTS, list(names))

    async def _refold(self, keys: str, whose: Any) -> None:
        self._refolded.append((keys, whose))
        await self._mark(await self.connection.fetch(f"{keys} FOR NO KEY UPDATE", whose))

    async def _mark(self, rows: Sequence[Any]) -> None:
        ranges = {}
        for row in rows:
            last = VERY_START
            if row["last_executed_at"] is not None:
                last = OrderKey(row["last_executed_at"], row["last_sequence"], row["last_entry_id"])
            ranges[key_of(row)] = StaleRange(
                VERY_START, last, row["fill_count"], touch=1, is_held=False, reason="METHOD"
            )
        await mark_stale(self.connection, ranges)
        self._marked.update(ranges)
        self.touched.update(key.account for key in ranges)

    async def finish(self, *, cause: str) -> None:
        """The last statements before COMMIT: the heads of what was touched, in account order, then the messages that
        are numbered by them."""
        if self._concerns_all:
            await self.connection.execute("LOCK TABLE account_heads IN SHARE ROW EXCLUSIVE MODE")
        commit_id = secrets.randbits(62)
        seqs = dict(await advance_heads(self.connection, self.touched, commit_id=commit_id, cause=cause))
        # Keys that others made while this one looked: from here on they see the new rules (`rules_in_use`).
        for keys, whose in self._refolded:
            rows = await self.connection.fetch(keys, whose)
            await self._mark([row for row in rows if key_of(row) not in self._marked])
        came = self.touched - seqs.keys()
        seqs.update(await advance_heads(self.connection, came, commit_id=commit_id, cause=cause))
        await self._outbox.write(self.connection)
        self.commits = tuple(Commit(Account(account), seq) for account, seq in sorted(seqs.items()))


Writes = TypeVar("Writes", bound=RecordTransaction)


@asynccontextmanager
async def record_transaction(
    database: Database, make: Callable[[Connection], Writes], *, cause: str
) -> AsyncIterator[Writes]:
    """A READ COMMITTED transaction on a record, committed when the block ends well."""
    async with database.write() as connection:
        writes = make(connection)
        yield writes
        await writes.finish(cause=cause)
