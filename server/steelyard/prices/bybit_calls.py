"""Calls to Bybit: each has its time, what may pass is tried again after 1, 2 and 4 seconds, limits are honoured.

After `Too many visits` nothing is asked until the moment that Bybit names, after a ban of the address not for ten
minutes. (Source: Bybit's v5 documentation: rate limit rules, error codes.)
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from steelyard.accounting.errors import InvalidField

BYBIT_URL = "https://api.bybit.com"
TIMEOUT_S = 5.0
RETRY_AFTER_S = (1.0, 2.0, 4.0)
BANNED_S = 600.0
"""What Bybit asks for after a 403."""
PAUSE_WAITED_FOR_S = 5.0
"""A longer pause is not waited for: the call fails, and a later one asks again."""
RESET_S_MAX = 60.0
WINDOW_S = 1.0
"""Limits count over a second: what to wait where the end of the window is not told."""
ANSWER_BYTES_MAX = 256 << 10
TEXT_MAX = 200

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TOO_MANY_VISITS = 10006
BANS = frozenset({10009, 10018})
"""The address is banned, or beyond its limit."""
PASSING = frozenset({429, 10000, 10016, 10429})
"""Server timeout, server error, protection of the whole system."""
CLOCK_OFF = 10002
"""Our clock and theirs are further apart than allowed: signed anew it may pass."""
UNKNOWN_SYMBOL = frozenset({10001, 10029})
"""A parameter is wrong: where everything else is ours, it can only be the symbol."""

_GARBLED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, InvalidField)
"""What reading something else than the documented answer ends in."""

T = TypeVar("T")


class Trouble(StrEnum):
    """Why there is no answer; sources tell the same words."""

    UNREACHABLE = "UNREACHABLE"
    TIMEOUT = "TIMEOUT"
    RATE_LIMITED = "RATE_LIMITED"
    REFUSED = "REFUSED"
    GARBLED = "GARBLED"
    UNKNOWN_INSTRUMENT = "UNKNOWN_INSTRUMENT"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call brought nothing, and whether another may."""

    trouble: Trouble
    text: str = ""
    is_passing: bool = False
    pause_s: float = 0.0
    """How long nobody may ask."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call, made anew for each attempt."""

    query: str
    """Encoded: what is sent is, byte for byte, what was signed."""
    headers: Mapping[str, str]


class BybitCalls:
    """The calls to one endpoint."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        retry_after_s: Sequence[float],
        banned_s: float,
        now_s: Callable[[], float] = time.monotonic,
        at_once: AbstractAsyncContextManager[Any] | None = None,
    ) -> None:
        """Connects when first asked; `at_once` bounds how many calls are under way."""
        self.sent = 0
        """Requests since the start."""
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._retry_after_s = tuple(retry_after_s)
        self._banned_s = banned_s
        self._now_s = now_s
        self._at_once = at_once or nullcontext()
        self._paused_until_s = 0.0
        self._session: aiohttp.ClientSession | None = None

    async def answer(self, call: Callable[[], Call], read: Callable[[Any], T | Refusal]) -> T | Refusal:
        """What `read` makes of the answer, or why there is none, after as many attempts as make sense."""
        for retry_after_s in (*self._retry_after_s, None):
            pause_s = self._paused_until_s - self._now_s()
            if pause_s > PAUSE_WAITED_FOR_S:
                return Refusal(Trouble.RATE_LIMITED, f"asks for a pause of {pause_s:.0f} s")
            if pause_s > 0:
                await asyncio.sleep(pause_s)
            async with self._at_once:
                answer = await self._ask(call(), read)
            if not isinstance(answer, Refusal):
                return answer
            self._paused_until_s = max(self._paused_until_s, self._now_s() + answer.pause_s)
            if retry_after_s is None or not answer.is_passing:
                return answer
            await asyncio.sleep(retry_after_s)
        raise AssertionError("the last attempt returns")

    async def close(self) -> None:
        """Gives up connections."""
        if self._session is not None:
            await self._session.close()

    async def _ask(self, call: Call, read: Callable[[Any], T | Refusal]) -> T | Refusal:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout, headers={"User-Agent": "steelyard"}, cookie_jar=aiohttp.DummyCookieJar()
            )
        self.sent += 1
        url = URL(f"{self._url}?{call.query}", encoded=True)
        try:
            async with self._session.get(url, headers=call.headers, allow_redirects=False) as response:
                body = await _body(response)
                if response.status != 200:
                    return self._refused_by_status(response.status, response.headers)
                return self._read(response.headers, body, read=read)
        except TimeoutError:
            return Refusal(Trouble.TIMEOUT, "no answer in time", is_passing=True)
        except (aiohttp.ClientError, OSError) as error:
            return Refusal(Trouble.UNREACHABLE, f"{type(error).__name__}: {error}"[:TEXT_MAX], is_passing=True)

    def _read(
        self, headers: Mapping[str, str], body: bytes | None, *, read: Callable[[Any], T | Refusal]
    ) -> T | Refusal:
        try:
            answer = json.loads(body or b"", parse_float=Decimal)
            code = answer["retCode"]
            if code == 0:
                return read(answer)
            told = f"{code}: {answer.get('retMsg', '')}"[:TEXT_MAX]
            if code == TOO_MANY_VISITS:
                return Refusal(Trouble.RATE_LIMITED, told, is_passing=True, pause_s=_until_reset(headers, answer))
            return self._refused_by_code(code, told)
        except _GARBLED as error:
            text = f"not what is documented: {type(error).__name__} {error}"[:TEXT_MAX]
            return Refusal(Trouble.GARBLED, text, is_passing=True)

    def _refused_by_status(self, status: int, headers: Mapping[str, str]) -> Refusal:
        text = f"HTTP {status}"
        if status == 403:
            return Refusal(Trouble.RATE_LIMITED, text, pause_s=self._banned_s)
        if status == 429:
            pause_s = _seconds(headers.get("Retry-After"))
            return Refusal(Trouble.RATE_LIMITED, text, is_passing=True, pause_s=pause_s)
        return Refusal(Trouble.UNREACHABLE if status >= 500 else Trouble.REFUSED, text, is_passing=status >= 500)

    def _refused_by_code(self, code: object, text: str) -> Refusal:
        if code in BANS:
            return Refusal(Trouble.RATE_LIMITED, text, pause_s=self._banned_s)
        if code in PASSING:
            return Refusal(Trouble.UNREACHABLE, text, is_passing=True)
        if code in UNKNOWN_SYMBOL:
            return Refusal(Trouble.UNKNOWN_INSTRUMENT, text)
        return Refusal(Trouble.REFUSED, text, is_passing=code == CLOCK_OFF)


async def _body(response: aiohttp.ClientResponse) -> bytes | None:
    """The body; None where it is longer than any honest one."""
    body = bytearray()
    async for part in response.content.iter_chunked(64 << 10):
        body += part
        if len(body) > ANSWER_BYTES_MAX:
            return None
    return bytes(body)


def _until_reset(headers: Mapping[str, str], answer: Mapping[str, Any]) -> float:
    """Seconds until the window is over, both moments by Bybit's own clock."""
    reset = headers.get("X-Bapi-Limit-Reset-Timestamp", "")
    now = answer.get("time")
    if not (reset.isascii() and reset.isdigit() and type(now) is int):
        return WINDOW_S
    return min(max((int(reset) - now) / 1_000, 0.0), RESET_S_MAX)


def _seconds(text: str | None) -> float:
    return min(float(text), RESET_S_MAX) if text and text.isascii() and text.isdigit() else 0.0
