"""Brings a database to a revision: one at a time under an advisory lock, never waiting long for a table lock."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.pool import NullPool

LOCK_ID = 4_800_001
LOCK_TIMEOUT_MS = 5_000
STATEMENT_TIMEOUT_MS = 600_000


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


def _engine_url(url: str) -> str:
    """The same database through psycopg, which Alembic can drive without an event loop."""
    return make_url(url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def head_revision() -> str:
    """The revision this release of the service expects."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def current_revision(url: str) -> str | None:
    """The revision a database is at; None for an empty one."""
    engine = create_engine(_engine_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(url: str, revision: str = "head") -> None:
    """Applies what is missing up to a revision; safe to call from many processes at once."""
    _run(url, revision, is_upgrade=True)


def downgrade(url: str, revision: str) -> None:
    """Takes revisions back down to one (`base` for an empty database). Data of dropped tables is lost."""
    _run(url, revision, is_upgrade=False)


def _run(url: str, revision: str, *, is_upgrade: bool) -> None:
    engine = create_engine(_engine_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:id)"), {"id": LOCK_ID})
        connection.execute(text(f"SET lock_timeout = {LOCK_TIMEOUT_MS}"))
        connection.execute(text(f"SET statement_timeout = {STATEMENT_TIMEOUT_MS}"))
        connection.commit()
        try:
            step = command.upgrade if is_upgrade else command.downgrade
            step(_config(connection), revision)
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:id)"), {"id": LOCK_ID})
            connection.commit()
