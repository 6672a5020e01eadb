"""The keys as one process knows them: read again every few seconds, looked up without asking the store.

A key that is taken back stops being believed as soon as the ring is read again, at most `STALE_S` later: a ring that
could not be read for so long believes no key at all. An unknown key has the ring read once more, at most once a second,
so that a key made in another process works at once; it is not looked for again, and few are looked for at a time, so
that a flood of wrong ones costs nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

from steelyard.accounting.errors import ApiKeyInvalid, StoreUnavailable
from steelyard.operations.access import ApiKey
from steelyard.operations.ports import Clock

REFRESH_S = 5.0
STALE_S = 30.0
UNKNOWN_REFRESH_S = 1.0
LOOKING_MAX = 20
"""Calls with unknown keys that may wait for the ring to be read again; beyond that they are refused at once."""
UNKNOWN_MAX = 10_000
"""Unknown ids that are remembered."""
USED_NOTED_S = 60.0
PREFIX = "sy"

_SECRET = re.compile(rf"{PREFIX}_([a-z0-9]{{8}})_([A-Za-z0-9_-]{{43}})", re.ASCII)
_NO_DIGEST = bytes(32)
_ID_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"


class KeyReads(Protocol):
    """Where keys are kept."""

    async def live(self) -> Mapping[str, tuple[ApiKey, bytes]]:
        """Every key that was not taken back, by its id, with the digest of its secret."""
        ...

    async def used(self, last_used: Mapping[str, datetime]) -> None:
        """Notes when keys were last used."""
        ...


def new_secret() -> tuple[str, str]:
    """A key id, and the secret that begins with it: `sy_<8 characters>_<43 characters>`, 256 random bits."""
    key_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(8))
    return key_id, f"{PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"


def digest_of(secret: str, *, pepper: bytes) -> bytes:
    """What is kept of a secret. A fast keyed hash is right for 256 random bits; there is nothing to guess."""
    return hmac.digest(pepper, secret.encode(), "sha256")


class KeyRing:
    """Says whose key a secret is."""

    def __init__(self, store: KeyReads, *, pepper: bytes, clock: Clock, now_s: Callable[[], float]) -> None:
        """`now_s` is a monotonic clock, in seconds."""
        self._store = store
        self._pepper = pepper
        self._clock = clock
        self._now_s = now_s
        self._keys: Mapping[str, tuple[ApiKey, bytes]] = {}
        self._read_at_s: float | None = None
        self._tried_at_s: float | None = None
        self._reading = asyncio.Lock()
        self._looking = 0
        self._unknown: set[str] = set()
        self._proven: dict[bytes, ApiKey] = {}
        """Secrets that were found right since the last read, as proofs that say nothing outside this process."""
        self._proof_key = secrets.token_bytes(32)
        self._used: dict[str, datetime] = {}
        self._noted_at_s = now_s()
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to read the keys anew from time to time."""
        self.task = asyncio.create_task(self._refresh(), name="key-ring")

    async def close(self) -> None:
        """Ends that, and notes which keys were used."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        try:
            await self._note_used()
        except StoreUnavailable:
            return

    def at_hand(self, secret: str) -> ApiKey | None:
        """The live key with this secret where no look into the store is needed to say so; None: ask `of`."""
        if self._read_at_s is None or self._now_s() - self._read_at_s > STALE_S:
            return None
        key = self._proven.get(self._proof(secret))
        now = self._clock()
        if key is None or not key.is_live(now):
            return None
        self._used[key.key_id] = now
        return key

    async def of(self, secret: str) -> ApiKey:
        """The live key with this secret. Raises `ApiKeyInvalid`, and `StoreUnavailable` when the keys could not be read
        for `STALE_S`."""
        match = _SECRET.fullmatch(secret)
        if match is None:
            raise ApiKeyInvalid
        if self._read_at_s is None or self._now_s() - self._read_at_s > STALE_S:
            await self.read(since_s=self._now_s())
        key = self._matching(match[1], secret)
        if key is None and match[1] not in self._keys:
            await self._look_again(match[1])
            key = self._matching(match[1], secret)
        now = self._clock()
        if key is None or not key.is_live(now):
            raise ApiKeyInvalid
        self._proven[self._proof(secret)] = key
        self._used[key.key_id] = now
        return key

    async def read(self, *, since_s: float) -> None:
        """Reads the keys anew, unless somebody has begun to since then. Raises `StoreUnavailable`."""
        async with self._reading:
            if self._read_at_s is not None and self._read_at_s >= since_s:
                return
            begun_s = self._tried_at_s = self._now_s()
            self._keys = await self._store.live()
            self._proven.clear()
            self._read_at_s = begun_s

    def _proof(self, secret: str) -> bytes:
        # A fifth of the cost of the digest, which OpenSSL makes.
        return hashlib.blake2b(secret.encode(), key=self._proof_key, digest_size=32).digest()

    def _matching(self, key_id: str, secret: str) -> ApiKey | None:
        # An unknown id costs as much time as a wrong secret.
        key, digest = self._keys.get(key_id, (None, _NO_DIGEST))
        is_same = hmac.compare_digest(digest_of(secret, pepper=self._pepper), digest)
        return key if is_same else None

    async def _look_again(self, key_id: str) -> None:
        if key_id in self._unknown or self._looking >= LOOKING_MAX:
            return
        since_s = self._now_s()
        self._looking += 1
        try:
            if self._tried_at_s is not None:
                await asyncio.sleep(max(0.0, self._tried_at_s + UNKNOWN_REFRESH_S - since_s))
            await self.read(since_s=since_s)
        finally:
            self._looking -= 1
        if key_id not in self._keys:
            if len(self._unknown) >= UNKNOWN_MAX:
                self._unknown.clear()
            self._unknown.add(key_id)

    async def _refresh(self) -> None:
        while True:
            try:
                await self.read(since_s=self._now_s())
                if self._now_s() - self._noted_at_s >= USED_NOTED_S:
                    await self._note_used()
            except StoreUnavailable:
                pass  # `of` says so once it has lasted too long
            await asyncio.sleep(REFRESH_S)

    async def _note_used(self) -> None:
        self._noted_at_s = self._now_s()
        used, self._used = self._used, {}
        if used:
            await self._store.used(used)
