"""The service as it runs in production: keys, allowances, a log line for each call, Redis; and a caller with a key."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from steelyard.operations.access import KeyTerms, Scope
from steelyard.operations.answering_once import RequestIdentity
from steelyard.operations.keep_keys import KeepKeys
from steelyard.storage.access import KeyRecords
from tests.bench.service import serving_at
from tests.bench.store import open_database
from tests.support.redis import RedisServer

PEPPER = "the pepper of the benchmarks"
ALLOWED = 1_000_000_000
"""Calls a minute: they are counted like everybody's, and never refused."""


@dataclass(frozen=True, slots=True)
class Production:
    """A running service, and the metadata of a caller who may do everything."""

    address: str
    metadata: Sequence[tuple[str, str]]


@asynccontextmanager
async def production(url: str, *, variables: Mapping[str, str] | None = None) -> AsyncIterator[Production]:
    """A service on a database that asks for keys and logs every call."""
    settings = {"STEELYARD_KEY_PEPPER": PEPPER, "STEELYARD_LOG_LEVEL": "info", **(variables or {})}
    secret = await _key(url)
    async with serving_at(url, variables=settings) as address:
        yield Production(address, (("x-api-key", secret),))


async def _key(url: str) -> str:
    database = open_database(url)
    try:
        keep = KeepKeys(
            KeyRecords(database), pepper=PEPPER.encode(), clock=lambda: datetime.now(UTC), jitter=lambda: 0.5
        )
        terms = KeyTerms(owner="bench", scopes=frozenset({Scope.ADMIN}), calls_per_minute=ALLOWED)
        receipt = await keep.create(terms, request=RequestIdentity(uuid.uuid4(), b"bench"))
    finally:
        await database.close()
    assert receipt.secret is not None
    return receipt.secret


@contextmanager
def redis() -> Iterator[RedisServer]:
    """A Redis of our own, which begins empty."""
    # A socket's path may have little more than a hundred characters.
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()
