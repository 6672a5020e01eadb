"""Builds as callers make, stop and read them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

from steelyard.accounting.errors import BuildAlreadyDone, InvalidField, NotFound, VersionMismatch
from steelyard.accounting.keys import Account, Leg, PositionKey
from steelyard.operations.building import (
    Build,
    BuildError,
    BuildFilter,
    BuildMode,
    BuildPriority,
    BuildState,
    BuildTrigger,
    KeyPreview,
    KeyResult,
    KeyState,
    NewBuild,
    RequestMark,
)
from steelyard.operations.ports import Commit
from steelyard.operations.reading import Cursor, Page, page_of
from steelyard.storage import requests
from steelyard.storage.build_ending import end_build, give_up_chunks
from steelyard.storage.build_making import make_build, make_retry, scope_of
from steelyard.storage.codec import key_of
from steelyard.storage.database import Connection, Database

_BUILD = """
SELECT build_id, mode, scope::text AS scope, trigger, priority, is_validate_only, state, retry_of, import_id,
       keys_total, keys_done, keys_failed, fills_total, fills_done, current_key, error, timeout_s, created_at,
       started_at, updated_at, finished_at
FROM builds
"""
_PAGE = f"""
{_BUILD} b
WHERE (cardinality($1::text[]) = 0 OR state = ANY($1)) AND ($2::uuid IS NULL OR import_id = $2)
  AND ($3::text IS NULL OR EXISTS (SELECT FROM build_keys k WHERE k.build_id = b.build_id AND k.account = $3))
  AND ($4::timestamptz IS NULL OR (created_at, build_id) < ($4, $5::uuid))
ORDER BY created_at DESC, build_id DESC LIMIT $6
"""
_RESULTS = """
SELECT account, book, instrument, leg, state, fills, version, quantity, round_trips, errors, preview FROM build_keys
WHERE build_id = $1 ORDER BY (state = 'FAILED') DESC, account, book, instrument, leg LIMIT $2
"""
_COMMITS = """
SELECT h.account, h.seq FROM account_heads h
WHERE h.account IN (SELECT DISTINCT account FROM build_keys WHERE build_id = $1) ORDER BY h.account LIMIT $2
"""


class PostgresBuilds:
    """Fulfils the port `BuildStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, new: NewBuild, mark: RequestMark | None) -> tuple[Build, bool]:
        """Plans and stores a build with its jobs in one transaction; (the build, whether it is an earlier answer)."""

        async def make(connection: Connection) -> UUID:
            await make_build(connection, new, request_id=None if mark is None else mark.request_id)
            return new.build_id

        return await self._once(mark, make)

    async def cancel(self, build_id: UUID, mark: RequestMark | None) -> tuple[Build, bool]:
        """Asks a build to stop. Raises `NotFound`, `BuildAlreadyDone`, `RequestIdReused`."""

        async def stop(connection: Connection) -> UUID:
            state = await _locked_state(connection, build_id)
            if state.is_terminal:
                raise BuildAlreadyDone(build_id=str(build_id), state=state.value)
            await connection.execute("UPDATE builds SET state = 'CANCELLING' WHERE build_id = $1", build_id)
            await give_up_chunks(connection, build_id, state=KeyState.CANCELLED.value)
            await end_build(connection, build_id)
            return build_id

        return await self._once(mark, stop)

    async def retry(self, new: NewBuild, mark: RequestMark | None) -> tuple[Build, bool]:
        """Makes a build of what `new.retry_of` left undone. Raises `NotFound`, `BuildAlreadyDone`, `InvalidField`."""
        assert new.retry_of is not None
        old_id = new.retry_of

        async def make(connection: Connection) -> UUID:
            state = await _locked_state(connection, old_id)
            if not state.is_terminal:
                raise InvalidField("build_id", "names a build that has not ended")
            row = await connection.fetchrow(f"{_BUILD} WHERE build_id = $1", old_id)
            if not await connection.fetchval(
                "SELECT EXISTS (SELECT FROM build_keys WHERE build_id = $1 AND state IN ('FAILED', 'CANCELLED'))",
                old_id,
            ):
                raise BuildAlreadyDone("nothing of this build failed", build_id=str(old_id))
            old = _build_of_row(row)
            again = replace(
                new, scope=old.scope, mode=old.mode, is_validate_only=old.is_validate_only, import_id=old.import_id
            )
            await make_retry(connection, again, request_id=None if mark is None else mark.request_id)
            return new.build_id

        return await self._once(mark, make)

    async def _once(self, mark: RequestMark | None, act: Callable[[Connection], Awaitable[UUID]]) -> tuple[Build, bool]:
        """Acts, or gives what the same request came to before."""
        is_replayed = False
        async with self._database.write() as connection:
            build_id = None if mark is None else await _answered(connection, mark)
            if build_id is not None:
                is_replayed = True
            else:
                build_id = await act(connection)
                if mark is not None and not await _remember(connection, mark, build_id=build_id):
                    raise VersionMismatch("the same request is being answered")
            row = await connection.fetchrow(f"{_BUILD} WHERE build_id = $1", build_id)
        if row is None:
            raise NotFound("build", str(build_id))
        return _build_of_row(row), is_replayed

    async def find(self, build_id: UUID, *, results_max: int = 0) -> Build | None:
        """A build, with the first of its key results and its commits if `results_max` is given."""
        async with self._database.read() as connection:
            row = await connection.fetchrow(f"{_BUILD} WHERE build_id = $1", build_id)
            if row is None:
                return None
            build = _build_of_row(row)
            if not results_max:
                return build
            results = await connection.fetch(_RESULTS, build_id, results_max + 1)
            heads = await connection.fetch(_COMMITS, build_id, results_max) if build.state.is_terminal else []
        return replace(
            build,
            results=tuple(_result_of_row(result) for result in results[:results_max]),
            results_truncated=len(results) > results_max,
            commits=tuple(Commit(Account(head["account"]), head["seq"]) for head in heads),
        )

    async def page(self, wanted: BuildFilter, *, size: int, after: Cursor | None) -> Page[Build]:
        """Builds, the newest first."""
        created_at, build_id = after or (None, None)
        states = [state.value for state in wanted.states]
        async with self._database.read() as connection:
            rows = await connection.fetch(
                _PAGE, states, wanted.import_id, wanted.account, created_at, build_id, size + 1
            )
        found = [_build_of_row(row) for row in rows]
        return page_of(found, size=size, place=lambda build: (build.created_at, build.build_id))


async def _locked_state(connection: Connection, build_id: UUID) -> BuildState:
    state = await connection.fetchval("SELECT state FROM builds WHERE build_id = $1 FOR UPDATE", build_id)
    if state is None:
        raise NotFound("build", str(build_id))
    return BuildState(state)


async def _answered(connection: Connection, mark: RequestMark) -> UUID | None:
    answer = await requests.answer_to(
        connection, scope=mark.scope, request_id=mark.request_id, method=mark.method, body_hash=mark.body_hash
    )
    return None if answer is None else UUID(bytes=answer)


async def _remember(connection: Connection, mark: RequestMark, *, build_id: UUID) -> bool:
    return await requests.store_answer(
        connection,
        scope=mark.scope,
        request_id=mark.request_id,
        method=mark.method,
        body_hash=mark.body_hash,
        response=build_id.bytes,
    )


def _build_of_row(row: Mapping[str, Any]) -> Build:
    return Build(
        build_id=row["build_id"],
        scope=scope_of(row["scope"]),
        mode=BuildMode(row["mode"]),
        trigger=BuildTrigger(row["trigger"]),
        priority=BuildPriority(row["priority"]),
        is_validate_only=row["is_validate_only"],
        state=BuildState(row["state"]),
        retry_of=row["retry_of"],
        import_id=row["import_id"],
        keys_total=row["keys_total"],
        keys_done=row["keys_done"],
        keys_failed=row["keys_failed"],
        fills_total=row["fills_total"],
        fills_done=row["fills_done"],
        current_key=_key_of_text(row["current_key"]),
        error=row["error"],
        timeout_s=row["timeout_s"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        updated_at=row["updated_at"],
        finished_at=row["finished_at"],
    )


def _key_of_text(text: str | None) -> PositionKey | None:
    if text is None:
        return None
    account, book, instrument, leg = json.loads(text)
    return PositionKey(account, book, instrument, Leg(leg))


def _result_of_row(row: Mapping[str, Any]) -> KeyResult:
    errors: Sequence[Mapping[str, Any]] = json.loads(row["errors"]) if row["errors"] else ()
    return KeyResult(
        key=key_of(row),
        state=KeyState(row["state"]),
        fills=row["fills"],
        version=row["version"],
        quantity=row["quantity"],
        round_trips=row["round_trips"],
        errors=tuple(BuildError(error["check"], error["message"], error["fill_id"]) for error in errors),
        preview=_preview_of_text(row["preview"]),
    )


def _preview_of_text(text: str | None) -> KeyPreview | None:
    if text is None:
        return None
    value = json.loads(text)
    for name in ("quantity_before", "quantity_after", "net_before", "net_after"):
        value[name] = None if value[name] is None else Decimal(value[name])
    return KeyPreview(**value)
