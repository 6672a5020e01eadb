"""Page tokens: where the next page begins, bound to the question, opaque and not to be made by anyone else.

A token is the cursor (the sort values of the last row) with a MAC over it and over the question it was given for: the
request without its page fields. A token of another question, or with one bit changed, is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

from google.protobuf.message import Message

from steelyard.accounting.errors import PageTokenInvalid
from steelyard.accounting.units import decimal_text

Cursor = tuple[Any, ...]
"""Values of the sort columns: str, int, bool, datetime, UUID, Decimal or None."""

KEY_MIN_BYTES = 16
TOKEN_MAX = 4_096
_MAC_BYTES = 16
_NOT_THE_QUESTION = ("page_token", "page_size", "min_commit", "resume_token", "min_interval", "heartbeat")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PagedRequest(Protocol):
    """A request of a list method."""

    page_token: str
    page_size: int


class PageTokens:
    """Makes and reads page tokens under one key; all replicas of one database share it."""

    def __init__(self, key: bytes) -> None:
        assert len(key) >= KEY_MIN_BYTES, "the key of page tokens is too short"
        self._key = key

    def cursor(self, request: PagedRequest) -> Cursor | None:
        """Where the page asked for begins; None for the first one. Raises `PageTokenInvalid`."""
        return self.opened(_message(request), request.page_token) if request.page_token else None

    def opened(self, request: Message, text: str) -> Cursor:
        """The values of a token given for this question. Raises `PageTokenInvalid`."""
        if len(text) > TOKEN_MAX:
            raise PageTokenInvalid
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise PageTokenInvalid from None
        mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        # One text per token: bits that base64 ignores must not make a second one.
        if not hmac.compare_digest(mac, self._mac(request, body)) or _text(raw) != text:
            raise PageTokenInvalid
        return tuple(_loaded(value) for value in json.loads(body))

    def next(self, request: PagedRequest, after: Cursor | None) -> str:
        """The token of the page after this one; empty when there is none."""
        return "" if after is None else self.sealed(_message(request), after)

    def sealed(self, request: Message, values: Cursor) -> str:
        """A token of these values for this question."""
        return self.sealer(request)(values)

    def sealer(self, request: Message) -> Callable[[Cursor], str]:
        """Makes tokens for one question, which is read once: a stream gives one with each message."""
        question = _question(request)

        def seal(values: Cursor) -> str:
            body = json.dumps([_dumped(value) for value in values], separators=(",", ":")).encode()
            return _text(self._mac_of(question, body) + body)

        return seal

    def _mac(self, request: Message, body: bytes) -> bytes:
        return self._mac_of(_question(request), body)

    def _mac_of(self, question: bytes, body: bytes) -> bytes:
        return hmac.digest(self._key, question + body, "sha256")[:_MAC_BYTES]


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _message(request: PagedRequest) -> Message:
    assert isinstance(request, Message)
    return request


def _question(request: Message) -> bytes:
    """A hash of what is asked, whichever page of it."""
    question = type(request)()
    question.CopyFrom(request)
    for field in _NOT_THE_QUESTION:
        if field in question.DESCRIPTOR.fields_by_name:
            question.ClearField(field)
    name = question.DESCRIPTOR.full_name.encode()
    return hashlib.sha256(name + b"\0" + question.SerializeToString(deterministic=True)).digest()


def _dumped(value: Any) -> Any:
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, datetime):
        delta = value - _EPOCH
        return ["t", (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds]
    if isinstance(value, UUID):
        return ["u", value.hex]
    if isinstance(value, Decimal):
        return ["d", decimal_text(value)]
    raise TypeError(f"a cursor cannot hold {type(value).__name__}")


def _loaded(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    kind, content = value
    return _LOADERS[kind](content)


def _datetime_of(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


_LOADERS: dict[str, Callable[[Any], Any]] = {"t": _datetime_of, "u": UUID, "d": Decimal}
