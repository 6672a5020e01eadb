"""Keys of the API, and who asked for a build."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Of a secret only a keyed digest is kept. `accounts` NULL: all.
KEYS = """
CREATE TABLE api_keys (
    key_id text PRIMARY KEY CHECK (key_id ~ '^[a-z0-9]{8}$'),
    owner text NOT NULL CHECK (length(owner) BETWEEN 1 AND 64),
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    scopes text[] NOT NULL CHECK (cardinality(scopes) > 0),
    accounts text[],
    tier text NOT NULL CHECK (tier IN ('default', 'model', 'risk', 'ui')),
    calls_per_minute int CHECK (calls_per_minute > 0),
    fills_per_second int NOT NULL CHECK (fills_per_second > 0),
    streams_max int NOT NULL CHECK (streams_max > 0),
    builds_max int NOT NULL CHECK (builds_max > 0),
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);
CREATE INDEX api_keys_by_owner ON api_keys (owner, key_id);
"""

ASKERS = """
ALTER TABLE builds ADD COLUMN requested_by text;
CREATE INDEX builds_under_way_by_key ON builds (requested_by)
    WHERE requested_by IS NOT NULL AND state IN ('PENDING', 'RUNNING', 'CANCELLING');
"""


def upgrade() -> None:
    for statements in (KEYS, ASKERS):
        op.execute(statements)


def downgrade() -> None:
    op.execute("DROP TABLE api_keys")
    op.execute("DROP INDEX builds_under_way_by_key")
    op.execute("ALTER TABLE builds DROP COLUMN requested_by")
