"""Round trips and lots as questions read them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, bindparam, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from steelyard.accounting.entries import Entry
from steelyard.accounting.instruments import Instrument, InstrumentKind, PriceRule
from steelyard.accounting.keys import Account, Leg, OrderKey, PositionKey, TripId
from steelyard.accounting.lots import Lot, LotMethod
from steelyard.accounting.round_trips import CostMethod
from steelyard.operations.read_trips import TripEntries, TripFilter
from steelyard.operations.reading import Cursor, Heads, Page, Snapshot, page_of
from steelyard.operations.trip_view import TripView
from steelyard.storage.account_log import read_heads
from steelyard.storage.codec import key_of, trip_of_row
from steelyard.storage.compiled import HEADS, Compiled, Row
from steelyard.storage.database import Connection, Database
from steelyard.storage.fills import read_entries
from steelyard.storage.tables import accounts, instruments, lots, positions, round_trips, stale_keys

T, RECORD, RULES, L, P = round_trips.c, instruments.c, accounts.c, lots.c, positions.c
OPEN, CLOSED = "OPEN", "CLOSED"
LOT_ORDER = (L.opened_at, L.opened_sequence, L.opened_entry_id)

_TRIPS = select(
    round_trips,
    *(RECORD.kind, RECORD.multiplier, RECORD.quote_currency, RECORD.settle_currency, RECORD.price_rule),
    *(RULES.cost_method, RULES.lot_method),
).select_from(
    round_trips.join(instruments, RECORD.instrument == T.instrument).outerjoin(accounts, RULES.account == T.account)
)


KEY_NAMES = ("account", "book", "instrument", "leg")


def of_key(columns: Any) -> tuple[ColumnElement[bool], ...]:
    """The condition that a row belongs to the key in the parameters of `key_parameters`."""
    return tuple(columns[name] == bindparam(name) for name in KEY_NAMES)


def key_parameters(key: PositionKey) -> dict[str, str]:
    """The parameters of `of_key`."""
    return dict(zip(KEY_NAMES, map(str, key), strict=True))


_ONE = Compiled(_TRIPS.where(T.account == bindparam("account"), T.trip_id == bindparam("trip_id")))


TRIP_ORDER = (T.opened_at, T.opened_sequence, T.opened_entry_id)
_NEXT = Compiled(
    select(*TRIP_ORDER)
    .where(
        *of_key(T), tuple_(*TRIP_ORDER) > tuple_(*(bindparam(column.name, type_=column.type) for column in TRIP_ORDER))
    )
    .order_by(*TRIP_ORDER)
    .limit(1)
)
_STALE = Compiled(select(stale_keys.c.touch).where(*of_key(stale_keys.c)))


class TripReads:
    """Fulfils the port `read_trips.TripStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def trips(
        self, wanted: TripFilter, *, size: int, after: Cursor | None, heads: Collection[Account]
    ) -> Snapshot[Page[TripView]]:
        """Open trips, the latest opened first; then closed ones, the latest closed first."""
        found: list[TripView] = []
        async with self._database.core() as connection:
            if wanted.wants_open and (after is None or after[0] == OPEN):
                found += await _trips(connection, _open(wanted, size=size, after=after))
                after = None
            if wanted.wants_closed and len(found) <= size:
                found += await _trips(connection, _closed(wanted, size=size - len(found), after=after))
            seen = await heads_in(connection, heads)
        return Snapshot(page_of(found, size=size, place=_place), seen)

    async def trip(
        self, account: Account, trip_id: UUID, *, entries_max: int, heads: Collection[Account]
    ) -> Snapshot[TripEntries | None]:
        """One trip with its entries, unless these are more than `entries_max`."""
        async with self._database.read() as connection:
            row = await connection.fetchrow(_ONE.text, *_ONE.arguments(account=account, trip_id=trip_id))
            seen = {Account(name): seq for name, seq in (await read_heads(connection, heads)).items()}
            if row is None:
                return Snapshot(None, seen)
            view = view_of(row)
            entries = await _entries(connection, view, entries_max=entries_max)
        return Snapshot(TripEntries(view, entries), seen)

    async def lots(
        self, key: PositionKey, *, size: int, after: Cursor | None, heads: Collection[Account]
    ) -> Snapshot[Page[Lot] | None]:
        """Open lots in fold order; None where there is no such position."""
        statement = select(lots).where(*of_key(L)).order_by(*LOT_ORDER).limit(size + 1)
        if after is not None:
            statement = statement.where(tuple_(*LOT_ORDER) > tuple_(*after))
        async with self._database.core() as connection:
            rows = (await connection.execute(statement, key_parameters(key))).mappings().all()
            is_known = bool(rows) or await position_exists(connection, key)
            seen = await heads_in(connection, heads)
        if not is_known:
            return Snapshot(None, seen)
        found = [
            Lot(
                OrderKey(row["opened_at"], row["opened_sequence"], row["opened_entry_id"]),
                row["quantity"],
                row["original_quantity"],
                row["price"],
            )
            for row in rows
        ]
        return Snapshot(page_of(found, size=size, place=lambda lot: tuple(lot.opened)), seen)


async def heads_in(connection: AsyncConnection, wanted: Collection[Account]) -> Heads:
    """The heads of accounts, read in the snapshot of this connection."""
    return {Account(name): seq for name, seq in await connection.execute(HEADS, {"heads_of": list(wanted)})}


async def position_exists(connection: AsyncConnection, key: PositionKey) -> bool:
    """Whether there is a row for a key."""
    return (await connection.execute(select(P.version).where(*of_key(P)), key_parameters(key))).first() is not None


async def _trips(connection: AsyncConnection, statement: Select[Any]) -> list[TripView]:
    return [view_of(row) for row in (await connection.execute(statement)).mappings()]


async def _entries(connection: Connection, view: TripView, *, entries_max: int) -> Sequence[Entry] | None:
    trip = view.trip
    behind = await connection.fetchrow(
        _NEXT.text, *_NEXT.arguments(**key_parameters(view.key), **_opening(trip.opened))
    )
    end = None if behind is None else OrderKey(*behind)
    if await connection.fetchval(_STALE.text, *_STALE.arguments(**key_parameters(view.key))):
        return None
    found: list[Entry] = []
    async for batch in read_entries(connection, view.key, start=trip.opened, inclusive=True, end=end):
        found += batch
        if len(found) > entries_max:
            return None
    return found


def _opening(opened: OrderKey) -> dict[str, Any]:
    return {
        "opened_at": opened.executed_at,
        "opened_sequence": opened.source_sequence,
        "opened_entry_id": opened.entry_id,
    }


def _place(view: TripView) -> Cursor:
    if view.closed_at is None:
        return (OPEN, view.trip.opened_at, view.trip_id)
    return (CLOSED, view.closed_at, view.trip_id)


def _open(wanted: TripFilter, *, size: int, after: Cursor | None) -> Select[Any]:
    statement = _filtered(wanted).where(T.closed_at.is_(None))
    if after is not None:
        statement = statement.where(tuple_(T.opened_at, T.trip_id) < tuple_(*after[1:]))
    return statement.order_by(T.opened_at.desc(), T.trip_id.desc()).limit(size + 1)


def _closed(wanted: TripFilter, *, size: int, after: Cursor | None) -> Select[Any]:
    statement = _filtered(wanted).where(T.closed_at.is_not(None))
    if wanted.closed_from is not None:
        statement = statement.where(T.closed_at >= wanted.closed_from)
    if wanted.closed_before is not None:
        statement = statement.where(T.closed_at < wanted.closed_before)
    if after is not None:
        statement = statement.where(tuple_(T.closed_at, T.trip_id) < tuple_(*after[1:]))
    return statement.order_by(T.closed_at.desc(), T.trip_id.desc()).limit(size + 1)


def _filtered(wanted: TripFilter) -> Select[Any]:
    conditions = [T.account == wanted.account]
    if wanted.book is not None:
        conditions.append(T.book == wanted.book)
    if wanted.instrument is not None:
        conditions.append(T.instrument == wanted.instrument)
    if wanted.leg is not None:
        conditions.append(T.leg == wanted.leg.value)
    if wanted.direction is not None:
        conditions.append(T.direction == wanted.direction.value)
    return _TRIPS.where(*conditions)


def view_of(row: Row) -> TripView:
    """The trip in a row of round trips joined with their instrument and account."""
    key = key_of(row)
    return TripView(
        key=PositionKey(key.account, key.book, key.instrument, Leg(row["leg"])),
        trip_id=TripId(UUID(str(row["trip_id"]))),
        trip=trip_of_row(row),
        instrument=Instrument(
            key.instrument,
            InstrumentKind(row["kind"]),
            row["multiplier"],
            row["quote_currency"],
            row["settle_currency"],
            PriceRule(row["price_rule"]),
        ),
        cost_method=CostMethod(row["cost_method"] or "AVERAGE"),
        lot_method=LotMethod(row["lot_method"] or "FIFO"),
    )
