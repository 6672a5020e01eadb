"""Limits of accounts per settle currency, and the records of their breaches."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

LIMITS = """
CREATE TABLE account_limits (
    account key_text NOT NULL,
    currency key_text NOT NULL,
    gross_exposure_max amount CHECK (gross_exposure_max >= 0),
    net_exposure_max amount CHECK (net_exposure_max >= 0),
    instrument_exposure_max amount CHECK (instrument_exposure_max >= 0),
    day_loss_max amount CHECK (day_loss_max >= 0),
    counts_unrealized boolean NOT NULL DEFAULT false,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (account, currency)
);
CREATE TABLE instrument_limits (
    account key_text NOT NULL,
    currency key_text NOT NULL,
    instrument key_text NOT NULL,
    exposure_max amount NOT NULL CHECK (exposure_max >= 0),
    PRIMARY KEY (account, currency, instrument)
);
"""

# One open breach of a limit at a time: of two processes that see it first, one writes it down.
BREACHES = """
CREATE TABLE limit_breaches (
    account key_text NOT NULL,
    breach_id uuid NOT NULL,
    currency key_text NOT NULL,
    kind text NOT NULL
        CHECK (kind IN ('GROSS_EXPOSURE', 'NET_EXPOSURE', 'INSTRUMENT_EXPOSURE', 'LOSS_PER_DAY')),
    instrument key_text CHECK ((instrument IS NOT NULL) = (kind = 'INSTRUMENT_EXPOSURE')),
    limit_value amount NOT NULL,
    opened_value total NOT NULL,
    opened_seq bigint NOT NULL,
    opened_at timestamptz NOT NULL,
    closed_value total,
    closed_seq bigint,
    closed_at timestamptz,
    PRIMARY KEY (account, breach_id),
    CHECK ((closed_at IS NULL) = (closed_seq IS NULL))
);
CREATE UNIQUE INDEX limit_breaches_open ON limit_breaches (account, currency, kind, (coalesce(instrument, '')))
    WHERE closed_at IS NULL;
CREATE INDEX limit_breaches_by_age ON limit_breaches (account, opened_at, breach_id);
"""


def upgrade() -> None:
    for statements in (LIMITS, BREACHES):
        op.execute(statements)


def downgrade() -> None:
    op.execute("DROP TABLE limit_breaches, instrument_limits, account_limits")
