"""Keys of the API as they are kept: their terms, the digest of their secret, their life."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any

from steelyard.accounting.errors import StoreUnavailable
from steelyard.accounting.keys import Account
from steelyard.operations.access import ApiKey, KeyTerms, Scope, Tier
from steelyard.operations.reading import Cursor, Page, page_of
from steelyard.storage.bulk import Columns, arrays, unnested
from steelyard.storage.database import Database
from steelyard.storage.record_writes import RecordTransaction, record_transaction

KEYS_MAX = 10_000
"""Live keys that one service knows."""

_LIVE = "SELECT * FROM api_keys WHERE revoked_at IS NULL ORDER BY created_at LIMIT $1"
_FIND = "SELECT * FROM api_keys WHERE key_id = $1"
_COUNT_LIVE = """
SELECT count(*) FROM api_keys WHERE owner = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)
"""
_ADD = """
INSERT INTO api_keys (key_id, owner, digest, scopes, accounts, tier, calls_per_minute, fills_per_second, streams_max,
                      builds_max, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""
_REVOKE = "UPDATE api_keys SET revoked_at = coalesce(revoked_at, $2) WHERE key_id = $1 RETURNING *"
_PAGE = """
SELECT * FROM api_keys
WHERE ($1::text IS NULL OR owner = $1) AND ($2::boolean IS FALSE OR revoked_at IS NULL) AND (owner, key_id) > ($3, $4)
ORDER BY owner, key_id LIMIT $5
"""
_USES: Columns = (("key_id", "text"), ("last_used_at", "timestamptz"))
_USED = f"""
UPDATE api_keys t SET last_used_at = greatest(t.last_used_at, n.last_used_at)
FROM {unnested(_USES)} WHERE t.key_id = n.key_id
"""  # noqa: S608 - the columns named above


class KeyTransaction(RecordTransaction):
    """Fulfils the port `keep_keys.KeyWrites`."""

    async def lock_owner(self, owner: str) -> None:
        """Lets one writer at a time decide about the keys of an owner."""
        await self.lock("api_keys", owner)

    async def count_live(self, owner: str, *, now: datetime) -> int:
        """How many keys of an owner are live."""
        return int(await self.connection.fetchval(_COUNT_LIVE, owner, now))

    async def add(self, key: ApiKey, *, digest: bytes) -> None:
        """Keeps a new key."""
        terms = key.terms
        await self.connection.execute(
            _ADD,
            *(key.key_id, terms.owner, digest, sorted(terms.scopes)),
            None if terms.accounts is None else sorted(terms.accounts),
            *(terms.tier.value, terms.calls_per_minute, terms.fills_per_second, terms.streams_max, terms.builds_max),
            *(key.created_at, terms.expires_at),
        )

    async def find(self, key_id: str) -> ApiKey | None:
        """One key, whatever became of it."""
        row = await self.connection.fetchrow(_FIND, key_id)
        return None if row is None else _key(row)

    async def revoke(self, key_id: str, *, now: datetime) -> ApiKey | None:
        """Takes a key back; None where there is none. One that was taken back keeps its time."""
        row = await self.connection.fetchrow(_REVOKE, key_id, now)
        return None if row is None else _key(row)


class KeyRecords:
    """Fulfils the ports `keep_keys.KeyStore` and `key_ring.KeyReads`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def transaction(self) -> AbstractAsyncContextManager[KeyTransaction]:
        """A transaction, committed when the block ends well."""
        return record_transaction(self._database, KeyTransaction, cause="keys")

    async def page(self, *, owner: str | None, is_live_only: bool, size: int, after: Cursor | None) -> Page[ApiKey]:
        """Keys by owner and id."""
        place = ("", "") if after is None else after
        async with self._database.bare() as connection:
            rows = await connection.fetch(_PAGE, owner, is_live_only, *place, size + 1)
        return page_of([_key(row) for row in rows], size=size, place=lambda key: (key.terms.owner, key.key_id))

    async def live(self) -> Mapping[str, tuple[ApiKey, bytes]]:
        """Every key that was not taken back, by its id, with the digest of its secret."""
        async with self._database.bare() as connection:
            rows = await connection.fetch(_LIVE, KEYS_MAX + 1)
        if len(rows) > KEYS_MAX:
            raise StoreUnavailable(f"more than {KEYS_MAX} live keys: take some back")
        return {row["key_id"]: (_key(row), bytes(row["digest"])) for row in rows}

    async def used(self, last_used: Mapping[str, datetime]) -> None:
        """Notes when keys were last used."""
        rows = sorted(last_used.items())
        async with self._database.write() as connection:
            await connection.execute(_USED, *arrays(rows, _USES))


def _key(row: Any) -> ApiKey:
    accounts = row["accounts"]
    return ApiKey(
        key_id=row["key_id"],
        terms=KeyTerms(
            owner=row["owner"],
            scopes=frozenset(Scope(scope) for scope in row["scopes"]),
            accounts=None if accounts is None else frozenset(Account(name) for name in accounts),
            tier=Tier(row["tier"]),
            calls_per_minute=row["calls_per_minute"],
            fills_per_second=row["fills_per_second"],
            streams_max=row["streams_max"],
            builds_max=row["builds_max"],
            expires_at=row["expires_at"],
        ),
        created_at=row["created_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
    )
