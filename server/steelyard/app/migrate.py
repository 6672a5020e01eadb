"""`steelyard migrate`: brings a database to a schema revision."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from steelyard.app.settings import Settings
from steelyard.app.store import StoreNotReady, embedded_url, first_line
from steelyard.migrations import current_revision, downgrade, head_revision, upgrade


async def migrate(settings: Settings, *, revision: str, say: Callable[[str], None]) -> bool:
    """Brings the database to a revision, up or down. Raises `StoreNotReady`, `EmbeddedError`."""
    async with embedded_url(settings) as url:
        try:
            await asyncio.to_thread(_bring, url, revision, say)
        except (SQLAlchemyError, CommandError) as error:
            told = first_line(error) if isinstance(error, SQLAlchemyError) else str(error)
            raise StoreNotReady(f"the database cannot be migrated: {told}") from None
    return True


def _bring(url: str, revision: str, say: Callable[[str], None]) -> None:
    before = current_revision(url)
    wanted = head_revision() if revision == "head" else revision
    if before is not None and (wanted == "base" or wanted < before):
        downgrade(url, wanted)
    else:
        upgrade(url, wanted)
    say(f"the database is at revision {current_revision(url) or 'none'}, was at {before or 'none'}")
