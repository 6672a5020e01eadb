"""Discrepancies: one open record per position, kind and what was compared; repeats of it are counted.

The column `kind` names what was compared as well (`FOLD_SIZE`), except for reports of venues, whose kinds stand bare.
A record that somebody ignored stands for its difference as long as both sides stay as they were.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from steelyard.accounting.keys import Account, PositionKey
from steelyard.accounting.units import decimal_text
from steelyard.accounting.venue_report import Difference, VenueReport
from steelyard.operations.account_look import Settled
from steelyard.operations.fix_positions import CAUSE, Fixed
from steelyard.operations.reconciling import (
    DETAIL_MAX,
    Compared,
    Discrepancy,
    DiscrepancyState,
    Finding,
    FindingKind,
    Severity,
)
from steelyard.storage.bulk import KEY, KEY_ORDER, Columns, arrays, unnested
from steelyard.storage.codec import key_of, time_text
from steelyard.storage.database import Connection

_FOUND: Columns = (
    *KEY,
    ("kind", "text"),
    ("discrepancy_id", "uuid"),
    ("ours", "numeric"),
    ("theirs", "numeric"),
    ("source", "text"),
    ("reported_at", "timestamptz"),
    ("compared_with", "text"),
    ("severity", "text"),
    ("detail", "text"),
    ("run_id", "uuid"),
)
_NAMES = ", ".join(name for name, _ in _FOUND)
_NOW = f"${len(_FOUND) + 1}"
_SEEN_IGNORED = f"""
UPDATE discrepancies d SET last_seen_at = {_NOW}, occurrences = d.occurrences + 1, run_id = n.run_id
FROM {unnested(_FOUND)}
WHERE d.state = 'IGNORED' AND d.account = n.account AND d.book = n.book AND d.instrument = n.instrument
  AND d.leg = n.leg AND d.kind = n.kind AND d.ours IS NOT DISTINCT FROM n.ours
  AND d.theirs IS NOT DISTINCT FROM n.theirs
RETURNING d.account, d.book, d.instrument, d.leg, d.kind
"""  # noqa: S608
_NOTE = f"""
INSERT INTO discrepancies AS d ({_NAMES}, found_at, last_seen_at)
SELECT {_NAMES}, {_NOW}, {_NOW} FROM {unnested(_FOUND)} ORDER BY {KEY_ORDER}, kind
ON CONFLICT (account, book, instrument, leg, kind) WHERE state = 'OPEN' DO UPDATE
    SET ours = excluded.ours, theirs = excluded.theirs, source = excluded.source, reported_at = excluded.reported_at,
        severity = excluded.severity, detail = excluded.detail, run_id = excluded.run_id,
        last_seen_at = excluded.last_seen_at, occurrences = d.occurrences + 1
RETURNING {KEY_ORDER}, kind, discrepancy_id, occurrences
"""  # noqa: S608
_SETTLE = """
UPDATE discrepancies SET state = 'RESOLVED', resolved_at = $6, resolved_by = $7, resolution = 'FOUND_NO_MORE',
                         version = version + 1
WHERE account = $1 AND state = 'OPEN' AND compared_with = ANY($2::text[]) AND last_seen_at < $5
  AND (cardinality($3::text[]) = 0 OR instrument = ANY($3)) AND instrument <> ALL($4::text[])
RETURNING discrepancy_id
"""
_FIXED = """
UPDATE discrepancies SET state = 'RESOLVED', resolved_at = $5, resolved_by = $6, resolution = $7, fixed_version = $8,
                         run_id = $9, version = version + 1
WHERE account = $1 AND book = $2 AND instrument = $3 AND leg = $4 AND state = 'OPEN'
  AND (compared_with = ANY($10::text[]) OR kind = ANY($11::text[]))
RETURNING discrepancy_id
"""


@dataclass(frozen=True, slots=True)
class NotedDiscrepancy:
    """The open record that a finding belongs to."""

    finding: Finding
    discrepancy_id: UUID
    occurrences: int

    @property
    def is_new(self) -> bool:
        """Whether this finding opened it."""
        return self.occurrences == 1

    @property
    def body(self) -> Mapping[str, Any]:
        """What others are told of it."""
        found = self.finding
        return {
            "discrepancy_id": str(self.discrepancy_id),
            "kind": found.kind.value,
            "compared_with": found.compared.value,
            "severity": found.severity.value,
            "ours": None if found.ours is None else decimal_text(found.ours),
            "theirs": None if found.theirs is None else decimal_text(found.theirs),
            "detail": found.detail,
            "source": found.source,
            "reported_at": None if found.at is None else time_text(found.at),
        }


def stored_kind(kind: FindingKind, compared: Compared) -> str:
    """A kind as the column holds it."""
    return kind.value if compared is Compared.REPORT else f"{compared.value}_{kind.value}"


async def note(
    connection: Connection, findings: Sequence[Finding], *, run_id: UUID | None, now: datetime
) -> list[NotedDiscrepancy]:
    """Puts findings on record, those that are open already as the same record; ignored ones are left out."""
    found = {(each.key, stored_kind(each.kind, each.compared)): each for each in findings}
    rows = {identity: _values(each, identity[1], run_id=run_id) for identity, each in sorted(found.items())}
    ignored = await connection.fetch(_SEEN_IGNORED, *arrays(rows.values(), _FOUND), now)
    for row in ignored:
        rows.pop(_identity(row), None)
    noted = await connection.fetch(_NOTE, *arrays(rows.values(), _FOUND), now) if rows else ()
    return [NotedDiscrepancy(found[_identity(row)], row["discrepancy_id"], row["occurrences"]) for row in noted]


def _identity(row: Mapping[str, Any]) -> tuple[PositionKey, str]:
    return key_of(row), row["kind"]


def _values(finding: Finding, kind: str, *, run_id: UUID | None) -> tuple[Any, ...]:
    return (
        *finding.key,
        kind,
        uuid4(),
        finding.ours,
        finding.theirs,
        finding.source,
        finding.at,
        finding.compared.value,
        finding.severity.value,
        finding.detail[:DETAIL_MAX],
        run_id,
    )


async def note_difference(
    connection: Connection, report: VenueReport, *, difference: Difference, now: datetime
) -> NotedDiscrepancy | None:
    """The same for what a report of a venue shows; None where somebody ignores it."""
    finding = Finding(
        report.key,
        FindingKind(difference.kind.value),
        Compared.REPORT,
        difference.ours,
        difference.theirs,
        source=report.source,
        at=report.reported_at,
    )
    noted = await note(connection, [finding], run_id=None, now=now)
    return noted[0] if noted else None


async def settle(connection: Connection, account: Account, *, settled: Settled, before: datetime, now: datetime) -> int:
    """Resolves open records of what was looked at and not seen since `before`; how many."""
    gone = await connection.fetch(
        _SETTLE,
        account,
        [each.value for each in settled.compared],
        list(settled.instruments),
        sorted(settled.waiting),
        before,
        now,
        CAUSE,
    )
    return len(gone)


async def settle_fixed(connection: Connection, key: PositionKey, *, done: Fixed) -> int:
    """Resolves what a fix has settled; entries that had no position have one then."""
    also: Collection[str] = ()
    if Compared.FOLD in done.compared:
        also = [stored_kind(FindingKind.ORPHAN_FILLS, Compared.BOOK)]
    compared = [each.value for each in done.compared]
    gone = await connection.fetch(
        _FIXED, *key, done.now, CAUSE, done.resolution, done.version, done.run_id, compared, list(also)
    )
    return len(gone)


def discrepancy_of_row(row: Mapping[str, Any]) -> Discrepancy:
    """The record in a row of `discrepancies`."""
    compared = Compared(row["compared_with"])
    bare = row["kind"] if compared is Compared.REPORT else row["kind"].removeprefix(f"{compared.value}_")
    finding = Finding(
        key_of(row),
        FindingKind(bare),
        compared,
        row["ours"],
        row["theirs"],
        row["detail"],
        row["source"],
        row["reported_at"],
    )
    return Discrepancy(
        discrepancy_id=row["discrepancy_id"],
        finding=finding,
        severity=Severity(row["severity"]),
        state=DiscrepancyState(row["state"]),
        occurrences=row["occurrences"],
        found_at=row["found_at"],
        last_seen_at=row["last_seen_at"],
        run_id=row["run_id"],
        version=row["version"],
        resolved_at=row["resolved_at"],
        resolved_by=row["resolved_by"],
        resolution=row["resolution"],
        fixed_version=row["fixed_version"],
    )
