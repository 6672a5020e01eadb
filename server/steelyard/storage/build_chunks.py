"""Chunks of builds as workers see them: claimed with a fence, written under it, ended once.

Who claims a chunk steps its fence; every write of a chunk first looks at the fence, under a lock that a claim waits
for, so a worker that was thought dead can write nothing any more. The database's clock rules the leases.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from steelyard.accounting.entries import Entry
from steelyard.accounting.errors import FenceLost
from steelyard.accounting.instruments import Instrument
from steelyard.accounting.keys import InstrumentName, OrderKey, PositionKey
from steelyard.operations.building import (
    BuildError,
    BuildMode,
    BuildState,
    BuildTrigger,
    ChunkProgress,
    ClaimedChunk,
    KeyResult,
    KeyState,
    PlannedKey,
)
from steelyard.operations.ports import Clock
from steelyard.storage import instruments, past_changes, stale_keys
from steelyard.storage.build_ending import end_build
from steelyard.storage.bulk import KEY, KEY_ORDER, Columns, arrays, unnested
from steelyard.storage.codec import dumps, key_of
from steelyard.storage.database import Connection, Database
from steelyard.storage.driver_errors import translated
from steelyard.storage.entry_records import forget_numbers, read_entry_records, remember_numbers
from steelyard.storage.ledger import PostgresTransaction
from steelyard.storage.told import Told

LEASE_S = 8

_CLAIM = """
UPDATE build_chunks c SET fence = c.fence + 1, lease_until = clock_timestamp() + make_interval(secs => $3)
WHERE c.build_id = $1 AND c.chunk = $2 AND NOT c.is_done
RETURNING c.fence
"""
_START = """
UPDATE builds SET state = CASE state WHEN 'PENDING' THEN 'RUNNING' ELSE state END,
                  started_at = coalesce(started_at, clock_timestamp()), updated_at = clock_timestamp()
WHERE build_id = $1 AND finished_at IS NULL
RETURNING mode, trigger, is_validate_only, import_id, started_at + make_interval(secs => timeout_s) AS deadline
"""
_WAITING = """
SELECT account, book, instrument, leg, fills FROM build_keys
WHERE build_id = $1 AND chunk = $2 AND state IN ('PENDING', 'RUNNING') ORDER BY account, book, instrument, leg
"""
_FENCE = """
SELECT b.state FROM build_chunks c JOIN builds b USING (build_id)
WHERE c.build_id = $1 AND c.chunk = $2 AND c.fence = $3 AND NOT c.is_done FOR SHARE OF c
"""
_RENEW = """
UPDATE build_chunks SET lease_until = clock_timestamp() + make_interval(secs => $4)
WHERE build_id = $1 AND chunk = $2 AND fence = $3 AND NOT is_done
"""
_REPORT = """
UPDATE builds SET keys_done = least(keys_total, keys_done + $2), keys_failed = least(keys_total, keys_failed + $3),
    fills_done = least(fills_total, fills_done + $4), current_key = $5, updated_at = clock_timestamp()
WHERE build_id = $1 AND finished_at IS NULL
RETURNING state
"""
_LOCK_KEYS = f"""
SELECT pg_advisory_lock(h) FROM (
    SELECT hashtextextended(concat_ws(E'\\n', 'steelyard build', {KEY_ORDER}), 0) AS h FROM {unnested(KEY)}
    ORDER BY 1 OFFSET 0
) k
"""  # noqa: S608
_TRIP_COUNTS = f"""
SELECT {KEY_ORDER}, count(*) AS trips FROM {unnested(KEY)} JOIN round_trips USING ({KEY_ORDER}) GROUP BY {KEY_ORDER}
"""  # noqa: S608
_OF_KEY = "account = $1 AND book = $2 AND instrument = $3 AND leg = $4 AND state = 'LIVE'"
_RESULT: Columns = (
    *KEY,
    ("state", "text"),
    ("fills", "int8"),
    ("version", "int8"),
    ("quantity", "numeric"),
    ("round_trips", "int8"),
    ("errors", "jsonb"),
    ("preview", "jsonb"),
)
_SETTLE = f"""
UPDATE build_keys t SET state = n.state, fence = $2, version = n.version, quantity = n.quantity,
    round_trips = n.round_trips, errors = n.errors, preview = n.preview, finished_at = clock_timestamp()
FROM {unnested(_RESULT, first=3)}
WHERE t.build_id = $1 AND (t.account, t.book, t.instrument, t.leg) = (n.account, n.book, n.instrument, n.leg)
"""  # noqa: S608
_HOLD = f"""
UPDATE stale_keys t SET is_held = true FROM {unnested(KEY)}
WHERE (t.account, t.book, t.instrument, t.leg) = (n.account, n.book, n.instrument, n.leg)
"""  # noqa: S608
_END_KEYS = """
WITH ended AS (
    UPDATE build_keys SET state = $3, errors = $4, finished_at = clock_timestamp()
    WHERE build_id = $1 AND chunk = $2 AND state IN ('PENDING', 'RUNNING')
    RETURNING account, book, instrument, leg
)
UPDATE stale_keys s SET is_held = true FROM ended e
WHERE (s.account, s.book, s.instrument, s.leg) = (e.account, e.book, e.instrument, e.leg)
"""


class BuildTransaction(PostgresTransaction):
    """A transaction on the book as builds use it; fulfils the port `BuildBook`."""

    async def instruments(self, names: Any) -> Mapping[InstrumentName, Instrument]:
        """Records of instruments; a build makes none."""
        return await instruments.find_instruments(self.connection, names, is_making=False)

    def entries(
        self, key: PositionKey, *, start: OrderKey | None, inclusive: bool, end: OrderKey | None = None
    ) -> AsyncIterator[Sequence[Entry]]:
        """Live entries of a key in fold order, in batches; rows of the driver's own, made for millions."""
        return read_entry_records(self.connection, key, start=start, inclusive=inclusive, end=end)

    async def trip_counts(self, keys: Sequence[PositionKey]) -> Mapping[PositionKey, int]:
        """How many round trips are stored of keys; those without any are left out."""
        rows = await self.connection.fetch(_TRIP_COUNTS, *arrays(sorted(keys), KEY))
        return {key_of(row): row["trips"] for row in rows}

    async def signed_sum(self, key: PositionKey) -> tuple[Decimal, bool]:
        """The signed sum of all live fills of a key, and whether adjustments set its quantity as well."""
        row = await self.connection.fetchrow(
            f"SELECT (SELECT coalesce(sum(delta), 0) FROM fills WHERE {_OF_KEY}) AS delta, "  # noqa: S608
            f"EXISTS (SELECT FROM adjustments WHERE {_OF_KEY} AND kind <> 'FUNDING') AS has_adjustments",
            *key,
        )
        return row["delta"], row["has_adjustments"]


class FencedTransaction:
    """Fulfils the port `ChunkTransaction`."""

    def __init__(self, book: BuildTransaction, claim: ClaimedChunk) -> None:
        self.book = book
        self._claim = claim

    async def clear_stale(self, folded: Mapping[PositionKey, int]) -> None:
        """Forgets stale ranges (by their touch) whose fold changed nothing."""
        cleared = list(folded.items())
        await past_changes.note_stale(self.book.connection, cleared, commit_id=self.book.commit_id)
        await stale_keys.clear_stale(self.book.connection, cleared)

    async def settle(self, results: Sequence[KeyResult]) -> None:
        """Notes what became of keys; a failed key's stale range waits from then on for a build that is asked for."""
        if not results:
            return
        rows = [_result_values(result) for result in sorted(results, key=lambda result: result.key)]
        await self.book.connection.execute(_SETTLE, self._claim.build_id, self._claim.fence, *arrays(rows, _RESULT))
        failed = sorted(result.key for result in results if result.state is KeyState.FAILED)
        if failed and not self._claim.is_validate_only:
            await self.book.connection.execute(_HOLD, *arrays(failed, KEY))


class PostgresLane:
    """Fulfils the port `Lane`; its connection holds the locks on keys."""

    def __init__(self, reader: Connection, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock

    @asynccontextmanager
    async def holding(self, keys: Sequence[PositionKey]) -> AsyncIterator[None]:
        """Waits until no other build is at these keys, and keeps others off them."""
        # All wait in one order, that of the hashes.
        with translated():
            await self._reader.execute(_LOCK_KEYS, *arrays(sorted(keys), KEY))
        try:
            yield
        except BaseException:
            # Whatever it was busy with: the locks go with the connection.
            self._reader.terminate()
            raise
        with translated():
            await self._reader.execute("SELECT pg_advisory_unlock_all()")

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[BuildTransaction]:
        """One consistent view of the book that holds nobody up."""
        with translated():
            async with self._reader.transaction(isolation="repeatable_read", readonly=True):
                yield BuildTransaction(self._reader, self._clock, cause="build")


class PostgresChunkSession:
    """Fulfils the port `ChunkSession`."""

    def __init__(self, database: Database, *, claim: ClaimedChunk, clock: Clock, is_publishing: bool) -> None:
        self._database = database
        self._claim = claim
        self._clock = clock
        self._is_publishing = is_publishing
        self.is_wanted = True

    @asynccontextmanager
    async def lane(self) -> AsyncIterator[PostgresLane]:
        """A lane with a connection of its own."""
        async with self._database.bare() as reader:
            # However long another build is at a key, and however many entries a key has: that is worth the wait.
            await reader.execute(
                "SET lock_timeout = 0; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0"
            )
            await remember_numbers(reader)
            try:
                yield PostgresLane(reader, self._clock)
            except BaseException:
                reader.terminate()
                raise
            await forget_numbers(reader)
            await reader.execute(
                "RESET lock_timeout; RESET statement_timeout; RESET idle_in_transaction_session_timeout"
            )

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[FencedTransaction]:
        """A transaction under the fence; the heads advance as its last statements. Raises `FenceLost`."""
        with Told(self._database.telemetry, cause="build", clock=self._clock) as told:
            async with self._database.write() as connection:
                await self._check_fence(connection)
                book = BuildTransaction(
                    connection, self._clock, cause="build", is_publishing=self._is_publishing, told=told
                )
                yield FencedTransaction(book, self._claim)
                await book.finish()

    async def _check_fence(self, connection: Connection) -> None:
        claim = self._claim
        state = await connection.fetchval(_FENCE, claim.build_id, claim.chunk, claim.fence)
        if state is None:
            raise FenceLost(build_id=str(claim.build_id), chunk=str(claim.chunk))
        self.is_wanted = state in (BuildState.PENDING, BuildState.RUNNING)

    async def report(self, progress: ChunkProgress) -> None:
        """Renews the lease and adds progress to the build. Raises `FenceLost`."""
        claim = self._claim
        current = None if progress.current is None else dumps(list(progress.current))
        async with self._database.write() as connection:
            renewed = await connection.execute(_RENEW, claim.build_id, claim.chunk, claim.fence, LEASE_S)
            if renewed.endswith(" 0"):
                raise FenceLost(build_id=str(claim.build_id), chunk=str(claim.chunk))
            state = await connection.fetchval(
                _REPORT, claim.build_id, progress.keys_done, progress.keys_failed, progress.fills_done, current
            )
        self.is_wanted = state in (BuildState.PENDING, BuildState.RUNNING)

    async def finish(self, *, rest: KeyState, error: BuildError | None) -> None:
        """Ends the chunk: keys not settled become `rest`; the last chunk ends the build."""
        claim = self._claim
        async with self._database.write() as connection:
            # The build's row first: two chunks that end at once must see each other.
            await connection.execute("SELECT FROM builds WHERE build_id = $1 FOR UPDATE", claim.build_id)
            await self._check_fence(connection)
            errors = None if error is None else dumps([asdict(error)])
            await connection.execute(_END_KEYS, claim.build_id, claim.chunk, rest.value, errors)
            await connection.execute(
                "UPDATE build_chunks SET is_done = true WHERE build_id = $1 AND chunk = $2", claim.build_id, claim.chunk
            )
            await end_build(connection, claim.build_id)


class PostgresChunkWork:
    """Fulfils the port `ChunkWork`."""

    def __init__(self, database: Database, clock: Clock, *, is_publishing: bool = False) -> None:
        """`is_publishing`: versions that builds write are put into the outbox as well."""
        self._database = database
        self._clock = clock
        self._is_publishing = is_publishing

    async def claim(self, build_id: UUID, chunk: int) -> ClaimedChunk | None:
        """Takes a chunk over from whoever had it; None where it is done."""
        async with self._database.write() as connection:
            fence = await connection.fetchval(_CLAIM, build_id, chunk, LEASE_S)
            if fence is None:
                return None
            build = await connection.fetchrow(_START, build_id)
            if build is None:
                return None
            keys = await connection.fetch(_WAITING, build_id, chunk)
        return ClaimedChunk(
            build_id=build_id,
            chunk=chunk,
            fence=cast(int, fence),
            mode=BuildMode(build["mode"]),
            trigger=BuildTrigger(build["trigger"]),
            is_validate_only=build["is_validate_only"],
            import_id=build["import_id"],
            deadline=build["deadline"],
            keys=[PlannedKey(key_of(row), row["fills"]) for row in keys],
        )

    @asynccontextmanager
    async def session(self, claim: ClaimedChunk) -> AsyncIterator[PostgresChunkSession]:
        """A session for the chunk."""
        yield PostgresChunkSession(self._database, claim=claim, clock=self._clock, is_publishing=self._is_publishing)


def _result_values(result: KeyResult) -> tuple[Any, ...]:
    preview = None
    if result.preview is not None:
        preview = dumps({name: _plain(value) for name, value in asdict(result.preview).items()})
    return (
        *result.key,
        *(result.state.value, result.fills, result.version, result.quantity, result.round_trips),
        dumps([asdict(error) for error in result.errors]) if result.errors else None,
        preview,
    )


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Decimal) else value
