"""Imports, builds, and the task engine's own tables."""

from alembic import op
from procrastinate.schema import SchemaManager

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

IMPORTS = """
CREATE TABLE imports (
    import_id uuid PRIMARY KEY,
    request_id uuid,
    file_name text NOT NULL,
    format text NOT NULL,
    content_hash bytea NOT NULL,
    size_bytes bigint NOT NULL,
    default_account text,
    time_zone text NOT NULL,
    state text NOT NULL CHECK (state IN ('RUNNING', 'DONE', 'FAILED', 'ROLLED_BACK')),
    is_auto_build boolean NOT NULL,
    row_count bigint NOT NULL DEFAULT 0,
    recorded bigint NOT NULL DEFAULT 0,
    repeated bigint NOT NULL DEFAULT 0,
    conflicting bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL DEFAULT 0,
    warnings bigint NOT NULL DEFAULT 0,
    withdrawn bigint NOT NULL DEFAULT 0,
    accounts text[] NOT NULL DEFAULT '{}',
    build_id uuid,
    error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    rolled_back_at timestamptz
);
CREATE INDEX imports_by_request ON imports (request_id) WHERE request_id IS NOT NULL;
CREATE INDEX imports_by_age ON imports (created_at, import_id);
CREATE TABLE import_rows (
    import_id uuid NOT NULL REFERENCES imports ON DELETE CASCADE,
    row_number bigint NOT NULL,
    category text NOT NULL CHECK (category IN ('parsing', 'validation', 'duplicate', 'conflict', 'warning')),
    field text,
    reason text NOT NULL,
    raw text NOT NULL,
    PRIMARY KEY (import_id, row_number, category)
);
"""

BUILDS = """
CREATE TABLE builds (
    build_id uuid PRIMARY KEY,
    request_id uuid,
    mode text NOT NULL CHECK (mode IN ('INCREMENTAL', 'FULL')),
    scope jsonb NOT NULL,
    trigger text NOT NULL CHECK (trigger IN ('MANUAL', 'IMPORT', 'STALE', 'RETRY', 'ROLLBACK', 'METHOD')),
    priority text NOT NULL CHECK (priority IN ('IMMEDIATE', 'BULK')),
    is_validate_only boolean NOT NULL DEFAULT false,
    state text NOT NULL CHECK (state IN ('PENDING', 'RUNNING', 'CANCELLING', 'SUCCEEDED', 'PARTIALLY_SUCCEEDED',
                                         'FAILED', 'CANCELLED')),
    is_planned boolean NOT NULL DEFAULT false,
    fence bigint NOT NULL DEFAULT 0,
    retry_of uuid,
    import_id uuid,
    keys_total bigint NOT NULL DEFAULT 0,
    keys_done bigint NOT NULL DEFAULT 0,
    keys_failed bigint NOT NULL DEFAULT 0,
    fills_total bigint NOT NULL DEFAULT 0,
    fills_done bigint NOT NULL DEFAULT 0,
    current_key text,
    error text,
    timeout_s integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE INDEX builds_by_age ON builds (created_at, build_id);
CREATE INDEX builds_unfinished ON builds (created_at) WHERE finished_at IS NULL;
CREATE TABLE build_keys (
    build_id uuid NOT NULL REFERENCES builds ON DELETE CASCADE,
    account key_text NOT NULL,
    book key_text NOT NULL,
    instrument key_text NOT NULL,
    leg text NOT NULL,
    chunk integer NOT NULL,
    state text NOT NULL CHECK (state IN ('PENDING', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED')),
    fence bigint NOT NULL DEFAULT 0,
    fills bigint NOT NULL DEFAULT 0,
    version bigint,
    quantity total,
    round_trips bigint NOT NULL DEFAULT 0,
    errors jsonb,
    preview jsonb,
    finished_at timestamptz,
    PRIMARY KEY (build_id, account, book, instrument, leg)
);
CREATE INDEX build_keys_by_chunk ON build_keys (build_id, chunk);
CREATE INDEX build_keys_unfinished ON build_keys (account, book, instrument, leg)
    WHERE state IN ('PENDING', 'RUNNING');
CREATE TABLE build_chunks (
    build_id uuid NOT NULL REFERENCES builds ON DELETE CASCADE,
    chunk integer NOT NULL,
    fence bigint NOT NULL DEFAULT 0,
    lease_until timestamptz,
    is_done boolean NOT NULL DEFAULT false,
    PRIMARY KEY (build_id, chunk)
);
"""


def upgrade() -> None:
    op.execute(IMPORTS)
    op.execute(BUILDS)
    # The task engine's schema in the version that requirements.lock pins; its later changes become revisions here.
    op.get_bind().exec_driver_sql(SchemaManager.get_schema().replace("%", "%%"))


def downgrade() -> None:
    op.execute("DROP TABLE build_chunks, build_keys, builds, import_rows, imports")
    op.execute(
        """
        DO $$ DECLARE item record; BEGIN
            FOR item IN SELECT p.oid::regprocedure AS signature FROM pg_proc p JOIN pg_namespace n
                ON n.oid = p.pronamespace WHERE n.nspname = current_schema() AND p.proname LIKE 'procrastinate%' LOOP
                EXECUTE format('DROP FUNCTION IF EXISTS %s CASCADE', item.signature);
            END LOOP;
            FOR item IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema()
                AND tablename LIKE 'procrastinate%' LOOP
                EXECUTE format('DROP TABLE IF EXISTS %I CASCADE', item.tablename);
            END LOOP;
            FOR item IN SELECT t.typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
                WHERE n.nspname = current_schema() AND t.typname LIKE 'procrastinate%' LOOP
                EXECUTE format('DROP TYPE IF EXISTS %I CASCADE', item.typname);
            END LOOP;
        END $$
        """
    )
