"""Forgetting old messages of the inbox by their age: without an index each hour would read the whole inbox."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """An index by account and age."""
    op.execute("CREATE INDEX inbox_by_age ON inbox (account, received_at)")


def downgrade() -> None:
    """The index goes."""
    op.execute("DROP INDEX inbox_by_age")
