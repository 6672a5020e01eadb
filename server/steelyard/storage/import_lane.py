"""One lane of an import: a connection with staging tables of its own, on which parts become fills.

Two lanes take parts in turn: one stages and looks its rows over while the other inserts. Only inserting itself goes by
turns, so what a file says twice is told apart in the order of the file.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import asyncpg

from steelyard.accounting.errors import PeriodSealed
from steelyard.accounting.keys import Account, InstrumentName
from steelyard.operations.feed_ports import linear_record
from steelyard.operations.importing import ImportCounts, MergedPart, MergePlan, RowCategory, StoreResult, Turn
from steelyard.operations.ports import Commit
from steelyard.storage import staging
from steelyard.storage.account_log import advance_heads
from steelyard.storage.bulk import KEY, Columns, arrays, insert_rows
from steelyard.storage.database import Connection
from steelyard.storage.driver_errors import translated
from steelyard.storage.instruments import find_accounts, find_instruments, register_instruments
from steelyard.storage.seals import EarliestEntries

OPTIMISTIC_ROWS = 2_000
"""Parts of at least so many rows are first inserted as if all of them were new."""
PART_ATTEMPTS = 3
"""How often a part is tried where another writer was in the way."""
STAGED = (
    "row_number", "account", "book", "instrument", "leg", "side", "quantity", "price", "fee", "fee_currency",
    "executed_at", "source_sequence", "fill_id", "order_id",
)  # fmt: skip
_TOUCHED: Columns = (*KEY, ("entries", "int8"))
_TAKE_TOUCHED = insert_rows(
    "touched_keys AS t",
    _TOUCHED,
    on_conflict="(account, book, instrument, leg) DO UPDATE SET entries = t.entries + excluded.entries",
)


@dataclass(slots=True)
class FileSoFar:
    """What the lanes of one file know together."""

    accounts: set[Account] = field(default_factory=set)
    """Those that the parts have named so far."""
    is_all_new: bool = True
    """Whether no row was known so far."""


class ImportLane:
    """Fulfils the port `StagingLane`."""

    def __init__(self, connection: Connection, file: FileSoFar) -> None:
        self._connection = connection
        self._file = file
        self._staged = 0
        """Rows of the part that is merged next."""

    async def stage(self, lines: bytes) -> None:
        """Adds parsed rows, tab separated as COPY reads them, to the part that is merged next."""
        with translated():
            await self._connection.copy_to_table("staged_rows", source=BytesIO(lines), columns=STAGED, format="text")
        self._staged += lines.count(b"\n")

    async def merge(self, plan: MergePlan, *, turn: Turn) -> MergedPart:
        """Records the staged part in a transaction of its own, in key order, and empties the staging place.

        The rows go into the book when it is this part's turn, so the first of two rows with one id is the one recorded.
        With `is_validate_only` all parts of the lane are one transaction that never commits.
        """
        with translated():
            if plan.is_validate_only and not self._connection.is_in_transaction():
                await self._connection.transaction().start()
            refused, results = await self._refuse(plan)
            await self._make_records(plan)
            merged = await self._merge_with_retries(plan, turn=turn, refused=refused)
            await self._connection.execute(staging.CLEAR_ROWS)
            self._staged = 0
            counts = merged.counts.plus(ImportCounts(rejected=refused))
            return MergedPart(counts, [*results, *merged.results], merged.commits)

    async def _merge_with_retries(self, plan: MergePlan, *, turn: Turn, refused: int) -> MergedPart:
        await turn.wait()
        for attempt in range(1, PART_ATTEMPTS + 1):
            try:
                async with self._connection.transaction():
                    return await self._merge(plan, turn=turn, rows=self._staged - refused)
            except (asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError, asyncpg.SerializationError):
                if attempt == PART_ATTEMPTS:
                    raise
        raise AssertionError("a try either returns or raises")

    async def _merge(self, plan: MergePlan, *, turn: Turn, rows: int) -> MergedPart:
        connection, commit_id = self._connection, secrets.randbits(62)
        await connection.execute(staging.CLEAR_PART)
        recorded = await self._insert(plan, commit_id, rows=rows)
        turn.end()
        entered = EarliestEntries()
        await note_part(self._connection, entered, reason="IMPORT", is_held=plan.is_held)
        counts, results = ImportCounts(recorded=recorded), []
        if recorded < rows:
            counts = counts.plus(await self._settle_others(plan, commit_id, entered=entered))
            results = await self._results(plan)
        seqs = await advance_heads(connection, entered.at, commit_id=commit_id, cause="import")
        if await entered.are_sealed(connection):
            raise PeriodSealed("an account was sealed while a file was imported into it; import it again")
        return MergedPart(counts, results, tuple(Commit(Account(name), seq) for name, seq in sorted(seqs.items())))

    async def _refuse(self, plan: MergePlan) -> tuple[int, list[StoreResult]]:
        """Takes the rows out that cannot be recorded, and gives how many there were and the first of them."""
        await self._connection.execute(staging.INSTRUMENTS)
        if plan.symbols is not None:
            await self._register(plan.symbols)
        allowed = None if plan.allowed_accounts is None else sorted(plan.allowed_accounts)
        refused = affected(await self._connection.execute(staging.REFUSALS, plan.now, allowed))
        if not refused:
            return 0, []
        await self._connection.execute(staging.TAKE_OUT)
        rows = await self._connection.fetch(staging.FIRST_REFUSALS, plan.results_max)
        return refused, [
            StoreResult(row["row_number"], RowCategory.VALIDATION, row["field"], row["reason"]) for row in rows
        ]

    async def _register(self, symbols: str) -> None:
        """Registers unknown instruments of this form."""
        unknown = [InstrumentName(row["instrument"]) for row in await self._connection.fetch(staging.UNKNOWN)]
        new = [linear_record(name) for name in unknown if re.search(symbols, name)]
        if new:
            await register_instruments(self._connection, new)
            await self._connection.execute(staging.INSTRUMENTS)

    async def _make_records(self, plan: MergePlan) -> None:
        """Makes the accounts and contracts that the file is the first to name; no lock on them outlasts this."""
        named = {Account(row["account"]) for row in await self._connection.fetch(staging.ACCOUNTS)}
        contracts = [InstrumentName(row[0]) for row in await self._connection.fetch(staging.NEW_CONTRACTS)]
        async with self._connection.transaction():
            await find_accounts(self._connection, named - self._file.accounts, make=plan.new_accounts)
            await find_instruments(self._connection, contracts)
        self._file.accounts |= named

    async def _insert(self, plan: MergePlan, commit_id: int, *, rows: int) -> int:
        """Inserts the rows that are not known, sums up their keys, and gives how many they were."""
        connection = self._connection
        if self._file.is_all_new and rows >= OPTIMISTIC_ROWS:
            try:
                async with connection.transaction():
                    await connection.execute(staging.INSERT_NEW, plan.import_id, commit_id)
                await connection.execute(staging.SUM_UP_ALL)
                return rows
            except asyncpg.UniqueViolationError:
                self._file.is_all_new = False
        await connection.execute(staging.INSERT_UNKNOWN, plan.import_id, commit_id)
        return int(await connection.fetchval(staging.COUNT_ADDED))

    async def _settle_others(self, plan: MergePlan, commit_id: int, *, entered: EarliestEntries) -> ImportCounts:
        """Tells the rows that were not inserted apart, and gives what they came to."""
        connection = self._connection
        await connection.execute("SET LOCAL enable_seqscan = off")
        await connection.execute(staging.LOOK_AT_OTHERS, commit_id, plan.import_id)
        await connection.execute("SET LOCAL enable_seqscan = on")
        counted = await connection.fetchrow(staging.COUNT_OTHERS)
        reinstated = await self._change_known(plan, commit_id, entered=entered)
        return ImportCounts(
            recorded=reinstated,
            repeated=counted["same"] - reinstated,
            conflicting=counted["conflicting"],
            rejected=counted["twice"],
        )

    async def _change_known(self, plan: MergePlan, commit_id: int, *, entered: EarliestEntries) -> int:
        """Attests known fills, reinstates withdrawn ones and keeps smaller sequences; gives how many were
        reinstated."""
        connection = self._connection
        await connection.execute(staging.ATTEST, plan.import_id)
        if not affected(await connection.execute(staging.FIND_CHANGING)):
            return 0
        await connection.execute(staging.LOCK_CHANGING)
        moved = await connection.fetch(staging.KEEP_SMALLER, commit_id)
        await connection.execute(staging.KEEP_REVISIONS)
        reinstated = await connection.fetch(staging.REINSTATE, plan.import_id, commit_id)
        ranges = _range_per_key([*moved, *reinstated])
        await connection.execute("TRUNCATE part_keys")
        await connection.copy_records_to_table("part_keys", records=ranges, columns=staging.PART_KEY)
        await note_part(self._connection, entered, reason="IMPORT", is_held=plan.is_held)
        return len(reinstated)

    async def _results(self, plan: MergePlan) -> list[StoreResult]:
        rows = await self._connection.fetch(staging.CONFLICTS, plan.results_max)
        rows += await self._connection.fetch(staging.DUPLICATES, plan.results_max)
        return [
            StoreResult(row["row_number"], RowCategory(row["category"]), row["field"] or None, row["reason"])
            for row in rows
        ]

    async def take_touched(self, other: ImportLane) -> None:
        """Notes the keys that another lane has touched as touched here."""
        rows = await other._connection.fetch("SELECT account, book, instrument, leg, entries FROM touched_keys")
        if rows:
            await self._connection.execute(_TAKE_TOUCHED, *arrays(rows, _TOUCHED))


async def note_part(connection: Connection, entered: EarliestEntries, *, reason: str, is_held: bool) -> None:
    """Leaves the keys in `part_keys` stale, and notes them for the build and for what is entered."""
    await connection.execute(staging.NOTE_STALE, secrets.randbits(61), reason, is_held)
    await connection.execute(staging.NOTE_TOUCHED)
    for row in await connection.fetch(staging.ENTERED):
        entered.note(row["account"], row["entered_at"])


def affected(status: str) -> int:
    """How many rows a command says it has affected."""
    return int(status.rsplit(" ", 1)[1])


def _range_per_key(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """What changed fills leave stale, one range per key: from the first place to the last, old places included."""
    places: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
    for row in rows:
        at, fill_id = row["executed_at"], row["fill_id"]
        of_key = places.setdefault((row["account"], row["book"], row["instrument"], row["leg"]), [])
        of_key += [(at, row["source_sequence"], fill_id), (at, row["old_sequence"], fill_id)]
    return [(*key, len(of_key) // 2, *min(of_key), *max(of_key)) for key, of_key in places.items()]
