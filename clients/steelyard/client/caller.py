"""What every call has in common: metadata, a deadline, errors by reason, pages, and reading one's own writes."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import grpc.aio
from google.protobuf.message import Message

from steelyard.client.errors import SteelyardCallError, translated
from steelyard.v1 import common_pb2

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)
T = TypeVar("T")

Commits = Mapping[str, int]
"""Account to the place in its log."""


class Caller:
    """The base of all calls: one channel, one set of metadata.

    It remembers the newest commit of its own writes per account, and demands it of later reads of that account
    (`min_commit`), so that whoever wrote reads what he wrote, whichever replica answers.
    """

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float, metadata: Iterable[tuple[str, str]]) -> None:
        self.channel = channel
        self.unhealthy_channel = channel
        """Reaches servers also while they say NOT_SERVING, as they do while their store is away."""
        self._timeout_s = timeout_s
        self._metadata = tuple(metadata)
        self._written: dict[str, int] = {}

    async def _ask(
        self, method: grpc.aio.UnaryUnaryMultiCallable[Q, A], request: Q, *, timeout_s: float | None = None
    ) -> A:
        """One question, one answer. Raises `SteelyardCallError`."""
        with translated():
            return await method(request, timeout=timeout_s or self._timeout_s, metadata=self._metadata)

    async def _write(self, method: grpc.aio.UnaryUnaryMultiCallable[Q, A], request: Q) -> A:
        """The same for a write, whose commits are remembered."""
        answer = await self._ask(method, request)
        self._remember(answer)
        return answer

    async def _pages(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Q, A],
        request: Q,
        *,
        rows: Callable[[A], Iterable[T]],
    ) -> AsyncIterator[T]:
        """All rows of a list, page after page, as they are asked for."""
        paged: Any = request
        while True:
            answer: Any = await self._ask(method, request)
            for row in rows(answer):
                yield row
            if not answer.next_page_token:
                return
            paged.page_token = answer.next_page_token

    async def _send(
        self, method: grpc.aio.StreamUnaryMultiCallable[Q, A], messages: AsyncIterator[Q], *, timeout_s: float
    ) -> A:
        """Many messages, one answer. Raises what the messages raise, else `SteelyardCallError`."""
        outgoing = _Outgoing(messages)
        try:
            with translated():
                return await method(outgoing.send(), timeout=timeout_s, metadata=self._metadata)
        except (asyncio.CancelledError, SteelyardCallError):
            if outgoing.error is not None:
                raise outgoing.error from None
            raise

    def _remember(self, answer: Message) -> None:
        header: common_pb2.ResponseHeader = getattr(answer, "header")  # noqa: B009 - every answer has one
        for commit in header.commits:
            self._written[commit.account] = max(commit.seq, self._written.get(commit.account, 0))

    def _since(self, accounts: Iterable[str], min_commit: Commits | None) -> list[common_pb2.Commit]:
        """What a read of these accounts must not be older than: the caller's word, else this client's own writes."""
        wanted: dict[str, int] = {name: self._written[name] for name in accounts if name in self._written}
        wanted.update(min_commit or {})
        return [common_pb2.Commit(account=account, seq=seq) for account, seq in wanted.items()]


class _Outgoing(Generic[Q]):
    """Messages on their way out; keeps the error that ended them, of which grpcio leaves a bare cancellation."""

    def __init__(self, messages: AsyncIterator[Q]) -> None:
        self._messages = messages
        self.error: Exception | None = None

    async def send(self) -> AsyncIterator[Q]:
        """The messages."""
        try:
            async for message in self._messages:
                yield message
        except Exception as error:
            self.error = error
            raise


def new_request_id(given: str | None) -> str:
    """The id of a write: the caller's, for repeating it, else a new one."""
    return given or str(uuid.uuid4())
