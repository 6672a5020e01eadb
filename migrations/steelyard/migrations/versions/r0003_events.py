"""What other services tell us and what we tell them: inbox, venue reports, order states, discrepancies, outbox."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INBOX = """
CREATE TABLE inbox (
    account key_text NOT NULL,
    source key_text NOT NULL,
    event_id key_text NOT NULL,
    content_hash bytea NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (account, source, event_id)
);
CREATE TABLE order_feeds (
    account key_text NOT NULL,
    order_id key_text NOT NULL,
    feed text NOT NULL CHECK (feed IN ('EXECUTIONS', 'STATES')),
    PRIMARY KEY (account, order_id)
);
CREATE TABLE order_states (
    account key_text NOT NULL,
    order_id key_text NOT NULL,
    filled_quantity amount NOT NULL CHECK (filled_quantity > 0),
    average_price amount NOT NULL,
    fees amount,
    reached_at timestamptz NOT NULL,
    told_at timestamptz NOT NULL,
    fill_id key_text NOT NULL,
    PRIMARY KEY (account, order_id, filled_quantity)
);
"""

# The newest report that changed nothing stays an entry of the fold (`parked_*` is its place there), so that it can
# absorb a fill that arrives late; the next such report takes its place.
VENUE_REPORTS = """
CREATE TABLE venue_reports (
    account key_text NOT NULL,
    book key_text NOT NULL,
    instrument key_text NOT NULL,
    leg text NOT NULL CHECK (leg IN ('NET', 'LONG', 'SHORT')),
    reported_at timestamptz,
    ties integer NOT NULL DEFAULT 0,
    quantity amount,
    average_price amount,
    unrealized_pnl amount,
    realized_pnl amount,
    source text NOT NULL,
    received_at timestamptz NOT NULL,
    parked_at timestamptz,
    parked_sequence integer,
    parked_entry_id key_text,
    PRIMARY KEY (account, book, instrument, leg)
) WITH (fillfactor = 70);
CREATE INDEX positions_by_instrument ON positions (account, instrument, leg);
"""

DISCREPANCIES = """
CREATE TABLE discrepancies (
    account key_text NOT NULL,
    discrepancy_id uuid NOT NULL,
    book key_text NOT NULL,
    instrument key_text NOT NULL,
    leg text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('SIZE', 'AVERAGE')),
    state text NOT NULL DEFAULT 'OPEN' CHECK (state IN ('OPEN', 'RESOLVED')),
    ours total,
    theirs total,
    source text NOT NULL,
    reported_at timestamptz,
    occurrences bigint NOT NULL DEFAULT 1,
    found_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    resolved_at timestamptz,
    PRIMARY KEY (account, discrepancy_id)
);
CREATE UNIQUE INDEX discrepancies_open ON discrepancies (account, book, instrument, leg, kind) WHERE state = 'OPEN';
CREATE INDEX discrepancies_by_age ON discrepancies (account, found_at, discrepancy_id);
"""

# Rows leave once the broker has confirmed them, so the table is vacuumed early.
OUTBOX = """
CREATE TABLE outbox (
    account key_text NOT NULL,
    seq bigint NOT NULL,
    ordinal integer NOT NULL,
    partition integer NOT NULL,
    topic text NOT NULL,
    book key_text NOT NULL,
    instrument key_text NOT NULL,
    leg text NOT NULL,
    version bigint,
    body jsonb,
    trace_id text,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (account, seq, ordinal)
) WITH (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000);
CREATE TABLE published_portfolios (
    account key_text PRIMARY KEY,
    seq bigint NOT NULL,
    published_at timestamptz NOT NULL
) WITH (fillfactor = 50);
"""


def upgrade() -> None:
    for statements in (INBOX, VENUE_REPORTS, DISCREPANCIES, OUTBOX):
        op.execute(statements)


def downgrade() -> None:
    op.execute("DROP INDEX positions_by_instrument")
    op.execute(
        "DROP TABLE published_portfolios, outbox, discrepancies, venue_reports, order_states, order_feeds, inbox"
    )
