"""Snapshots of positions by month, and what is needed to say what was believed at an earlier time.

Fills keep their revisions, and every row the commit that recorded it. Two things were lost so far: the sequence that a
fill had before a repeat gave it a smaller one (`fill_moves`), and from where on a key was folded anew (`past_changes`):
what lies before that is today as it was believed then, so its trips and checkpoints are starts of older beliefs too.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Months are made ahead by the schedule; what falls into one that was not made lies in the rest until it is.
SNAPSHOTS = """
CREATE TABLE position_snapshots (
    account key_text NOT NULL,
    taken_at timestamptz NOT NULL,
    snapshot_id uuid NOT NULL,
    book key_text NOT NULL,
    instrument key_text NOT NULL,
    leg text NOT NULL CHECK (leg IN ('NET', 'LONG', 'SHORT')),
    cause text NOT NULL CHECK (cause IN ('REQUEST', 'SCHEDULE')),
    version bigint NOT NULL,
    position jsonb,
    features jsonb,
    failure text,
    PRIMARY KEY (account, taken_at, snapshot_id),
    CHECK ((position IS NULL) = (failure IS NOT NULL))
) PARTITION BY RANGE (taken_at);
CREATE INDEX position_snapshots_by_instrument ON position_snapshots (account, instrument, taken_at, snapshot_id);
CREATE TABLE position_snapshots_rest PARTITION OF position_snapshots DEFAULT;
"""

HISTORY = """
CREATE TABLE fill_moves (
    account key_text NOT NULL,
    fill_id key_text NOT NULL,
    commit_id bigint NOT NULL,
    revision integer NOT NULL,
    source_sequence integer NOT NULL,
    PRIMARY KEY (account, fill_id, commit_id)
);
CREATE TABLE past_changes (
    account key_text NOT NULL,
    book key_text NOT NULL,
    instrument key_text NOT NULL,
    leg text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    change_id uuid NOT NULL DEFAULT gen_random_uuid(),
    commit_id bigint NOT NULL,
    from_executed_at timestamptz NOT NULL,
    PRIMARY KEY (account, book, instrument, leg, recorded_at, change_id)
);
CREATE INDEX fill_revisions_in_fold_order ON fill_revisions
    (account, book, instrument, leg, executed_at, source_sequence, fill_id);
CREATE TABLE history_begins (
    began_at timestamptz PRIMARY KEY
);
INSERT INTO history_begins VALUES (clock_timestamp());
"""


def upgrade() -> None:
    op.execute(SNAPSHOTS)
    op.execute(HISTORY)


def downgrade() -> None:
    op.execute("DROP INDEX fill_revisions_in_fold_order")
    op.execute("DROP TABLE history_begins, past_changes, fill_moves, position_snapshots")
