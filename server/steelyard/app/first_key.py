"""`steelyard keys first`: a key for everything, made in the database itself, since no call can make the first one."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable

from steelyard.app.assembly import system_clock
from steelyard.app.bounds import database_limits
from steelyard.app.failures import MISUSED, CommandFailed
from steelyard.app.settings import Settings
from steelyard.app.store import check_revision, embedded_url
from steelyard.migrations import upgrade
from steelyard.operations.access import KeyTerms, Scope
from steelyard.operations.answering_once import RequestIdentity
from steelyard.operations.keep_keys import KeepKeys
from steelyard.storage.access import KeyRecords
from steelyard.storage.database import Database


class NoPepper(CommandFailed):
    """Keys cannot be made without STEELYARD_KEY_PEPPER: the same secret, at least 16 bytes, for all servers."""

    status = MISUSED


async def first_key(settings: Settings, *, owner: str, say: Callable[[str], None]) -> bool:
    """Makes an admin key and says its secret. Raises `NoPepper`, and what keeps the database away."""
    if settings.key_pepper is None:
        raise NoPepper(NoPepper.__doc__)
    async with embedded_url(settings) as url:
        if settings.database_url is None:
            await asyncio.to_thread(upgrade, url)
        await check_revision(url)
        database = Database(url, database_limits(settings))
        try:
            keep = KeepKeys(
                KeyRecords(database),
                pepper=settings.key_pepper.get_secret_value().encode(),
                clock=system_clock,
                jitter=random.random,  # noqa: S311 - spreads retries, no secret
            )
            receipt = await keep.create(
                KeyTerms(owner=owner, scopes=frozenset({Scope.ADMIN})), request=RequestIdentity(uuid.uuid4(), b"first")
            )
        finally:
            await database.close()
    say(receipt.secret or "")
    return True
