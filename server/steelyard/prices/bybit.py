"""Bybit's tickers: `GET /v5/market/tickers?category=linear&symbol=...`, the mark price of linear perpetuals.

Every call has its time; what may pass is tried again after 1, 2 and 4 seconds. Limits are honoured for all instruments
together: after `Too many visits` nothing is asked until the moment that Bybit names, after a ban of the address not
for ten minutes. (Source: Bybit's v5 documentation: market tickers, rate limit rules, error codes.)
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import aiohttp

from steelyard.accounting.errors import InvalidField
from steelyard.accounting.keys import InstrumentName
from steelyard.accounting.marks import Mark
from steelyard.accounting.units import parse_decimal
from steelyard.operations.refresh_marks import PriceFailure, PriceFailureReason

BYBIT_URL = "https://api.bybit.com"
LINEAR_SYMBOLS = re.compile(r"[A-Z0-9]{2,20}(USDT|USDC|PERP)")
TIMEOUT_S = 5.0
RETRY_AFTER_S = (1.0, 2.0, 4.0)
CALLS_AT_ONCE = 8
BANNED_S = 600.0
"""What Bybit asks for after a 403."""
PAUSE_WAITED_FOR_S = 5.0
"""A longer pause is not waited for by a refresh: it fails, and a later read asks again."""
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
UNKNOWN_SYMBOL = frozenset({10001, 10029})
"""A parameter is wrong: it can only be the symbol."""

GARBLED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, InvalidField)
"""What reading something else than the documented answer ends in."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a call brought no price, and whether another may."""

    failure: PriceFailure
    is_passing: bool = False
    pause_s: float = 0.0
    """How long nobody may ask."""


class BybitTickers:
    """Fulfils `refresh_marks.PriceSource`."""

    def __init__(
        self,
        url: str = BYBIT_URL,
        *,
        symbols: re.Pattern[str] = LINEAR_SYMBOLS,
        timeout_s: float = TIMEOUT_S,
        retry_after_s: Sequence[float] = RETRY_AFTER_S,
        banned_s: float = BANNED_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connects when first asked."""
        self.calls = 0
        """Requests sent since the start."""
        self._url = f"{url.rstrip('/')}/v5/market/tickers"
        self._symbols = symbols
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._retry_after_s = tuple(retry_after_s)
        self._banned_s = banned_s
        self._now_s = now_s
        self._paused_until_s = 0.0
        self._at_once = asyncio.Semaphore(CALLS_AT_ONCE)
        self._session: aiohttp.ClientSession | None = None

    def knows(self, instrument: InstrumentName) -> bool:
        """Whether the name is that of a linear perpetual."""
        return self._symbols.fullmatch(instrument) is not None

    async def latest(self, instrument: InstrumentName) -> Mark | PriceFailure:
        """The mark price, else the last one traded, at Bybit's time; at most four calls."""
        for retry_after_s in (*self._retry_after_s, None):
            pause_s = self._paused_until_s - self._now_s()
            if pause_s > PAUSE_WAITED_FOR_S:
                return PriceFailure(PriceFailureReason.RATE_LIMITED, f"asks for a pause of {pause_s:.0f} s")
            if pause_s > 0:
                await asyncio.sleep(pause_s)
            async with self._at_once:
                answer = await self._ask(instrument)
            if isinstance(answer, Mark):
                return answer
            self._paused_until_s = max(self._paused_until_s, self._now_s() + answer.pause_s)
            if retry_after_s is None or not answer.is_passing:
                return answer.failure
            await asyncio.sleep(retry_after_s)
        raise AssertionError("the last attempt returns")

    async def close(self) -> None:
        """Gives up connections."""
        if self._session is not None:
            await self._session.close()

    async def _ask(self, instrument: InstrumentName) -> Mark | _Refusal:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout, headers={"User-Agent": "steelyard"}, cookie_jar=aiohttp.DummyCookieJar()
            )
        self.calls += 1
        try:
            async with self._session.get(
                self._url, params={"category": "linear", "symbol": instrument}, allow_redirects=False
            ) as response:
                body = await body_of(response)
                return self._read(instrument, response.status, headers=response.headers, body=body)
        except TimeoutError:
            return _Refusal(PriceFailure(PriceFailureReason.TIMEOUT, "no answer in time"), is_passing=True)
        except (aiohttp.ClientError, OSError) as error:
            text = f"{type(error).__name__}: {error}"[:TEXT_MAX]
            return _Refusal(PriceFailure(PriceFailureReason.UNREACHABLE, text), is_passing=True)

    def _read(
        self, instrument: InstrumentName, status: int, *, headers: Mapping[str, str], body: bytes | None
    ) -> Mark | _Refusal:
        if status != 200:
            return self._refused_by_status(status, headers)
        try:
            answer = json.loads(body or b"", parse_float=Decimal)
            code = answer["retCode"]
            if code == 0:
                return _mark_of(answer, instrument)
            if code == TOO_MANY_VISITS:
                failure = PriceFailure(PriceFailureReason.RATE_LIMITED, told(answer))
                return _Refusal(failure, is_passing=True, pause_s=until_reset(headers, answer))
            return self._refused_by_code(code, told(answer))
        except GARBLED as error:
            text = f"not what is documented: {type(error).__name__} {error}"[:TEXT_MAX]
            return _Refusal(PriceFailure(PriceFailureReason.GARBLED, text), is_passing=True)

    def _refused_by_status(self, status: int, headers: Mapping[str, str]) -> _Refusal:
        text = f"HTTP {status}"
        if status == 403:
            return _Refusal(PriceFailure(PriceFailureReason.RATE_LIMITED, text), pause_s=self._banned_s)
        if status == 429:
            pause_s = seconds(headers.get("Retry-After"))
            return _Refusal(PriceFailure(PriceFailureReason.RATE_LIMITED, text), is_passing=True, pause_s=pause_s)
        if status >= 500:
            return _Refusal(PriceFailure(PriceFailureReason.UNREACHABLE, text), is_passing=True)
        return _Refusal(PriceFailure(PriceFailureReason.REFUSED, text))

    def _refused_by_code(self, code: object, text: str) -> _Refusal:
        if code in BANS:
            return _Refusal(PriceFailure(PriceFailureReason.RATE_LIMITED, text), pause_s=self._banned_s)
        if code in PASSING:
            return _Refusal(PriceFailure(PriceFailureReason.UNREACHABLE, text), is_passing=True)
        if code in UNKNOWN_SYMBOL:
            return _Refusal(PriceFailure(PriceFailureReason.UNKNOWN_INSTRUMENT, text))
        return _Refusal(PriceFailure(PriceFailureReason.REFUSED, text))


def told(answer: Mapping[str, Any]) -> str:
    return f"{answer['retCode']}: {answer.get('retMsg', '')}"[:TEXT_MAX]


async def body_of(response: aiohttp.ClientResponse) -> bytes | None:
    """The body; None where it is longer than any honest one."""
    body = bytearray()
    async for part in response.content.iter_chunked(64 << 10):
        body += part
        if len(body) > ANSWER_BYTES_MAX:
            return None
    return bytes(body)


def _mark_of(answer: Any, instrument: InstrumentName) -> Mark | _Refusal:
    tickers = answer["result"]["list"]
    if not tickers:
        return _Refusal(PriceFailure(PriceFailureReason.UNKNOWN_INSTRUMENT, "no such ticker"))
    ticker = tickers[0]
    if ticker["symbol"] != instrument:
        raise ValueError(f"a ticker of {ticker['symbol']!r}")
    price = parse_decimal(ticker.get("markPrice") or ticker["lastPrice"], field="markPrice")
    if price <= 0:
        raise ValueError(f"a price of {price}")
    milliseconds = answer["time"]
    if type(milliseconds) is not int:
        raise TypeError("time is no whole number")
    return Mark(price, EPOCH + timedelta(milliseconds=milliseconds), "bybit")


def until_reset(headers: Mapping[str, str], answer: Mapping[str, Any]) -> float:
    """Seconds until the window is over, both moments by Bybit's own clock."""
    reset = headers.get("X-Bapi-Limit-Reset-Timestamp", "")
    now = answer.get("time")
    if not (reset.isascii() and reset.isdigit() and type(now) is int):
        return WINDOW_S
    return min(max((int(reset) - now) / 1_000, 0.0), RESET_S_MAX)


def seconds(text: str | None) -> float:
    return min(float(text), RESET_S_MAX) if text and text.isascii() and text.isdigit() else 0.0
