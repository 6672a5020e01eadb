"""Discrepancies as records with a life of their own, the runs that look for them, and fills by their import.

The kind of a discrepancy names what it was found against as well (`FOLD_SIZE`; bare where it was a venue's report), so
that what an older release writes goes on to hold: at most one open record of a kind and position.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

DISCREPANCIES = """
ALTER TABLE discrepancies
    DROP CONSTRAINT discrepancies_kind_check,
    DROP CONSTRAINT discrepancies_state_check,
    ADD CONSTRAINT discrepancies_kind_check CHECK (kind ~ '^[A-Z_]{1,64}$'),
    ADD CONSTRAINT discrepancies_state_check CHECK (state IN ('OPEN', 'RESOLVED', 'IGNORED')),
    ADD COLUMN compared_with text NOT NULL DEFAULT 'REPORT'
        CHECK (compared_with IN ('FOLD', 'REPORT', 'VENUE', 'ORDERS', 'BOOK')),
    ADD COLUMN severity text NOT NULL DEFAULT 'WARNING' CHECK (severity IN ('INFO', 'WARNING', 'ERROR')),
    ADD COLUMN detail text NOT NULL DEFAULT '',
    ADD COLUMN run_id uuid,
    ADD COLUMN version bigint NOT NULL DEFAULT 1,
    ADD COLUMN resolved_by text,
    ADD COLUMN resolution text,
    ADD COLUMN fixed_version bigint;
CREATE INDEX discrepancies_ignored ON discrepancies (account, book, instrument, leg, kind) WHERE state = 'IGNORED';
"""

RUNS = """
CREATE TABLE reconciliation_runs (
    run_id uuid PRIMARY KEY,
    cause text NOT NULL CHECK (cause IN ('CALL', 'PERIODIC', 'SAMPLE', 'REPORT')),
    state text NOT NULL CHECK (state IN ('PENDING', 'RUNNING', 'SUCCEEDED', 'FAILED')),
    accounts text[] NOT NULL,
    instruments text[] NOT NULL,
    is_fixing boolean NOT NULL,
    body_hash bytea,
    keys_total bigint NOT NULL DEFAULT 0,
    keys_checked bigint NOT NULL DEFAULT 0,
    keys_waiting bigint NOT NULL DEFAULT 0,
    keys_fixed bigint NOT NULL DEFAULT 0,
    found bigint NOT NULL DEFAULT 0,
    found_new bigint NOT NULL DEFAULT 0,
    resolved bigint NOT NULL DEFAULT 0,
    found_by_kind jsonb NOT NULL DEFAULT '{}',
    venue_error text,
    error text,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    updated_at timestamptz NOT NULL,
    finished_at timestamptz
);
CREATE INDEX reconciliation_runs_by_age ON reconciliation_runs (created_at, run_id);
CREATE INDEX reconciliation_runs_unfinished ON reconciliation_runs (created_at) WHERE finished_at IS NULL;
"""

FILLS_BY_IMPORT = "CREATE INDEX fills_by_import ON fills (account, import_id) WHERE import_id IS NOT NULL"


def upgrade() -> None:
    for statements in (DISCREPANCIES, RUNS, FILLS_BY_IMPORT):
        op.execute(statements)


def downgrade() -> None:
    op.execute("DROP INDEX fills_by_import")
    op.execute("DROP TABLE reconciliation_runs")
    op.execute(
        """
        DROP INDEX discrepancies_ignored;
        DELETE FROM discrepancies WHERE kind NOT IN ('SIZE', 'AVERAGE');
        UPDATE discrepancies SET state = 'RESOLVED' WHERE state = 'IGNORED';
        ALTER TABLE discrepancies
            DROP COLUMN compared_with, DROP COLUMN severity, DROP COLUMN detail, DROP COLUMN run_id,
            DROP COLUMN version, DROP COLUMN resolved_by, DROP COLUMN resolution, DROP COLUMN fixed_version,
            DROP CONSTRAINT discrepancies_kind_check,
            DROP CONSTRAINT discrepancies_state_check,
            ADD CONSTRAINT discrepancies_kind_check CHECK (kind IN ('SIZE', 'AVERAGE')),
            ADD CONSTRAINT discrepancies_state_check CHECK (state IN ('OPEN', 'RESOLVED'))
        """
    )
