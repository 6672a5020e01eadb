"""Discrepancies as people see them: pages of records, and their verdicts."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, select, tuple_

from steelyard.accounting.keys import Account
from steelyard.operations.keep_discrepancies import Verdict
from steelyard.operations.reading import Cursor, Page, Snapshot, page_of
from steelyard.operations.reconciling import Compared, Discrepancy, DiscrepancyFilter, FindingKind
from steelyard.storage.compiled import HEADS
from steelyard.storage.database import Database
from steelyard.storage.discrepancies import discrepancy_of_row, stored_kind
from steelyard.storage.record_writes import RecordTransaction, record_transaction
from steelyard.storage.tables import discrepancies

_D = discrepancies.c
_FIND = "SELECT * FROM discrepancies WHERE account = $1 AND discrepancy_id = $2"
_SETTLE = """
UPDATE discrepancies SET state = $3, resolution = $4, resolved_by = $5, resolved_at = $6, version = version + 1
WHERE account = $1 AND discrepancy_id = $2 RETURNING *
"""


class DiscrepancyTransaction(RecordTransaction):
    """Fulfils the port `keep_discrepancies.DiscrepancyWrites`."""

    async def locked(self, account: Account, discrepancy_id: UUID) -> Discrepancy | None:
        """A record, locked until the commit."""
        row = await self.connection.fetchrow(f"{_FIND} FOR NO KEY UPDATE", account, discrepancy_id)
        return None if row is None else discrepancy_of_row(row)

    async def write(self, verdict: Verdict, *, now: datetime) -> Discrepancy:
        """Settles a record under the next version; steps the account's log."""
        self.touched.add(verdict.account)
        row = await self.connection.fetchrow(
            _SETTLE, verdict.account, verdict.discrepancy_id, verdict.state.value, verdict.reason, verdict.by, now
        )
        return discrepancy_of_row(row)


class DiscrepancyRecords:
    """Fulfils the port `keep_discrepancies.DiscrepancyStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def transaction(self) -> AbstractAsyncContextManager[DiscrepancyTransaction]:
        """A transaction, committed when the block ends well."""
        return record_transaction(self._database, DiscrepancyTransaction, cause="discrepancy")

    async def find(self, account: Account, discrepancy_id: UUID) -> Discrepancy | None:
        """A record by its id."""
        async with self._database.read() as connection:
            row = await connection.fetchrow(_FIND, account, discrepancy_id)
        return None if row is None else discrepancy_of_row(row)

    async def page(
        self, wanted: DiscrepancyFilter, *, size: int, after: Cursor | None, heads: Collection[Account]
    ) -> Snapshot[Page[Discrepancy]]:
        """Records, the newest first."""
        place = tuple_(_D.found_at, _D.account, _D.discrepancy_id)
        order = (_D.found_at.desc(), _D.account.desc(), _D.discrepancy_id.desc())
        statement = select(discrepancies).where(*_conditions(wanted)).order_by(*order).limit(size + 1)
        if after is not None:
            statement = statement.where(place < tuple_(*after))
        async with self._database.core() as connection:
            rows = (await connection.execute(statement)).mappings().all()
            seen = (await connection.execute(HEADS, {"heads_of": list(heads)})).all()
        found = [discrepancy_of_row(dict(row)) for row in rows]
        page = page_of(
            found, size=size, place=lambda each: (each.found_at, str(each.finding.key.account), each.discrepancy_id)
        )
        return Snapshot(page, dict(seen))


def _conditions(wanted: DiscrepancyFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    for column, values in (
        (_D.account, wanted.accounts),
        (_D.instrument, wanted.instruments),
        (_D.kind, _stored_kinds(wanted)),
        (_D.compared_with, wanted.compared),
        (_D.severity, wanted.severities),
        (_D.state, wanted.states),
    ):
        if values:
            conditions.append(column.in_([str(value) for value in values]))
    if wanted.run_id is not None:
        conditions.append(_D.run_id == wanted.run_id)
    if wanted.found_from is not None:
        conditions.append(_D.found_at >= wanted.found_from)
    if wanted.found_before is not None:
        conditions.append(_D.found_at < wanted.found_before)
    return conditions


def _stored_kinds(wanted: DiscrepancyFilter) -> list[str]:
    return [stored_kind(FindingKind(kind), compared) for kind in wanted.kinds for compared in Compared]
