"""Makes, lists and takes back keys of the API. A secret is shown once, to whoever made the key, and kept nowhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from steelyard.accounting.errors import InvalidField, KeysExhausted, NotFound
from steelyard.operations.access import LIVE_KEYS_OF_OWNER, ApiKey, KeyTerms
from steelyard.operations.answering_once import KeepsAnswers, KeptForm, RequestIdentity, answer_once
from steelyard.operations.fill_writer import with_retries
from steelyard.operations.key_ring import digest_of, new_secret
from steelyard.operations.ports import Clock
from steelyard.operations.reading import Cursor, Page

SCOPE = "keys"
"""Keys belong to no account, so their request ids share one scope."""
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/@#-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class KeyReceipt:
    """A key as it is now; the secret only with the answer that made it."""

    key: ApiKey
    secret: str | None = None
    is_replayed: bool = False


class KeyWrites(KeepsAnswers, Protocol):
    """One transaction on keys."""

    async def lock_owner(self, owner: str) -> None:
        """Lets one writer at a time decide about the keys of an owner."""
        ...

    async def count_live(self, owner: str, *, now: datetime) -> int:
        """How many keys of an owner are live."""
        ...

    async def add(self, key: ApiKey, *, digest: bytes) -> None:
        """Keeps a new key."""
        ...

    async def find(self, key_id: str) -> ApiKey | None:
        """One key, whatever became of it."""
        ...

    async def revoke(self, key_id: str, *, now: datetime) -> ApiKey | None:
        """Takes a key back; None where there is none. One that was taken back keeps its time."""
        ...


class KeyStore(Protocol):
    """Keeps keys."""

    def transaction(self) -> AbstractAsyncContextManager[KeyWrites]:
        """A transaction, committed when the block ends well."""
        ...

    async def page(self, *, owner: str | None, is_live_only: bool, size: int, after: Cursor | None) -> Page[ApiKey]:
        """Keys by owner and id."""
        ...


class KeepKeys:
    """The operations on keys."""

    def __init__(self, store: KeyStore, *, pepper: bytes, clock: Clock, jitter: Callable[[], float]) -> None:
        self._store = store
        self._pepper = pepper
        self._clock = clock
        self._jitter = jitter

    async def create(self, terms: KeyTerms, *, request: RequestIdentity) -> KeyReceipt:
        """Makes a key. A repeat of the request is told the key again, never its secret.

        Raises `InvalidField`, `KeysExhausted` where the owner has two live keys, `RequestIdReused`.
        """
        self._check(terms)
        key_id, secret = new_secret()
        key = ApiKey(key_id=key_id, terms=terms, created_at=self._clock())

        async def write() -> KeyReceipt:
            async with self._store.transaction() as book:
                answered = await answer_once(
                    book, request, form=_form("CreateApiKey"), write=lambda: self._add(book, key, secret=secret)
                )
                return await _receipt(book, answered.value, secret=None if answered.is_replayed else secret)

        return await with_retries(write, jitter=self._jitter)

    async def revoke(self, key_id: str, *, request: RequestIdentity) -> KeyReceipt:
        """Takes a key back; the same again changes nothing. Raises `NotFound`, `RequestIdReused`."""

        async def write() -> KeyReceipt:
            async with self._store.transaction() as book:
                answered = await answer_once(
                    book, request, form=_form("RevokeApiKey"), write=lambda: self._revoke(book, key_id)
                )
                receipt = await _receipt(book, answered.value)
                return KeyReceipt(receipt.key, is_replayed=answered.is_replayed)

        return await with_retries(write, jitter=self._jitter)

    async def page(
        self, *, owner: str | None = None, is_live_only: bool = False, size: int, after: Cursor | None = None
    ) -> Page[ApiKey]:
        """A page of keys, by owner and id."""
        return await self._store.page(owner=owner, is_live_only=is_live_only, size=size, after=after)

    def _check(self, terms: KeyTerms) -> None:
        if _OWNER.fullmatch(terms.owner) is None:
            raise InvalidField("key.owner", "is required: at most 64 of letters, digits, blanks and ._:/@#-")
        if not terms.scopes:
            raise InvalidField("key.scopes", "needs at least one")
        if terms.expires_at is not None and terms.expires_at <= self._clock():
            raise InvalidField("key.expires_at", "lies in the past")

    async def _add(self, book: KeyWrites, key: ApiKey, *, secret: str) -> str:
        await book.lock_owner(key.terms.owner)
        if await book.count_live(key.terms.owner, now=key.created_at) >= LIVE_KEYS_OF_OWNER:
            raise KeysExhausted(
                f"{key.terms.owner} has {LIVE_KEYS_OF_OWNER} live keys: take one back first", owner=key.terms.owner
            )
        await book.add(key, digest=digest_of(secret, pepper=self._pepper))
        return key.key_id

    async def _revoke(self, book: KeyWrites, key_id: str) -> str:
        if await book.revoke(key_id, now=self._clock()) is None:
            raise NotFound("API key", key_id)
        return key_id


def _form(method: str) -> KeptForm[str]:
    # Kept is only which key it was: the secret must lie nowhere.
    return KeptForm(SCOPE, method, encode=str.encode, decode=bytes.decode)


async def _receipt(book: KeyWrites, key_id: str, *, secret: str | None = None) -> KeyReceipt:
    key = await book.find(key_id)
    if key is None:
        raise NotFound("API key", key_id)
    return KeyReceipt(key, secret, is_replayed=secret is None)
