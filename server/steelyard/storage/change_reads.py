"""The account log as watchers read it: events behind a place, and what is held with the head of the log."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import select, tuple_

from steelyard.accounting.keys import Account, PositionKey
from steelyard.operations.account_tail import HeldNow, Place
from steelyard.operations.position_view import PositionRow
from steelyard.operations.read_events import PositionEvent
from steelyard.operations.reading import Heads
from steelyard.storage.account_log import read_heads
from steelyard.storage.codec import key_of
from steelyard.storage.database import Database
from steelyard.storage.event_reads import EVENT, event_of
from steelyard.storage.position_rows import CONTEXT, FULL, KEY_COLUMNS, VENUE, P, joined, row_of
from steelyard.storage.tables import position_events
from steelyard.storage.trip_reads import heads_in

_PLACE = (EVENT.seq, EVENT.book, EVENT.instrument, EVENT.leg)


class ChangeReads:
    """Fulfils the port `account_tail.ChangeStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._epoch: str | None = None

    async def epoch(self) -> str:
        """The name this database was given when its log began."""
        if self._epoch is None:
            async with self._database.bare() as connection:
                self._epoch = str(await connection.fetchval("SELECT epoch FROM database_epoch"))
        return self._epoch

    async def heads(self, accounts: Collection[Account]) -> Heads:
        """The newest seq of accounts."""
        async with self._database.bare() as connection:
            found = await read_heads(connection, accounts)
        return {Account(account): seq for account, seq in found.items()}

    async def changes(self, account: Account, *, after: Place, limit: int) -> Sequence[PositionEvent]:
        """Position events behind a place, in the order of the log."""
        statement = (
            select(position_events)
            .where(EVENT.account == account, EVENT.seq >= after.seq, tuple_(*_PLACE) > tuple_(*after))
            .order_by(*_PLACE)
            .limit(limit)
        )
        async with self._database.core() as connection:
            rows = (await connection.execute(statement)).mappings().all()
            keys = {key_of(row) for row in rows}
            wanted = tuple_(*KEY_COLUMNS).in_([tuple(map(str, key)) for key in keys])
            current = select(*CONTEXT, VENUE).select_from(joined()).where(wanted)
            today: dict[PositionKey, PositionRow] = {}
            for row in (await connection.execute(current)).mappings() if keys else ():
                position = row_of(row, has_trip=False)
                today[position.key] = position
        return [event_of(row, today[key_of(row)]) for row in rows]

    async def held_now(self, account: Account) -> HeldNow:
        """All positions of an account and the head of its log, in one snapshot."""
        statement = select(*CONTEXT, *FULL).select_from(joined()).where(P.account == account).order_by(*KEY_COLUMNS)
        async with self._database.core() as connection:
            rows = (await connection.execute(statement)).mappings().all()
            heads = await heads_in(connection, [account])
        return HeldNow([row_of(row, has_trip=True) for row in rows], heads.get(account, 0))
