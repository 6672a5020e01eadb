"""Discrepancies: where a venue and the book differ. One open row per key and kind; repeats of it are counted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from steelyard.accounting.venue_report import Difference, VenueReport
from steelyard.storage.database import Connection

_NOTE = """
INSERT INTO discrepancies AS d (account, discrepancy_id, book, instrument, leg, kind, ours, theirs, source, reported_at,
                                found_at, last_seen_at)
VALUES ($1, $5, $2, $3, $4, $6, $7, $8, $9, $10, $11, $11)
ON CONFLICT (account, book, instrument, leg, kind) WHERE state = 'OPEN' DO UPDATE
    SET ours = excluded.ours, theirs = excluded.theirs, source = excluded.source, reported_at = excluded.reported_at,
        last_seen_at = excluded.last_seen_at, occurrences = d.occurrences + 1
RETURNING discrepancy_id, occurrences
"""


@dataclass(frozen=True, slots=True)
class NotedDiscrepancy:
    """The open discrepancy that a difference belongs to."""

    discrepancy_id: UUID
    occurrences: int

    @property
    def is_new(self) -> bool:
        """Whether this difference opened it."""
        return self.occurrences == 1


async def note_difference(
    connection: Connection, report: VenueReport, *, difference: Difference, now: datetime
) -> NotedDiscrepancy:
    """Opens a discrepancy, or counts one more occurrence of the open one."""
    row = await connection.fetchrow(
        _NOTE,
        *report.key,
        uuid4(),
        difference.kind.value,
        difference.ours,
        difference.theirs,
        report.source,
        report.reported_at,
        now,
    )
    return NotedDiscrepancy(row["discrepancy_id"], row["occurrences"])
