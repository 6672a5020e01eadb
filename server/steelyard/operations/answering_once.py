"""Writes with a request id: a repeat is answered as the first was, and writes nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar
from uuid import UUID

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """A caller's request id and the hash of what he asked: a repeat is answered as before."""

    request_id: UUID
    body_hash: bytes


class KeepsAnswers(Protocol):
    """The part of a transaction that remembers what it answered."""

    async def answer_to(self, *, scope: str, request_id: UUID, method: str, body_hash: bytes) -> bytes | None:
        """The kept answer to a request id; raises `RequestIdReused` where it was given another body."""
        ...

    async def store_answer(
        self, *, scope: str, request_id: UUID, method: str, body_hash: bytes, response: bytes
    ) -> None:
        """Keeps the answer to a request id, in this transaction."""
        ...


@dataclass(frozen=True, slots=True)
class KeptForm(Generic[T]):
    """How the answers of a method are kept: `scope` bounds where a request id is unique (an account, mostly)."""

    scope: str
    method: str
    encode: Callable[[T], bytes]
    decode: Callable[[bytes], T]


@dataclass(frozen=True, slots=True)
class Answered(Generic[T]):
    """An answer, and whether it is the kept one of an earlier call."""

    value: T
    is_replayed: bool


async def answer_once(
    book: KeepsAnswers, request: RequestIdentity, *, form: KeptForm[T], write: Callable[[], Awaitable[T]]
) -> Answered[T]:
    """The kept answer to a repeat, else that of `write`, kept in the transaction it wrote in.

    Raises `RequestIdReused`, and what `write` raises.
    """
    kept = await book.answer_to(
        scope=form.scope, request_id=request.request_id, method=form.method, body_hash=request.body_hash
    )
    if kept is not None:
        return Answered(form.decode(kept), is_replayed=True)
    value = await write()
    await book.store_answer(
        scope=form.scope,
        request_id=request.request_id,
        method=form.method,
        body_hash=request.body_hash,
        response=form.encode(value),
    )
    return Answered(value, is_replayed=False)
