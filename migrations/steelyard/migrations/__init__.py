"""The database's shape, step by step: Alembic revisions and the function that applies them.

Owns every DDL statement. Knows nothing of the service: migrations must run with an older or newer server beside them,
so they expand first and contract in a later release.
"""

from steelyard.migrations.apply import current_revision, downgrade, head_revision, upgrade

__all__ = ["current_revision", "downgrade", "head_revision", "upgrade"]
