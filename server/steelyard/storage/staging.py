"""The statements that merge a staged file into the book.

Problem: a million rows must become fills, be told apart from those that are known, and leave their keys stale, at
about the price of a bare COPY. Choice: parsed rows go by COPY, a part at a time, into a temporary table (nothing of it
outlives the session, and it writes no log), and from there in key order into the book, as if all of them were new.
Where one is not, the part is inserted once more with ON CONFLICT DO NOTHING, and the rows that were left over are
looked at, one index probe each. (Measured on a million rows: bare COPY 8.4 s, plain insert 9.1 s, with ON CONFLICT and
RETURNING 11.8 s.)
Rejected: an unlogged table keyed by import (it has to be cleaned up after a crash, and shared by name), and one
statement for all rows (it would hold its locks for the whole file).
"""

from __future__ import annotations

from steelyard.storage.stale_keys import WIDEN

TABLES = """
CREATE TEMP TABLE IF NOT EXISTS staged_rows (
    row_number bigint, account text COLLATE "C", book text COLLATE "C", instrument text COLLATE "C",
    leg text COLLATE "C", side text, quantity numeric, price numeric, fee numeric, fee_currency text,
    executed_at timestamptz, source_sequence integer, fill_id text COLLATE "C", order_id text
);
CREATE TEMP TABLE IF NOT EXISTS staged_instruments (
    instrument text COLLATE "C" PRIMARY KEY, kind text, multiplier numeric, settle_currency text
);
CREATE TEMP TABLE IF NOT EXISTS staged_refusals (row_number bigint PRIMARY KEY, field text, reason text);
CREATE TEMP TABLE IF NOT EXISTS part_keys (
    account text COLLATE "C", book text COLLATE "C", instrument text COLLATE "C", leg text COLLATE "C", entries bigint,
    from_executed_at timestamptz, from_sequence integer, from_entry_id text COLLATE "C",
    to_executed_at timestamptz, to_sequence integer, to_entry_id text COLLATE "C"
);
CREATE TEMP TABLE IF NOT EXISTS part_others (
    row_number bigint, account text COLLATE "C", fill_id text COLLATE "C", is_same boolean, differs text, state text,
    is_in_file boolean, smaller_sequence integer, attested_by uuid
);
CREATE TEMP TABLE IF NOT EXISTS part_changing (
    account text COLLATE "C", fill_id text COLLATE "C", smaller integer, PRIMARY KEY (account, fill_id)
);
CREATE TEMP TABLE IF NOT EXISTS touched_keys (
    account text COLLATE "C", book text COLLATE "C", instrument text COLLATE "C", leg text COLLATE "C", entries bigint,
    PRIMARY KEY (account, book, instrument, leg)
);
TRUNCATE staged_rows, staged_instruments, staged_refusals, part_keys, part_others, part_changing, touched_keys;
"""

PART_KEY = (
    "account", "book", "instrument", "leg", "entries", "from_executed_at", "from_sequence", "from_entry_id",
    "to_executed_at", "to_sequence", "to_entry_id",
)  # fmt: skip

INSTRUMENTS = """
INSERT INTO staged_instruments
SELECT n.instrument, coalesce(own.kind, root.kind), coalesce(own.multiplier, root.multiplier),
       coalesce(own.settle_currency, root.settle_currency)
FROM (SELECT DISTINCT instrument FROM staged_rows) n
LEFT JOIN instruments own ON own.instrument = n.instrument AND NOT own.is_root
LEFT JOIN instruments root ON root.instrument = split_part(n.instrument, ' ', 1) AND root.is_root
                          AND root.instrument <> n.instrument
WHERE NOT EXISTS (SELECT FROM staged_instruments k WHERE k.instrument = n.instrument AND k.kind IS NOT NULL)
ON CONFLICT (instrument) DO UPDATE SET kind = excluded.kind, multiplier = excluded.multiplier,
                                       settle_currency = excluded.settle_currency
"""

REFUSALS = """
INSERT INTO staged_refusals
SELECT row_number, split_part(verdict, '|', 1), split_part(verdict, '|', 2) FROM (
    SELECT s.row_number, CASE
        WHEN s.account <> ALL($2::text[]) THEN
            'account|ACCOUNT_DENIED: the key may not write this account'
        WHEN i.kind IS NULL THEN
            'instrument|UNKNOWN_INSTRUMENT: ' || s.instrument || ' has no record, nor has its root'
        WHEN s.executed_at > $1::timestamptz + interval '5 minutes' THEN
            'executed_at|lies more than 5 minutes in the future'
        WHEN s.executed_at < a.sealed_before AND NOT EXISTS (
            SELECT FROM fills f WHERE f.account = s.account AND f.fill_id = s.fill_id AND f.state <> 'WITHDRAWN'
        ) THEN
            'executed_at|PERIOD_SEALED: the account is sealed for that time'
        WHEN CASE i.kind WHEN 'LINEAR' THEN s.quantity * s.price * i.multiplier >= 1e20
                         ELSE s.quantity * i.multiplier / s.price >= 1e20 END THEN
            'quantity|NUMERIC_LIMIT: quantity x price x multiplier is 1e20 or more'
        END AS verdict
    FROM staged_rows s LEFT JOIN staged_instruments i USING (instrument) LEFT JOIN accounts a USING (account)
) judged WHERE verdict IS NOT NULL
"""
UNKNOWN = "SELECT instrument FROM staged_instruments WHERE kind IS NULL"
TAKE_OUT = "DELETE FROM staged_rows s USING staged_refusals r WHERE r.row_number = s.row_number"
FIRST_REFUSALS = "SELECT row_number, field, reason FROM staged_refusals ORDER BY row_number LIMIT $1"

NEW_CONTRACTS = """
SELECT s.instrument FROM staged_instruments s LEFT JOIN instruments i USING (instrument)
WHERE s.kind IS NOT NULL AND i.instrument IS NULL ORDER BY s.instrument
"""
ACCOUNTS = "SELECT DISTINCT account FROM staged_rows"

# The range of a key is exact to the sequence; where several rows share its first place, the smallest id is taken.
SUM_UP = """
INSERT INTO part_keys
SELECT account, book, instrument, leg, e.entries,
       e.first_at, min(source_sequence) FILTER (WHERE executed_at = e.first_at),
       min(fill_id) FILTER (WHERE executed_at = e.first_at),
       e.last_at, max(source_sequence) FILTER (WHERE executed_at = e.last_at),
       max(fill_id) FILTER (WHERE executed_at = e.last_at)
FROM added JOIN (
    SELECT account, book, instrument, leg, count(*) AS entries, min(executed_at) AS first_at,
           max(executed_at) AS last_at
    FROM added GROUP BY account, book, instrument, leg
) e USING (account, book, instrument, leg)
WHERE executed_at IN (e.first_at, e.last_at)
GROUP BY account, book, instrument, leg, e.entries, e.first_at, e.last_at
"""
SUM_UP_ALL = SUM_UP.replace("added", "staged_rows")
INSERT_NEW = """
INSERT INTO fills (account, fill_id, book, instrument, leg, delta, price, fee, fee_currency, executed_at,
                   source_sequence, order_id, import_id, commit_id)
SELECT s.account, s.fill_id, s.book, s.instrument, s.leg, CASE s.side WHEN 'BUY' THEN s.quantity ELSE -s.quantity END,
       s.price, s.fee, nullif(s.fee_currency, i.settle_currency), s.executed_at, s.source_sequence, s.order_id, $1, $2
FROM staged_rows s JOIN staged_instruments i USING (instrument)
ORDER BY s.account, s.fill_id, s.row_number
"""
INSERT_UNKNOWN = f"""
WITH added AS (
    {INSERT_NEW} ON CONFLICT DO NOTHING
    RETURNING account, book, instrument, leg, executed_at, source_sequence, fill_id
)
{SUM_UP}
"""
COUNT_ADDED = "SELECT coalesce(sum(entries), 0)::bigint FROM part_keys"

_SAME = """(f.book, f.instrument, f.leg, f.delta, f.price, f.fee, f.executed_at)
    = (s.book, s.instrument, s.leg, s.delta, s.price, s.fee, s.executed_at)
    AND f.fee_currency IS NOT DISTINCT FROM s.fee_currency"""
LOOK_AT_OTHERS = f"""
INSERT INTO part_others
SELECT s.row_number, s.account, s.fill_id,
       f.is_same OR EXISTS (SELECT FROM fill_revisions f
                            WHERE f.account = s.account AND f.fill_id = s.fill_id AND {_SAME}),
       f.differs, f.state, s.nth > 1 OR f.import_id IS NOT DISTINCT FROM $2::uuid,
       CASE WHEN f.executed_at = s.executed_at AND f.source_sequence > s.source_sequence
                 AND NOT EXISTS (SELECT FROM accounts a WHERE a.account = s.account AND f.executed_at < a.sealed_before)
            THEN s.source_sequence END,
       f.import_id
FROM (
    SELECT r.*, CASE r.side WHEN 'BUY' THEN r.quantity ELSE -r.quantity END AS delta,
           row_number() OVER (PARTITION BY r.account, r.fill_id ORDER BY r.row_number) AS nth
    FROM (
        SELECT row_number, account, book, s.instrument, leg, side, quantity, price, fee,
               nullif(fee_currency, i.settle_currency) AS fee_currency, executed_at, source_sequence, fill_id
        FROM staged_rows s JOIN staged_instruments i USING (instrument)
    ) r
) s CROSS JOIN LATERAL (
    SELECT f.state, f.commit_id, f.executed_at, f.source_sequence, f.import_id, {_SAME} AS is_same,
           concat_ws(', ', CASE WHEN f.book <> s.book THEN 'book' END,
                     CASE WHEN f.instrument <> s.instrument THEN 'instrument' END,
                     CASE WHEN f.leg <> s.leg THEN 'leg' END,
                     CASE WHEN sign(f.delta) <> sign(s.delta) THEN 'side' END,
                     CASE WHEN abs(f.delta) <> abs(s.delta) THEN 'quantity' END,
                     CASE WHEN f.price <> s.price THEN 'price' END,
                     CASE WHEN f.fee <> s.fee THEN 'fee' END,
                     CASE WHEN f.fee_currency IS DISTINCT FROM s.fee_currency THEN 'fee_currency' END,
                     CASE WHEN f.executed_at <> s.executed_at THEN 'executed_at' END) AS differs
    FROM fills f WHERE f.account = s.account AND f.fill_id = s.fill_id LIMIT 1
) f
WHERE f.commit_id <> $1 OR s.nth > 1
"""  # noqa: S608

COUNT_OTHERS = """
SELECT count(*) FILTER (WHERE is_same AND NOT is_in_file) AS same,
       count(*) FILTER (WHERE is_same AND is_in_file) AS twice,
       count(*) FILTER (WHERE NOT is_same) AS conflicting
FROM part_others
"""
CONFLICTS = """
SELECT row_number, 'conflict' AS category, split_part(differs, ', ', 1) AS field,
       'FILL_CONFLICT: fill ' || fill_id || ' is recorded with another ' || differs AS reason
FROM part_others WHERE NOT is_same ORDER BY row_number LIMIT $1
"""
DUPLICATES = """
SELECT row_number, 'duplicate' AS category, NULL AS field, 'stands in this file more than once' AS reason
FROM part_others WHERE is_same AND is_in_file ORDER BY row_number LIMIT $1
"""
ATTEST = """
INSERT INTO fill_attestations (account, fill_id, import_id)
SELECT DISTINCT account, fill_id, $1::uuid FROM part_others
WHERE is_same AND state <> 'WITHDRAWN' AND attested_by IS DISTINCT FROM $1 ORDER BY account, fill_id
ON CONFLICT DO NOTHING
"""
# By primary key: the planner may take all withdrawn fills for one, and begin with those.
FIND_CHANGING = """
INSERT INTO part_changing
SELECT account, fill_id, min(smaller_sequence)
FROM part_others WHERE is_same AND (state = 'WITHDRAWN' OR (state = 'LIVE' AND smaller_sequence IS NOT NULL))
GROUP BY account, fill_id
"""
LOCK_CHANGING = """
SELECT FROM fills f JOIN part_changing c USING (account, fill_id) ORDER BY f.account, f.fill_id
FOR NO KEY UPDATE OF f
"""
_REVISION = (
    "account", "fill_id", "revision", "book", "instrument", "leg", "delta", "price", "fee", "fee_currency", "fee_rate",
    "fee_value", "executed_at", "source_sequence", "state", "import_id", "commit_id", "recorded_at",
)  # fmt: skip
REVISION = ", ".join(_REVISION)
"""Columns of `fill_revisions`."""
REVISION_OF_F = ", ".join(f"f.{name}" for name in _REVISION)
"""The same of a fill aliased f."""
KEEP_REVISIONS = f"""
INSERT INTO fill_revisions ({REVISION}) SELECT {REVISION_OF_F}
FROM fills f JOIN part_changing c USING (account, fill_id) WHERE f.state = 'WITHDRAWN'
"""  # noqa: S608
REINSTATE = """
UPDATE fills f SET state = 'LIVE', revision = f.revision + 1, commit_id = $2, recorded_at = now(), import_id = $1,
                   source_sequence = least(f.source_sequence, c.smaller)
FROM part_changing c WHERE f.account = c.account AND f.fill_id = c.fill_id AND f.state = 'WITHDRAWN'
RETURNING f.account, f.book, f.instrument, f.leg, f.executed_at, f.source_sequence, f.fill_id,
          f.source_sequence AS old_sequence
"""
# The old place of a moved fill and its new one both belong to the range that has to be folded again. The sequence that
# it had is kept: it belongs to what was known before.
KEEP_SMALLER = """
WITH noted AS (
    INSERT INTO fill_moves (account, fill_id, commit_id, revision, source_sequence)
    SELECT f.account, f.fill_id, $1, f.revision, f.source_sequence FROM fills f JOIN part_changing c
    USING (account, fill_id) WHERE f.state = 'LIVE' AND f.source_sequence > c.smaller ON CONFLICT DO NOTHING
)
UPDATE fills f SET source_sequence = c.smaller
FROM part_changing c JOIN fills old USING (account, fill_id)
WHERE f.account = c.account AND f.fill_id = c.fill_id AND f.state = 'LIVE' AND f.source_sequence > c.smaller
RETURNING f.account, f.book, f.instrument, f.leg, f.executed_at, f.source_sequence, f.fill_id,
          old.source_sequence AS old_sequence
"""

NOTE_STALE = f"""
INSERT INTO stale_keys AS s (account, book, instrument, leg, from_executed_at, from_sequence, from_entry_id,
    to_executed_at, to_sequence, to_entry_id, entries, touch, reason, is_held)
SELECT account, book, instrument, leg, from_executed_at, from_sequence, from_entry_id,
       to_executed_at, to_sequence, to_entry_id, entries, $1, $2, $3
FROM part_keys ORDER BY account, book, instrument, leg
ON CONFLICT (account, book, instrument, leg) DO UPDATE SET {WIDEN}
"""  # noqa: S608
NOTE_TOUCHED = """
INSERT INTO touched_keys AS t SELECT account, book, instrument, leg, entries FROM part_keys
ON CONFLICT (account, book, instrument, leg) DO UPDATE SET entries = t.entries + excluded.entries
"""
# What a part has written is never looked for among the fills: the planner takes a commit that is being made for one
# row, and has compared every row with every other.
ENTERED = "SELECT account, min(from_executed_at) AS entered_at FROM part_keys GROUP BY account"
CLEAR_PART = "TRUNCATE part_keys, part_others, part_changing"
CLEAR_ROWS = "TRUNCATE staged_rows, staged_refusals"
