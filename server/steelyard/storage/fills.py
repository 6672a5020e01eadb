"""Fills and adjustments: recorded once per (account, id), read back in fold order."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from steelyard.accounting.entries import EARLIEST, Adjustment, Entry, Fill, Side, entry_of_fill
from steelyard.accounting.instruments import Instrument
from steelyard.accounting.keys import Account, FillId, InstrumentName, OrderKey, PositionKey
from steelyard.operations.ports import FillOutcome, FillRecord, RecordedFill
from steelyard.storage.bulk import Columns, arrays, numbered, unnested
from steelyard.storage.codec import dumps, key_of
from steelyard.storage.database import Connection

CALLER_ATTESTS = UUID(int=0)
"""Stands in `fill_attestations` for a caller who repeated what an import had recorded."""
ENTRY_BATCH = 5_000
"""Entries fetched at a time while a key is read in fold order."""

_RECORDED = FillOutcome.RECORDED  # a name of its own: looking members up in their class is slow

COLUMNS: Columns = (
    ("account", "text"),
    ("fill_id", "text"),
    ("book", "text"),
    ("instrument", "text"),
    ("leg", "text"),
    ("delta", "numeric"),
    ("price", "numeric"),
    ("fee", "numeric"),
    ("fee_currency", "text"),
    ("fee_rate", "numeric"),
    ("fee_value", "numeric"),
    ("executed_at", "timestamptz"),
    ("source_sequence", "int4"),
    ("order_id", "text"),
    ("note", "text"),
    ("labels", "jsonb"),
    ("commit_id", "int8"),
)
IDS: Columns = COLUMNS[:2]
_NAMES = ", ".join(name for name, _ in COLUMNS)
_INSERT = f"""
WITH given AS MATERIALIZED (SELECT * FROM {numbered(COLUMNS)}),
added AS (
    INSERT INTO fills ({_NAMES}) SELECT {_NAMES} FROM given ORDER BY place
    ON CONFLICT DO NOTHING RETURNING account, fill_id
)
SELECT account, fill_id FROM given EXCEPT SELECT account, fill_id FROM added
"""  # noqa: S608
"""Inserts in the order given and tells which were there already: nearly always none, so nearly nothing comes back."""
_KNOWN = f"""
SELECT f.*, (SELECT json_agg(json_build_array(r.book, r.instrument, r.leg, r.delta::text, r.price::text, r.fee::text,
                                              r.fee_currency, extract(epoch FROM r.executed_at)::text))
             FROM fill_revisions r WHERE r.account = f.account AND r.fill_id = f.fill_id) AS earlier
FROM fills f JOIN {unnested(IDS)} USING (account, fill_id)
ORDER BY f.account, f.fill_id FOR NO KEY UPDATE OF f
"""  # noqa: S608
_MOVE: Columns = (*IDS, ("source_sequence", "int4"))
# The sequence a fill had is kept beside it: it belongs to what was known before.
_KEEP_SMALLER = f"""
WITH noted AS (
    INSERT INTO fill_moves (account, fill_id, commit_id, revision, source_sequence)
    SELECT t.account, t.fill_id, ${len(_MOVE) + 1}, t.revision, t.source_sequence
    FROM fills t JOIN {unnested(_MOVE)} USING (account, fill_id) ON CONFLICT DO NOTHING
)
UPDATE fills t SET source_sequence = n.source_sequence FROM {unnested(_MOVE)}
WHERE t.account = n.account AND t.fill_id = n.fill_id
"""  # noqa: S608
KEEP_REVISION = f"""
INSERT INTO fill_revisions (account, fill_id, revision, book, instrument, leg, delta, price, fee, fee_currency,
                            fee_rate, fee_value, executed_at, source_sequence, state, import_id, commit_id, recorded_at)
SELECT f.account, f.fill_id, f.revision, f.book, f.instrument, f.leg, f.delta, f.price, f.fee, f.fee_currency,
       f.fee_rate, f.fee_value, f.executed_at, f.source_sequence, f.state, f.import_id, f.commit_id, f.recorded_at
FROM fills f JOIN {unnested(IDS)} USING (account, fill_id)
"""  # noqa: S608
_REINSTATE = f"""
UPDATE fills t SET state = 'LIVE', revision = revision + 1, commit_id = ${len(_MOVE) + 1}, recorded_at = now(),
                   import_id = NULL, source_sequence = n.source_sequence
FROM {unnested(_MOVE)} WHERE t.account = n.account AND t.fill_id = n.fill_id
"""  # noqa: S608
_ATTEST = f"""
INSERT INTO fill_attestations (account, fill_id, import_id)
SELECT account, fill_id, ${len(IDS) + 1} FROM {unnested(IDS)} ORDER BY account, fill_id ON CONFLICT DO NOTHING
"""  # noqa: S608

_FILL_ENTRY = """
SELECT executed_at, source_sequence, fill_id, 'FILL', delta, price,
       CASE WHEN fee_currency IS NULL THEN fee ELSE coalesce(fee_value, 0) END,
       CASE WHEN fee_currency IS NOT NULL AND fee_value IS NULL AND fee <> 0 THEN fee_currency END,
       CASE WHEN fee_currency IS NOT NULL AND fee_value IS NULL AND fee <> 0 THEN fee END
FROM fills
WHERE account = $1 AND book = $2 AND instrument = $3 AND leg = $4 AND state = 'LIVE'
"""
_ADJUSTMENT_ENTRY = """
SELECT effective_at, source_sequence, adjustment_id,
       CASE kind WHEN 'FUNDING' THEN 'FUNDING' WHEN 'VENUE' THEN 'VENUE' ELSE 'ADJUSTMENT' END,
       quantity, average_price, coalesce(amount, 0), NULL, NULL
FROM adjustments
WHERE account = $1 AND book = $2 AND instrument = $3 AND leg = $4 AND state = 'LIVE'
"""


def fill_values(fill: Fill, instrument: Instrument, *, commit_id: int) -> tuple[Any, ...]:
    """A fill as the columns of its row; a fee in the settle currency has no currency of its own."""
    key = fill.key
    is_foreign = fill.fee_currency not in (None, instrument.settle_currency)
    valued = entry_of_fill(fill, instrument) if is_foreign else None
    return (
        key.account,
        fill.fill_id,
        key.book,
        key.instrument,
        key.leg,
        fill.delta,
        fill.price,
        fill.fee,
        fill.fee_currency if is_foreign else None,
        fill.fee_rate if is_foreign else None,
        valued.fee if valued is not None and valued.unvalued_currency is None else None,
        fill.executed_at,
        fill.source_sequence,
        fill.order_id,
        fill.note,
        dumps(dict(fill.labels)) if fill.labels else None,
        commit_id,
    )


async def insert_fills(
    connection: Connection,
    fills: Sequence[Fill],
    *,
    instruments: Mapping[InstrumentName, Instrument],
    commit_id: int,
) -> list[RecordedFill]:
    """Inserts fills in key order and says of each what it came to, in the order given."""
    rows = {
        (fill.key.account, fill.fill_id): fill_values(fill, instruments[fill.key.instrument], commit_id=commit_id)
        for fill in reversed(fills)
    }
    found = await connection.fetch(_INSERT, *arrays([rows[identity] for identity in sorted(rows)], COLUMNS))
    if not found and len(rows) == len(fills):
        return [_recorded(fill.order) for fill in fills]
    new = rows.keys() - {(row["account"], row["fill_id"]) for row in found}
    known = await known_fills(connection, [identity for identity in rows if identity not in new])
    outcomes: list[RecordedFill] = []
    for fill in fills:
        identity = (fill.account, fill.fill_id)
        if identity in new:
            new.discard(identity)
            known[identity] = _Known.fresh(fill, rows[identity])
            outcomes.append(_recorded(fill.order))
        else:
            outcomes.append(known[identity].repeat(fill, instruments[fill.key.instrument]))
    await _write_repeats(connection, known, commit_id=commit_id)
    return outcomes


def _recorded(place: OrderKey) -> RecordedFill:
    return RecordedFill(_RECORDED, (place, place))


class _Known:
    """A fill that is stored already, and what its repeats change about it."""

    def __init__(self, fill: Fill, *, contents: list[tuple[Any, ...]], state: str, is_imported: bool = False) -> None:
        self.fill = fill
        """With the smallest of the sequences that it was given."""
        self._contents = contents
        self._state = state
        self.is_moved = self.is_reinstated = False
        """Whether a repeat gave it a smaller sequence; whether it was withdrawn and came back."""
        self.is_imported = is_imported
        self.is_attested = False
        """Whether a caller has repeated what an import recorded."""

    @classmethod
    def fresh(cls, fill: Fill, row: tuple[Any, ...]) -> _Known:
        """One that this very batch recorded."""
        return cls(fill, contents=[_content(row[2:9], row[11])], state="LIVE")

    @classmethod
    def stored(cls, row: Mapping[str, Any]) -> _Known:
        """One from the table, with the contents of its earlier revisions."""
        columns = ("book", "instrument", "leg", "delta", "price", "fee", "fee_currency")
        contents = [_content([row[name] for name in columns], row["executed_at"])]
        earlier = json.loads(row["earlier"]) if row["earlier"] else ()
        contents.extend(_content(revision[:7], revision[7]) for revision in earlier)
        return cls(fill_of_row(row), contents=contents, state=row["state"], is_imported=row["import_id"] is not None)

    def repeat(self, fill: Fill, instrument: Instrument) -> RecordedFill:
        """What recording the same id again comes to; a repeat keeps the smaller sequence."""
        row = fill_values(fill, instrument, commit_id=0)
        if _content(row[2:9], row[11]) not in self._contents:
            return RecordedFill(FillOutcome.CONFLICTING, None)
        if self._state == "BUSTED":
            return RecordedFill(FillOutcome.BUSTED, None)
        before = self.fill.order
        is_earlier = fill.executed_at == before.executed_at and fill.source_sequence < before.source_sequence
        if is_earlier:
            self.fill = self.fill._replace(source_sequence=fill.source_sequence)
        if self._state == "WITHDRAWN":
            self._state, self.is_reinstated, self.is_imported = "LIVE", True, False
            return RecordedFill(FillOutcome.RECORDED, (self.fill.order, self.fill.order), self.fill)
        self.is_attested = self.is_imported
        if is_earlier:
            self.is_moved = True
            return RecordedFill(FillOutcome.REPEATED, (self.fill.order, before), self.fill)
        return RecordedFill(FillOutcome.REPEATED, None)


def _content(values: Sequence[Any], executed_at: Any) -> tuple[Any, ...]:
    """What makes two reports of an id the same fill; numbers by value."""
    book, instrument, leg, delta, price, fee, fee_currency = values
    at = Decimal(executed_at) if isinstance(executed_at, str) else _epoch(executed_at)
    return (book, instrument, leg, Decimal(delta), Decimal(price), Decimal(fee), fee_currency, at)


def _epoch(at: datetime) -> Decimal:
    since = at - EARLIEST
    return Decimal(since.days * 86_400 + since.seconds) + Decimal(since.microseconds).scaleb(-6)


async def known_fills(
    connection: Connection, identities: Sequence[tuple[str, str]]
) -> dict[tuple[Account, FillId], _Known]:
    """What is stored under ids, locked; those that are not known are left out."""
    if not identities:
        return {}
    rows = await connection.fetch(_KNOWN, *arrays(sorted(identities), IDS))
    return {(row["account"], row["fill_id"]): _Known.stored(row) for row in rows}


async def _write_repeats(
    connection: Connection, repeated: Mapping[tuple[Account, FillId], _Known], *, commit_id: int
) -> None:
    reinstated = sorted(
        (*identity, known.fill.source_sequence) for identity, known in repeated.items() if known.is_reinstated
    )
    if reinstated:
        await connection.execute(KEEP_REVISION, *arrays([row[:2] for row in reinstated], IDS))
        await connection.execute(_REINSTATE, *arrays(reinstated, _MOVE), commit_id)
    moved = sorted(
        (*identity, known.fill.source_sequence)
        for identity, known in repeated.items()
        if known.is_moved and not known.is_reinstated
    )
    if moved:
        await connection.execute(_KEEP_SMALLER, *arrays(moved, _MOVE), commit_id)
    attested = sorted(identity for identity, known in repeated.items() if known.is_attested)
    if attested:
        await connection.execute(_ATTEST, *arrays(attested, IDS), CALLER_ATTESTS)


async def insert_adjustment(connection: Connection, adjustment: Adjustment, *, commit_id: int) -> FillOutcome:
    """Inserts an adjustment, or finds the same or another one under its id."""
    content = (
        *(*adjustment.key, adjustment.kind.value, adjustment.quantity, adjustment.average_price),
        *(adjustment.amount, adjustment.effective_at),
    )
    added = await connection.fetchval(
        "INSERT INTO adjustments (account, book, instrument, leg, kind, quantity, average_price, amount, effective_at, "
        "adjustment_id, source_sequence, note, commit_id) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING RETURNING true",
        *content,
        adjustment.adjustment_id,
        adjustment.source_sequence,
        adjustment.note,
        commit_id,
    )
    if added:
        return FillOutcome.RECORDED
    row = await connection.fetchrow(
        "SELECT account, book, instrument, leg, kind, quantity, average_price, amount, effective_at, state "
        "FROM adjustments WHERE account = $1 AND adjustment_id = $2",
        adjustment.key.account,
        adjustment.adjustment_id,
    )
    *stored, state = row
    if tuple(stored) != content:
        return FillOutcome.CONFLICTING
    return FillOutcome.BUSTED if state == "BUSTED" else FillOutcome.REPEATED


def _bounded(select: str, columns: str, *, start: str | None, has_end: bool) -> str:
    place = 5
    if start is not None:
        select += f" AND ({columns}) {start} (${place}, ${place + 1}, ${place + 2})"
        place += 3
    if has_end:
        select += f" AND ({columns}) <= (${place}, ${place + 1}, ${place + 2})"
    return select


def entries_statement(*, start: str | None, has_end: bool) -> str:
    """The live entries of a key in fold order, from `start` (">", ">=" a place, None: all) up to an end, if any."""
    fills = _bounded(_FILL_ENTRY, "executed_at, source_sequence, fill_id", start=start, has_end=has_end)
    others = _bounded(_ADJUSTMENT_ENTRY, "effective_at, source_sequence, adjustment_id", start=start, has_end=has_end)
    return f"({fills}) UNION ALL ({others}) ORDER BY 1, 2, 3"


_ENTRIES = {
    (start, has_end): entries_statement(start=start, has_end=has_end)
    for start in (None, ">", ">=")
    for has_end in (False, True)
}


async def read_entries(
    connection: Connection, key: PositionKey, *, start: OrderKey | None, inclusive: bool, end: OrderKey | None = None
) -> AsyncIterator[Sequence[Entry]]:
    """Live entries of a key in fold order, in batches."""
    comparison = None if start is None else ">=" if inclusive else ">"
    bounds = [*(start or ()), *(end or ())]
    cursor = await connection.cursor(_ENTRIES[comparison, end is not None], *key, *bounds)
    while batch := await cursor.fetch(ENTRY_BATCH):
        yield [*map(Entry._make, batch)]


async def count_entries(connection: Connection, key: PositionKey, *, start: OrderKey | None, limit: int) -> int:
    """How many live entries a key has from a place on, counted up to a limit."""
    comparison = None if start is None else ">="
    statement = _ENTRIES[comparison, False].replace("ORDER BY 1, 2, 3", f"LIMIT {int(limit)}")
    return cast(int, await connection.fetchval(f"SELECT count(*) FROM ({statement}) AS e", *key, *(start or ())))  # noqa: S608


async def last_fill_at(connection: Connection, key: PositionKey, *, before: OrderKey) -> datetime | None:
    """When the newest live fill strictly before a place was executed."""
    return cast(
        "datetime | None",
        await connection.fetchval(
            "SELECT executed_at FROM fills WHERE account = $1 AND book = $2 AND instrument = $3 AND leg = $4 "
            "AND state = 'LIVE' AND (executed_at, source_sequence, fill_id) < ($5, $6, $7) "
            "ORDER BY executed_at DESC, source_sequence DESC, fill_id DESC LIMIT 1",
            *key,
            *before,
        ),
    )


_APPLIED: Columns = (("account", "text"), ("fill_id", "text"))
_APPLIED_VERSIONS = f"""
SELECT f.account, f.fill_id,
       (SELECT min(e.version) FROM position_events e
        WHERE e.account = f.account AND e.book = f.book AND e.instrument = f.instrument AND e.leg = f.leg
          AND e.seq >= c.seq) AS version
FROM fills f JOIN {unnested(_APPLIED)} USING (account, fill_id)
JOIN account_commits c ON c.account = f.account AND c.commit_id = f.commit_id
"""  # noqa: S608


async def applied_versions(
    connection: Connection, identities: Sequence[tuple[Account, FillId]]
) -> dict[tuple[Account, FillId], int | None]:
    """The version of its position in which each fill was applied: the first one at or after the fill's commit."""
    if not identities:
        return {}
    rows = await connection.fetch(_APPLIED_VERSIONS, *arrays(identities, _APPLIED))
    return {(row["account"], row["fill_id"]): row["version"] for row in rows}


def fill_of_row(row: Mapping[str, Any]) -> Fill:
    """The fill in a row of `fills`."""
    return Fill(
        key=key_of(row),
        fill_id=FillId(row["fill_id"]),
        side=Side.BUY if row["delta"] > 0 else Side.SELL,
        quantity=abs(row["delta"]),
        price=row["price"],
        executed_at=row["executed_at"],
        fee=row["fee"],
        fee_currency=row["fee_currency"],
        fee_rate=row["fee_rate"],
        source_sequence=row["source_sequence"],
        order_id=row["order_id"],
        note=row["note"],
        labels=json.loads(row["labels"]) if row["labels"] else {},
        revision=row["revision"],
        is_busted=row["state"] == "BUSTED",
    )


_FIND_AND_LOCK = "SELECT * FROM fills WHERE account = $1 AND fill_id = $2 FOR UPDATE"


async def lock_fill(connection: Connection, *, account: Account, fill_id: FillId) -> FillRecord | None:
    """A fill by its id, locked."""
    row = await connection.fetchrow(_FIND_AND_LOCK, account, fill_id)
    if row is None:
        return None
    return FillRecord(fill_of_row(row), row["state"], row["recorded_at"], row["import_id"])
