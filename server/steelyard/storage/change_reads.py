"""The account log as watchers read it: events behind a place, and what is held with the head of the log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import select

from steelyard.accounting.keys import Account
from steelyard.operations.account_tail import HeldNow, Place
from steelyard.operations.read_events import PositionEvent
from steelyard.operations.reading import Heads
from steelyard.storage.codec import key_of
from steelyard.storage.compiled import Compiled
from steelyard.storage.database import Database
from steelyard.storage.event_reads import event_of
from steelyard.storage.heads import HeadReads
from steelyard.storage.position_reads import key_arguments, wanted_positions
from steelyard.storage.position_rows import CONTEXT, FULL, KEY_COLUMNS, VENUE, P, joined, row_of
from steelyard.storage.trip_reads import heads_in

_CHANGES = """
SELECT e.* FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[])
    AS place(account, seq, book, instrument, leg)
CROSS JOIN LATERAL (
    SELECT * FROM position_events
    WHERE account = place.account AND seq >= place.seq
        AND (seq, book, instrument, leg)
            > (place.seq, place.book COLLATE "C", place.instrument COLLATE "C", place.leg COLLATE "C")
    ORDER BY seq, book, instrument, leg LIMIT $6
) e
ORDER BY e.account, e.seq, e.book, e.instrument, e.leg
"""
_START, _ = wanted_positions()
_TODAY = Compiled(select(*CONTEXT, VENUE).select_from(joined(_START)))


class ChangeReads:
    """Fulfils the port `account_tail.ChangeStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._heads = HeadReads(database)
        self._epoch: str | None = None

    async def epoch(self) -> str:
        """The name this database was given when its log began."""
        if self._epoch is None:
            async with self._database.bare() as connection:
                self._epoch = str(await connection.fetchval("SELECT epoch FROM database_epoch"))
        return self._epoch

    async def heads(self, accounts: Collection[Account]) -> Heads:
        """The newest seq of accounts."""
        return await self._heads.heads(accounts)

    async def changes(self, after: Mapping[Account, Place], *, limit: int) -> Mapping[Account, Sequence[PositionEvent]]:
        """Position events of accounts behind a place in the log of each, in its order, at most `limit` of each."""
        places = list(zip(*after.values(), strict=True))
        async with self._database.bare() as raw:
            rows = await raw.fetch(_CHANGES, list(after), *map(list, places), limit)
            if not rows:
                return {}
            keys = [key_of(row) for row in rows]
            current = await raw.fetch(_TODAY.text, *key_arguments(_TODAY, list(dict.fromkeys(keys)), heads=()))
        today = {key_of(row): row_of(row, has_trip=False) for row in current if row["account"] is not None}
        found: dict[Account, list[PositionEvent]] = defaultdict(list)
        for row, key in zip(rows, keys, strict=True):
            found[key.account].append(event_of(row, today[key]))
        return found

    async def held_now(self, account: Account) -> HeldNow:
        """All positions of an account and the head of its log, in one snapshot."""
        statement = select(*CONTEXT, *FULL).select_from(joined()).where(P.account == account).order_by(*KEY_COLUMNS)
        async with self._database.core() as connection:
            rows = (await connection.execute(statement)).mappings().all()
            heads = await heads_in(connection, [account])
        return HeldNow([row_of(row, has_trip=True) for row in rows], heads.get(account, 0))
