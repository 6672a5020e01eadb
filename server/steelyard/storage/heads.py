"""The newest commits of accounts, for readers that wait for one."""

from __future__ import annotations

from collections.abc import Collection

from steelyard.accounting.keys import Account
from steelyard.operations.reading import Heads
from steelyard.storage.account_log import read_heads
from steelyard.storage.database import Database


class HeadReads:
    """Fulfils the port `reading.HeadReads`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def heads(self, accounts: Collection[Account]) -> Heads:
        """The newest visible seq of accounts; accounts that never wrote are left out."""
        async with self._database.bare() as connection:
            found = await read_heads(connection, accounts)
        return {Account(account): seq for account, seq in found.items()}
