"""The account log: one number per account that counts its commits, without gaps and in commit order.

Every writing transaction advances the heads it touches as its last statement, in account order. The row lock it takes
makes the number the order of commits: a reader that has seen `seq` has seen everything before it, so it serves as
resume token, cache key, `min_commit` and the order of what was known when.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from steelyard.storage.database import Connection

_ADVANCE = """
WITH moved AS (
    INSERT INTO account_heads AS h (account, seq, committed_at)
    SELECT a, 1, clock_timestamp() FROM unnest($1::text[]) WITH ORDINALITY AS t(a, place) ORDER BY place
    ON CONFLICT (account) DO UPDATE
        SET seq = h.seq + 1, committed_at = greatest(clock_timestamp(), h.committed_at + interval '1 microsecond')
    RETURNING account, seq, committed_at
), logged AS (
    INSERT INTO account_commits (account, seq, commit_id, committed_at, cause)
    SELECT account, seq, $2, committed_at, $3 FROM moved
)
SELECT account, seq, committed_at FROM moved
"""


async def advance_heads(
    connection: Connection, accounts: Iterable[str], *, commit_id: int, cause: str
) -> Mapping[str, int]:
    """Steps each account's log by one and records the commit; must come last before COMMIT. Gives the new seqs."""
    names = sorted(set(accounts))
    if not names:
        return {}
    rows = await connection.fetch(_ADVANCE, names, commit_id, cause)
    return {row["account"]: row["seq"] for row in rows}


async def read_heads(connection: Connection, accounts: Iterable[str]) -> Mapping[str, int]:
    """The newest seq of accounts, as this snapshot sees them; accounts that never wrote are left out."""
    rows = await connection.fetch(
        "SELECT account, seq FROM account_heads WHERE account = ANY($1::text[])", sorted(set(accounts))
    )
    return {row["account"]: row["seq"] for row in rows}
