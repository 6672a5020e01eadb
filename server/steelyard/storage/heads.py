"""The newest commits of accounts, for readers that wait for one."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from steelyard.accounting.keys import Account
from steelyard.operations.reading import Heads
from steelyard.storage.account_log import read_heads
from steelyard.storage.database import Database


class HeadReads:
    """Fulfils the ports `reading.HeadReads` and `newest_heads.AccountLog`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def heads(self, accounts: Collection[Account]) -> Heads:
        """The newest visible seq of accounts; accounts that never wrote are left out."""
        async with self._database.keyed() as connection:
            found = await read_heads(connection, accounts)
        return {Account(account): seq for account, seq in found.items()}

    async def total(self) -> int:
        """The sum of all accounts' seqs: it grows with every commit of anybody."""
        async with self._database.bare() as connection:
            return int(await connection.fetchval("SELECT coalesce(sum(seq), 0) FROM account_heads"))

    async def recent_accounts(self, limit: int) -> Sequence[Account]:
        """The accounts that were written to last, newest first."""
        async with self._database.bare() as connection:
            rows = await connection.fetch(
                "SELECT account FROM account_heads ORDER BY committed_at DESC, account LIMIT $1", limit
            )
        return [Account(row["account"]) for row in rows]
