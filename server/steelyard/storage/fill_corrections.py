"""Corrected fills: the stored revision is kept, the corrected one takes its place."""

from __future__ import annotations

from steelyard.accounting.entries import Fill
from steelyard.accounting.instruments import Instrument
from steelyard.storage.bulk import arrays
from steelyard.storage.database import Connection
from steelyard.storage.fills import IDS, KEEP_REVISION, fill_values

_CORRECT = """
UPDATE fills SET book = $3, instrument = $4, leg = $5, delta = $6, price = $7, fee = $8, fee_currency = $9,
    fee_rate = $10, fee_value = $11, executed_at = $12, source_sequence = $13, order_id = $14, note = $15, labels = $16,
    commit_id = $17, revision = $18, state = $19, recorded_at = now()
WHERE account = $1 AND fill_id = $2
"""


async def correct_fill(connection: Connection, corrected: Fill, *, instrument: Instrument, commit_id: int) -> None:
    """Keeps the stored revision among the earlier ones and writes the corrected one over it."""
    await connection.execute(KEEP_REVISION, *arrays([(corrected.account, corrected.fill_id)], IDS))
    state = "BUSTED" if corrected.is_busted else "LIVE"
    values = fill_values(corrected, instrument, commit_id=commit_id)
    await connection.execute(_CORRECT, *values, corrected.revision, state)
