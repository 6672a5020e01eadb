"""Bybit's tickers: `GET /v5/market/tickers?category=linear&symbol=...`, the mark price of linear perpetuals.

Limits are honoured for all instruments together. (Source: Bybit's v5 documentation: market tickers.)
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

from steelyard.accounting.keys import InstrumentName
from steelyard.accounting.marks import Mark
from steelyard.accounting.units import parse_decimal
from steelyard.operations.refresh_marks import PriceFailure, PriceFailureReason
from steelyard.prices.bybit_calls import (
    BANNED_S,
    BYBIT_URL,
    EPOCH,
    RETRY_AFTER_S,
    TIMEOUT_S,
    BybitCalls,
    Call,
    Refusal,
    Trouble,
)

LINEAR_SYMBOLS = re.compile(r"[A-Z0-9]{2,20}(USDT|USDC|PERP)")
CALLS_AT_ONCE = 8


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
        self._symbols = symbols
        self._calls = BybitCalls(
            f"{url.rstrip('/')}/v5/market/tickers",
            timeout_s=timeout_s,
            retry_after_s=retry_after_s,
            banned_s=banned_s,
            now_s=now_s,
            at_once=asyncio.Semaphore(CALLS_AT_ONCE),
        )

    @property
    def calls(self) -> int:
        """Requests sent since the start."""
        return self._calls.sent

    def knows(self, instrument: InstrumentName) -> bool:
        """Whether the name is that of a linear perpetual."""
        return self._symbols.fullmatch(instrument) is not None

    async def latest(self, instrument: InstrumentName) -> Mark | PriceFailure:
        """The mark price, else the last one traded, at Bybit's time; at most four calls."""
        call = Call(urlencode({"category": "linear", "symbol": instrument}), {})
        answer = await self._calls.answer(lambda: call, partial(_mark_of, instrument=instrument))
        if isinstance(answer, Refusal):
            return PriceFailure(PriceFailureReason(answer.trouble.value), answer.text)
        return answer

    async def close(self) -> None:
        """Gives up connections."""
        await self._calls.close()


def _mark_of(answer: Any, *, instrument: InstrumentName) -> Mark | Refusal:
    tickers = answer["result"]["list"]
    if not tickers:
        return Refusal(Trouble.UNKNOWN_INSTRUMENT, "no such ticker")
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
