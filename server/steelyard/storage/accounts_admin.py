"""Records of accounts as they are kept, listed and changed."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from typing import Any

from steelyard.accounting.keys import Account
from steelyard.operations.keep_accounts import AccountRecord
from steelyard.operations.ports import AccountRules
from steelyard.operations.reading import Cursor, Heads, Page, Snapshot, page_of
from steelyard.storage.account_log import read_heads
from steelyard.storage.codec import dumps
from steelyard.storage.database import Connection, Database
from steelyard.storage.instruments import rules_of_row
from steelyard.storage.record_writes import RecordTransaction, record_transaction

_FIND = "SELECT * FROM accounts WHERE account = $1"
_PAGE = "SELECT * FROM accounts WHERE account > $1 ORDER BY account LIMIT $2"
_WRITE = """
INSERT INTO accounts AS a (account, cost_method, lot_method, size_authority, time_zone, day_rule, sealed_before)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (account) DO UPDATE
    SET cost_method = excluded.cost_method, lot_method = excluded.lot_method,
        size_authority = excluded.size_authority, time_zone = excluded.time_zone, day_rule = excluded.day_rule,
        sealed_before = excluded.sealed_before,
        version = a.version + 1, updated_at = now()
RETURNING *
"""


class AccountTransaction(RecordTransaction):
    """Fulfils the port `keep_accounts.AccountWrites`."""

    async def locked(self, account: Account) -> AccountRecord | None:
        """The record, locked until the commit."""
        await self.lock("account", account)
        row = await self.connection.fetchrow(f"{_FIND} FOR UPDATE", account)
        return None if row is None else record_of_row(row)

    async def write(self, rules: AccountRules) -> AccountRecord:
        """Makes the record, or replaces it under the next version; steps the account's log."""
        self.touched.add(rules.account)
        row = await self.connection.fetchrow(
            _WRITE,
            rules.account,
            rules.cost_method.value,
            rules.lot_method.value,
            rules.size_authority,
            rules.time_zone,
            dumps(dict(rules.day_rule)),
            rules.sealed_before,
        )
        return record_of_row(row)


class AccountRecords:
    """Fulfils the port `keep_accounts.AccountStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def transaction(self) -> AbstractAsyncContextManager[AccountTransaction]:
        """A transaction, committed when the block ends well."""
        return record_transaction(self._database, AccountTransaction, cause="account")

    async def find(self, account: Account, *, heads: Collection[Account]) -> Snapshot[AccountRecord | None]:
        """One record."""
        async with self._database.read() as connection:
            row = await connection.fetchrow(_FIND, account)
            seen = await _heads(connection, heads)
        return Snapshot(None if row is None else record_of_row(row), seen)

    async def page(
        self, *, size: int, after: Cursor | None, heads: Collection[Account]
    ) -> Snapshot[Page[AccountRecord]]:
        """Records by name."""
        start = "" if after is None else after[0]
        async with self._database.read() as connection:
            rows = await connection.fetch(_PAGE, start, size + 1)
            seen = await _heads(connection, heads)
        records = [record_of_row(row) for row in rows]
        return Snapshot(page_of(records, size=size, place=lambda record: (str(record.rules.account),)), seen)


async def _heads(connection: Connection, wanted: Collection[Account]) -> Heads:
    return {Account(account): seq for account, seq in (await read_heads(connection, wanted)).items()}


def record_of_row(row: Any) -> AccountRecord:
    """The record in a row of `accounts`."""
    return AccountRecord(rules=rules_of_row(row), created_at=row["created_at"], updated_at=row["updated_at"])
