"""The book: accounts, instruments, fills and adjustments, positions and all that is folded from them.

Every key and index of account data begins with the account, so the tables can be sharded by it. Names compare by
bytes (collation C), as in the fold. `amount` is what callers give, `total` what adds up: both refuse NaN and infinity.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

DOMAINS = """
CREATE DOMAIN amount AS numeric CHECK (VALUE <> 'NaN' AND VALUE > -1e20 AND VALUE < 1e20);
CREATE DOMAIN total AS numeric CHECK (VALUE <> 'NaN' AND VALUE > -1e60 AND VALUE < 1e60);
CREATE DOMAIN key_text AS text COLLATE "C" CHECK (length(VALUE) BETWEEN 1 AND 128);
"""

ACCOUNTS = """
CREATE TABLE accounts (
    account key_text PRIMARY KEY,
    cost_method text NOT NULL DEFAULT 'AVERAGE' CHECK (cost_method IN ('AVERAGE', 'LOTS')),
    lot_method text NOT NULL DEFAULT 'FIFO' CHECK (lot_method IN ('FIFO', 'LIFO', 'HIFO')),
    size_authority text NOT NULL DEFAULT 'FILLS' CHECK (size_authority IN ('FILLS', 'LATEST', 'VENUE')),
    time_zone text NOT NULL DEFAULT 'America/Chicago',
    day_rule jsonb NOT NULL DEFAULT '{"kind": "CALENDAR"}',
    sealed_before timestamptz,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE database_epoch (
    epoch uuid PRIMARY KEY DEFAULT gen_random_uuid()
);
INSERT INTO database_epoch DEFAULT VALUES;
CREATE TABLE account_heads (
    account key_text PRIMARY KEY,
    seq bigint NOT NULL CHECK (seq > 0),
    committed_at timestamptz NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE account_commits (
    account key_text NOT NULL,
    seq bigint NOT NULL,
    commit_id bigint NOT NULL,
    committed_at timestamptz NOT NULL,
    cause text NOT NULL,
    PRIMARY KEY (account, seq)
);
CREATE INDEX account_commits_by_id ON account_commits (account, commit_id);
"""

INSTRUMENTS = """
CREATE TABLE instruments (
    instrument key_text PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('LINEAR', 'INVERSE')),
    multiplier amount NOT NULL CHECK (multiplier > 0),
    quote_currency text NOT NULL,
    settle_currency text NOT NULL,
    price_rule text NOT NULL DEFAULT 'POSITIVE' CHECK (price_rule IN ('POSITIVE', 'ANY')),
    is_root boolean NOT NULL DEFAULT false,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK (price_rule = 'POSITIVE' OR kind = 'LINEAR')
);
CREATE TABLE marks (
    instrument key_text PRIMARY KEY,
    price amount NOT NULL,
    marked_at timestamptz NOT NULL,
    source text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
"""

ENTRIES = """
CREATE TABLE fills (
    account key_text NOT NULL,
    fill_id key_text NOT NULL,
    book key_text NOT NULL,
    instrument key_text NOT NULL,
    leg text NOT NULL CHECK (leg IN ('NET', 'LONG', 'SHORT')),
    delta amount NOT NULL CHECK (delta <> 0),
    price amount NOT NULL,
    fee amount NOT NULL DEFAULT 0,
    fee_currency text,
    fee_rate amount CHECK (fee_rate > 0),
    fee_value total,
    executed_at timestamptz NOT NULL,
    source_sequence integer NOT NULL DEFAULT 0,
    state text NOT NULL DEFAULT 'LIVE' CHECK (state IN ('LIVE', 'BUSTED', 'WITHDRAWN')),
    revision integer NOT NULL DEFAULT 1,
    order_id text,
    note text,
    labels jsonb,
    import_id uuid,
    commit_id bigint NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, fill_id)
);
CREATE INDEX fills_in_fold_order ON fills
    (account, book, instrument, leg, executed_at, source_sequence, fill_id) WHERE state = 'LIVE';
CREATE INDEX fills_by_time ON fills (account, executed_at, source_sequence, fill_id);
CREATE TABLE fill_revisions (
    account key_text NOT NULL,
    fill_id key_text NOT NULL,
    revision integer NOT NULL,
    book key_text NOT NULL,
    instrument key_text NOT NULL,
    leg text NOT NULL,
    delta amount NOT NULL,
    price amount NOT NULL,
    fee amount NOT NULL,
    fee_currency text,
    fee_rate amount,
    fee_value total,
    executed_at timestamptz NOT NULL,
    source_sequence integer NOT NULL,
    state text NOT NULL,
    import_id uuid,
    commit_id bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (account, fill_id, revision)
);
CREATE TABLE fill_attestations (
    account key_text NOT NULL,
    fill_id key_text NOT NULL,
    import_id uuid NOT NULL,
    PRIMARY KEY (account, fill_id, import_id)
);
CREATE TABLE adjustments (
    account key_text NOT NULL,
    adjustment_id key_text NOT NULL,
    book key_text NOT NULL,
    instrument key_text NOT NULL,
    leg text NOT NULL CHECK (leg IN ('NET', 'LONG', 'SHORT')),
    kind text NOT NULL CHECK (kind IN ('FUNDING', 'OPENING', 'TRANSFER', 'SETTLEMENT', 'CORRECTION', 'VENUE')),
    quantity amount,
    average_price amount,
    amount amount,
    effective_at timestamptz NOT NULL,
    source_sequence integer NOT NULL DEFAULT 0,
    state text NOT NULL DEFAULT 'LIVE' CHECK (state IN ('LIVE', 'BUSTED')),
    note text,
    commit_id bigint NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, adjustment_id),
    CHECK ((kind = 'FUNDING') = (amount IS NOT NULL)),
    CHECK (kind = 'FUNDING' OR quantity IS NOT NULL OR average_price IS NOT NULL)
);
CREATE INDEX adjustments_in_fold_order ON adjustments
    (account, book, instrument, leg, effective_at, source_sequence, adjustment_id) WHERE state = 'LIVE';
"""

# settled (what came before the current trip) is lifetime minus the trip's sums, so it is not stored.
POSITIONS = """
CREATE TABLE positions (
    account key_text NOT NULL,
    book key_text NOT NULL,
    instrument key_text NOT NULL,
    leg text NOT NULL CHECK (leg IN ('NET', 'LONG', 'SHORT')),
    version bigint NOT NULL CHECK (version > 0),
    quantity total NOT NULL,
    cost_average total NOT NULL,
    average_price total,
    cost_lots total NOT NULL,
    gross_average total NOT NULL,
    gross_lots total NOT NULL,
    fees total NOT NULL,
    reducing_fees total NOT NULL,
    funding total NOT NULL,
    cash_average total NOT NULL,
    cash_lots total NOT NULL,
    unmatched total NOT NULL,
    fill_count bigint NOT NULL,
    unvalued_fees jsonb,
    trip jsonb,
    last_executed_at timestamptz,
    last_sequence integer,
    last_entry_id key_text,
    last_fill_at timestamptz,
    opened_at timestamptz,
    closed_at timestamptz,
    since_checkpoint integer NOT NULL DEFAULT 0,
    figures_state text NOT NULL DEFAULT 'CURRENT' CHECK (figures_state IN ('CURRENT', 'REFOLDING')),
    pending_fees total NOT NULL DEFAULT 0,
    pending_quantity total NOT NULL DEFAULT 0,
    pending_fills bigint NOT NULL DEFAULT 0,
    labels jsonb,
    notes text,
    annotation_version bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    last_snapshot_at timestamptz,
    PRIMARY KEY (account, book, instrument, leg),
    CHECK ((quantity = 0) = (average_price IS NULL)),
    CHECK (leg = 'NET' OR (leg = 'LONG' AND quantity >= 0) OR (leg = 'SHORT' AND quantity <= 0))
) WITH (fillfactor = 70);
CREATE TABLE lots (
    account key_text NOT NULL,
    book key_text NOT NULL,
    instrument key_text NOT NULL,
    leg text NOT NULL,
    opened_at timestamptz NOT NULL,
    opened_sequence integer NOT NULL,
    opened_entry_id key_text NOT NULL,
    quantity total NOT NULL CHECK (quantity > 0),
    original_quantity total NOT NULL,
    price total NOT NULL,
    PRIMARY KEY (account, book, instrument, leg, opened_at, opened_sequence, opened_entry_id)
);
CREATE TABLE round_trips (
    account key_text NOT NULL,
    trip_id uuid NOT NULL,
    book key_text NOT NULL,
    instrument key_text NOT NULL,
    leg text NOT NULL,
    direction text NOT NULL CHECK (direction IN ('LONG', 'SHORT')),
    opened_at timestamptz NOT NULL,
    opened_sequence integer NOT NULL,
    opened_entry_id key_text NOT NULL,
    opening_quantity total NOT NULL,
    is_flip boolean NOT NULL,
    last_at timestamptz NOT NULL,
    last_sequence integer NOT NULL,
    last_entry_id key_text NOT NULL,
    closed_at timestamptz,
    entered_quantity total NOT NULL,
    entered_value total NOT NULL,
    exited_quantity total NOT NULL,
    exited_value total NOT NULL,
    open_quantity total NOT NULL,
    max_quantity total NOT NULL,
    is_adjusted boolean NOT NULL,
    gross_average total NOT NULL,
    gross_lots total NOT NULL,
    fees total NOT NULL,
    reducing_fees total NOT NULL,
    funding total NOT NULL,
    cash_average total NOT NULL,
    cash_lots total NOT NULL,
    unmatched total NOT NULL,
    fill_count bigint NOT NULL,
    unvalued_fees jsonb,
    PRIMARY KEY (account, trip_id)
);
CREATE UNIQUE INDEX round_trips_in_fold_order ON round_trips
    (account, book, instrument, leg, opened_at, opened_sequence, opened_entry_id);
CREATE UNIQUE INDEX round_trips_at_most_one_open ON round_trips
    (account, book, instrument, leg) WHERE closed_at IS NULL;
CREATE INDEX round_trips_by_close ON round_trips (account, closed_at, trip_id) WHERE closed_at IS NOT NULL;
CREATE TABLE checkpoints (
    account key_text NOT NULL,
    book key_text NOT NULL,
    instrument key_text NOT NULL,
    leg text NOT NULL,
    executed_at timestamptz NOT NULL,
    source_sequence integer NOT NULL,
    entry_id key_text NOT NULL,
    state jsonb NOT NULL,
    PRIMARY KEY (account, book, instrument, leg, executed_at, source_sequence, entry_id)
);
CREATE TABLE stale_keys (
    account key_text NOT NULL,
    book key_text NOT NULL,
    instrument key_text NOT NULL,
    leg text NOT NULL,
    from_executed_at timestamptz NOT NULL,
    from_sequence integer NOT NULL,
    from_entry_id key_text NOT NULL,
    to_executed_at timestamptz NOT NULL,
    to_sequence integer NOT NULL,
    to_entry_id key_text NOT NULL,
    entries bigint NOT NULL,
    touch bigint NOT NULL,
    reason text NOT NULL CHECK (reason IN ('IMPORT', 'PENDING', 'LATE', 'CORRECTION', 'ROLLBACK', 'METHOD')),
    is_held boolean NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, book, instrument, leg)
);
"""

EVENTS = """
CREATE TABLE position_events (
    account key_text NOT NULL,
    book key_text NOT NULL,
    instrument key_text NOT NULL,
    leg text NOT NULL,
    version bigint NOT NULL,
    seq bigint NOT NULL,
    cause text NOT NULL,
    cause_id text,
    change text NOT NULL CHECK (change IN ('ADDED', 'UPDATED', 'CLOSED')),
    fill_ids text[] NOT NULL,
    fill_count bigint NOT NULL,
    state jsonb NOT NULL,
    committed_at timestamptz NOT NULL,
    PRIMARY KEY (account, book, instrument, leg, version)
) PARTITION BY HASH (account);
CREATE INDEX position_events_by_seq ON position_events (account, seq);
"""

REQUESTS = """
CREATE TABLE requests (
    scope key_text NOT NULL,
    request_id uuid NOT NULL,
    method text NOT NULL,
    body_hash bytea NOT NULL,
    response bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, request_id)
);
CREATE INDEX requests_by_age ON requests (created_at);
"""

EVENT_PARTITIONS = 8

# Money per point by futures root (DOMAIN 4); contracts take their record from their root.
ROOTS = """
INSERT INTO instruments (instrument, kind, multiplier, quote_currency, settle_currency, is_root) VALUES
    ('MNQ', 'LINEAR', 2, 'USD', 'USD', true), ('NQ', 'LINEAR', 20, 'USD', 'USD', true),
    ('MES', 'LINEAR', 5, 'USD', 'USD', true), ('ES', 'LINEAR', 50, 'USD', 'USD', true),
    ('MGC', 'LINEAR', 10, 'USD', 'USD', true), ('GC', 'LINEAR', 100, 'USD', 'USD', true),
    ('CL', 'LINEAR', 1000, 'USD', 'USD', true), ('ZB', 'LINEAR', 1000, 'USD', 'USD', true),
    ('6E', 'LINEAR', 125000, 'USD', 'USD', true), ('RTY', 'LINEAR', 50, 'USD', 'USD', true),
    ('M2K', 'LINEAR', 5, 'USD', 'USD', true), ('YM', 'LINEAR', 5, 'USD', 'USD', true),
    ('MYM', 'LINEAR', 0.5, 'USD', 'USD', true);
"""


def upgrade() -> None:
    for statements in (DOMAINS, ACCOUNTS, INSTRUMENTS, ENTRIES, POSITIONS, EVENTS, REQUESTS, ROOTS):
        op.execute(statements)
    for part in range(EVENT_PARTITIONS):
        op.execute(
            f"CREATE TABLE position_events_{part} PARTITION OF position_events "
            f"FOR VALUES WITH (MODULUS {EVENT_PARTITIONS}, REMAINDER {part})"
        )


def downgrade() -> None:
    op.execute(
        "DROP TABLE database_epoch, requests, position_events, stale_keys, checkpoints, round_trips, lots, positions, "
        "adjustments, "
        "fill_attestations, fill_revisions, fills, marks, instruments, account_commits, account_heads, accounts"
    )
    op.execute("DROP DOMAIN key_text, total, amount")
