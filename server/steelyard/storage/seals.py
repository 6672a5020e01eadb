"""Seals against writers that are under way: an entry of a sealed period never commits after the seal.

A writer looks at the seal before it writes, and once more when it holds the account's head, which sealing takes as
well: either the entry's commit comes before the seal's in the account's log, or the seal is seen here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from steelyard.accounting.entries import Fill
from steelyard.accounting.instruments import Instrument
from steelyard.accounting.keys import Account, InstrumentName
from steelyard.operations.ports import FillOutcome, RecordedFill
from steelyard.storage.database import Connection
from steelyard.storage.fills import known_fills

_SEALED = """
SELECT a.account FROM unnest($1::text[], $2::timestamptz[]) AS n(account, entered_at) JOIN accounts a USING (account)
WHERE n.entered_at < a.sealed_before LIMIT 1
"""


class EarliestEntries:
    """The earliest entry of each account that a transaction adds or changes."""

    def __init__(self) -> None:
        self._at: dict[Account, datetime] = {}

    def note(self, account: Account, at: datetime) -> None:
        """An entry of this time is added, changed or taken out."""
        self._at[account] = min(at, self._at.get(account, at))

    @property
    def at(self) -> Mapping[Account, datetime]:
        """When, by account."""
        return self._at

    async def are_sealed(self, connection: Connection) -> bool:
        """Whether an account was sealed meanwhile after one of them. The accounts' heads must have been advanced."""
        return bool(self._at) and bool(await connection.fetchval(_SEALED, list(self._at), list(self._at.values())))


async def repeats_of_known(
    connection: Connection, fills: Sequence[Fill], *, instruments: Mapping[InstrumentName, Instrument]
) -> list[RecordedFill | None]:
    """What recording fills again comes to that are known as they stand, whatever their sequence; None for the others,
    which would change something. Writes nothing."""
    known = await known_fills(connection, [(fill.account, fill.fill_id) for fill in fills])
    found: list[RecordedFill | None] = []
    for fill in fills:
        stored = known.get((fill.account, fill.fill_id))
        outcome = None if stored is None else stored.repeat(fill, instruments[fill.key.instrument]).outcome
        found.append(RecordedFill(outcome, None) if outcome in (FillOutcome.REPEATED, FillOutcome.BUSTED) else None)
    return found
