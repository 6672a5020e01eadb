"""Fills as questions read them: with the version that applied them, derived from the account's log.

A fill was applied by the first version of its key whose event is not older than the fill's own commit; while its
place lies within the stale range of its key it waits, and no version has it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, exists, literal, null, or_, select, tuple_

from steelyard.accounting.keys import Account, FillId
from steelyard.operations.read_fills import FillFilter, FillHistory, FillView
from steelyard.operations.reading import Cursor, Page, Snapshot, page_of
from steelyard.storage.compiled import NAMES, Compiled, Row, heads_of, heads_of_text
from steelyard.storage.database import Database
from steelyard.storage.fills import fill_of_row
from steelyard.storage.tables import (
    account_commits,
    fill_attestations,
    fill_revisions,
    fills,
    instruments,
    position_events,
    stale_keys,
)
from steelyard.storage.trip_reads import heads_in

F, STALE, COMMIT, EVENT, REVISION = fills.c, stale_keys.c, account_commits.c, position_events.c, fill_revisions.c
FOLD_ORDER = (F.executed_at, F.source_sequence, F.fill_id)
LIVE = "LIVE"


def _is_newer_than_range() -> ColumnElement[Any]:
    """NULL for a fill outside of the stale range of its key; else whether it was recorded since that began: what was
    recorded before had been folded by then, though it is to be folded again."""
    first = tuple_(STALE.from_executed_at, STALE.from_sequence, STALE.from_entry_id)
    last = tuple_(STALE.to_executed_at, STALE.to_sequence, STALE.to_entry_id)
    place = tuple_(*FOLD_ORDER)
    same_key = (STALE[name] == F[name] for name in ("account", "book", "instrument", "leg"))
    return select(F.recorded_at >= STALE.since).where(*same_key, place >= first, place <= last).scalar_subquery()


def _applied_version() -> ColumnElement[int]:
    same_key = (EVENT[name] == F[name] for name in ("account", "book", "instrument", "leg"))
    return (
        select(EVENT.version).where(*same_key, EVENT.seq >= COMMIT.seq).order_by(EVENT.seq).limit(1).scalar_subquery()
    )


_FILL = select(
    fills,
    instruments.c.settle_currency,
    _is_newer_than_range().label("is_newer_than_range"),
    _applied_version().label("applied_version"),
).select_from(
    fills.join(instruments, instruments.c.instrument == F.instrument).outerjoin(
        account_commits, and_(COMMIT.account == F.account, COMMIT.commit_id == F.commit_id)
    )
)
_REVISIONS = Compiled(
    select(fill_revisions, null().label("order_id"), null().label("note"), null().label("labels"))
    .where(REVISION.account == bindparam("account"), REVISION.fill_id == bindparam("fill_id"))
    .order_by(REVISION.revision)
)
_ONE = Compiled(
    _FILL.add_columns(heads_of(bindparam("heads_of", type_=NAMES))).where(
        F.account == bindparam("account"), F.fill_id == bindparam("fill_id")
    )
)
_HEADS_ALONE = Compiled(select(heads_of(bindparam("heads_of", type_=NAMES))))


class FillReads:
    """Fulfils the port `read_fills.FillStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def fill(
        self, account: Account, fill_id: FillId, *, heads: Collection[Account]
    ) -> Snapshot[FillHistory | None]:
        """One fill with its revisions."""
        identity = {"account": account, "fill_id": fill_id}
        async with self._database.read() as connection:
            row = await connection.fetchrow(_ONE.text, *_ONE.arguments(**identity, heads_of=list(heads)))
            if row is None:
                text = await connection.fetchval(_HEADS_ALONE.text, *_HEADS_ALONE.arguments(heads_of=list(heads)))
                return Snapshot(None, heads_of_text(text))
            earlier = await connection.fetch(_REVISIONS.text, *_REVISIONS.arguments(**identity))
        now = _view_of(row)
        revisions = [_revision_of(each, now) for each in earlier if each["revision"] != now.fill.revision]
        return Snapshot(FillHistory(now, (*revisions, now)), heads_of_text(row["heads"]))

    async def fills(
        self, wanted: FillFilter, *, size: int, after: Cursor | None, heads: Collection[Account]
    ) -> Snapshot[Page[FillView]]:
        """Fills in fold order, or the other way round."""
        statement = _filtered(wanted)
        if after is not None:
            place, last = tuple_(*FOLD_ORDER), tuple_(*after)
            statement = statement.where(place > last if wanted.is_oldest_first else place < last)
        order = FOLD_ORDER if wanted.is_oldest_first else tuple(column.desc() for column in FOLD_ORDER)
        async with self._database.core() as connection:
            rows = (await connection.execute(statement.order_by(*order).limit(size + 1))).mappings().all()
            seen = await heads_in(connection, heads)
        views = [_view_of(row) for row in rows]
        return Snapshot(page_of(views, size=size, place=lambda view: tuple(view.fill.order)), seen)


def _filtered(wanted: FillFilter) -> Select[Any]:
    conditions: list[ColumnElement[bool]] = [F.account == wanted.account]
    if wanted.book is not None:
        conditions.append(F.book == wanted.book)
    if wanted.instrument is not None:
        conditions.append(F.instrument == wanted.instrument)
    if wanted.leg is not None:
        conditions.append(F.leg == wanted.leg.value)
    if wanted.executed_from is not None:
        conditions.append(F.executed_at >= wanted.executed_from)
    if wanted.executed_before is not None:
        conditions.append(F.executed_at < wanted.executed_before)
    if not wanted.has_withdrawn:
        conditions.append(F.state == LIVE)
    if wanted.import_id is not None:
        attested = fill_attestations.c
        repeated = exists(
            select(literal(1)).where(
                attested.account == F.account,
                attested.fill_id == F.fill_id,
                attested.import_id == wanted.import_id,
            )
        )
        conditions.append(or_(F.import_id == wanted.import_id, repeated))
    return _FILL.where(*conditions)


def _view_of(row: Row) -> FillView:
    is_live, is_newer, version = row["state"] == LIVE, row["is_newer_than_range"], row["applied_version"]
    is_pending = is_live and is_newer is not None and (is_newer or version is None)
    return FillView(
        fill=fill_of_row(row),
        settle_currency=row["settle_currency"],
        is_withdrawn=not is_live,
        recorded_at=row["recorded_at"],
        applied_version=version if is_live and not is_pending else None,
        is_pending=is_pending,
        import_id=row["import_id"],
    )


def _revision_of(row: Row, now: FillView) -> FillView:
    return FillView(
        fill=fill_of_row(row),
        settle_currency=now.settle_currency,
        is_withdrawn=row["state"] != LIVE,
        recorded_at=row["recorded_at"],
        import_id=row["import_id"],
    )
