"""The inbox: messages that took effect, by account, source and event id; and the states of orders told of in parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steelyard.accounting.keys import Account, FillId
from steelyard.operations.feed_messages import OrderFeed, Receipt
from steelyard.operations.feed_ports import InboxOutcome, KnownState
from steelyard.storage.bulk import Columns, arrays, insert_rows, unnested
from steelyard.storage.database import Connection

_ROW: Columns = (
    ("account", "text"),
    ("source", "text"),
    ("event_id", "text"),
    ("content_hash", "bytea"),
    ("received_at", "timestamptz"),
)
_ID = _ROW[:3]
_RECEIVE = insert_rows("inbox", _ROW, on_conflict="DO NOTHING", returning="source, event_id")
_KNOWN = f"SELECT source, event_id, content_hash FROM {unnested(_ID)} JOIN inbox USING (account, source, event_id)"  # noqa: S608
_FOLLOW = """
INSERT INTO order_feeds AS f (account, order_id, feed)
SELECT $1, o, $3 FROM unnest($2::text[]) WITH ORDINALITY AS n(o, place) ORDER BY place
ON CONFLICT (account, order_id) DO UPDATE SET feed = f.feed RETURNING order_id, feed
"""
_KEEP_STATE = """
INSERT INTO order_states (account, order_id, filled_quantity, average_price, fees, reached_at, told_at, fill_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (account, order_id, filled_quantity) DO UPDATE
    SET average_price = excluded.average_price, fees = excluded.fees, told_at = excluded.told_at
"""

FORGOTTEN_AT_ONCE = 10_000
_FORGET = """
WITH o AS MATERIALIZED (
    SELECT i.account, i.source, i.event_id FROM accounts a CROSS JOIN LATERAL (
        SELECT account, source, event_id FROM inbox
        WHERE account = a.account AND received_at < now() - make_interval(days => $1)
        ORDER BY received_at LIMIT $2 FOR UPDATE SKIP LOCKED
    ) i LIMIT $2
)
DELETE FROM inbox t USING o WHERE (t.account, t.source, t.event_id) = (o.account, o.source, o.event_id)
"""


async def receive(connection: Connection, receipts: Sequence[Receipt], *, account: Account) -> list[InboxOutcome]:
    """Notes messages (each id once) and says of each whether it is new."""
    rows = {
        (receipt.source, receipt.event_id): (
            *(account, receipt.source, receipt.event_id),
            receipt.content_hash,
            receipt.received_at,
        )
        for receipt in receipts
    }
    added = await connection.fetch(_RECEIVE, *arrays((row for _, row in sorted(rows.items())), _ROW))
    new = {(row["source"], row["event_id"]) for row in added}
    old = [row[:3] for identity, row in rows.items() if identity not in new]
    known = await connection.fetch(_KNOWN, *arrays(old, _ID)) if old else ()
    hashes = {(row["source"], row["event_id"]): bytes(row["content_hash"]) for row in known}
    outcomes = []
    for receipt in receipts:
        identity = (receipt.source, receipt.event_id)
        if identity in new:
            outcomes.append(InboxOutcome.NEW)
        else:
            is_same = hashes[identity] == receipt.content_hash
            outcomes.append(InboxOutcome.REPEATED if is_same else InboxOutcome.CONFLICTING)
    return outcomes


async def follow_orders(
    connection: Connection, account: Account, *, order_ids: Sequence[str], feed: OrderFeed
) -> Mapping[str, OrderFeed]:
    """Locks orders and says which feed each is followed by."""
    rows = await connection.fetch(_FOLLOW, account, sorted(set(order_ids)), feed.value)
    return {row["order_id"]: OrderFeed(row["feed"]) for row in rows}


async def order_states(connection: Connection, account: Account, *, order_id: str) -> list[KnownState]:
    """The known states of an order by quantity."""
    rows = await connection.fetch(
        "SELECT filled_quantity, average_price, fees, reached_at, told_at, fill_id FROM order_states "
        "WHERE account = $1 AND order_id = $2 ORDER BY filled_quantity",
        account,
        order_id,
    )
    return [KnownState(*row.values()) for row in rows]


async def keep_order_state(connection: Connection, account: Account, *, order_id: str, state: KnownState) -> None:
    """Adds a state, or replaces the figures of the one with the same quantity."""
    await connection.execute(
        _KEEP_STATE,
        *(account, order_id, state.filled_quantity, state.average_price, state.fees),
        *(state.reached_at, state.told_at, FillId(state.fill_id)),
    )


async def forget_old(connection: Connection, *, kept_days: int) -> bool:
    """Forgets a batch of messages that were received longer ago; whether more of them may wait.

    A repeat of a forgotten message is still no second fill: fills, order states and report times know it.
    """
    gone: str = await connection.execute(_FORGET, kept_days, FORGOTTEN_AT_ONCE)
    return gone == f"DELETE {FORGOTTEN_AT_ONCE}"
