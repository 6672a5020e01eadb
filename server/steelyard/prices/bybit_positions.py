"""Bybit's positions: `GET /v5/position/list`, signed with the account's key, page by page.

What may pass is tried again after 1, 2 and 4 seconds, each time signed anew; limits are honoured as for prices. Nobody
is ever told a part of it: either every page came, or there are no positions. (Source: Bybit's v5 documentation:
position info, authentication, rate limit rules, error codes.)
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from urllib.parse import urlencode

from steelyard.accounting.instruments import Instrument, InstrumentKind
from steelyard.accounting.keys import Account, InstrumentName, Leg
from steelyard.accounting.units import parse_decimal
from steelyard.operations.venue_positions import VenueFailure, VenueFailureReason, VenuePosition, VenuePositions
from steelyard.prices.bybit import LINEAR_SYMBOLS
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

PATH = "/v5/position/list"
PAGE = 200
PAGES_MAX = 100
"""Pages of one answer: more positions than any account has."""
RECV_WINDOW_MS = 5_000
LEGS = {0: Leg.NET, 1: Leg.LONG, 2: Leg.SHORT}
"""By positionIdx."""
SIDES = {"Buy": 1, "Sell": -1, "": 0, "None": 0}


@dataclass(frozen=True, slots=True)
class BybitKey:
    """A key that may read an account's positions."""

    key: str
    secret: str = field(repr=False)

    def headers(self, query: str, *, at_ms: int) -> dict[str, str]:
        """The headers that sign a query: HMAC-SHA-256 over time, key, window and query."""
        signed = f"{at_ms}{self.key}{RECV_WINDOW_MS}{query}".encode()
        return {
            "X-BAPI-API-KEY": self.key,
            "X-BAPI-TIMESTAMP": str(at_ms),
            "X-BAPI-RECV-WINDOW": str(RECV_WINDOW_MS),
            "X-BAPI-SIGN": hmac.new(self.secret.encode(), signed, hashlib.sha256).hexdigest(),
        }


@dataclass(frozen=True, slots=True)
class _Page:
    at: datetime
    rows: Sequence[VenuePosition]
    cursor: str


_REASONS = {Trouble(reason.value): reason for reason in VenueFailureReason}


class BybitPositions:
    """Fulfils `venue_positions.VenueSource` for linear perpetuals."""

    def __init__(
        self,
        key: BybitKey,
        *,
        account: Account,
        clock: Callable[[], datetime],
        url: str = BYBIT_URL,
        settle_coins: Sequence[str] = ("USDT",),
        symbols: re.Pattern[str] = LINEAR_SYMBOLS,
        timeout_s: float = TIMEOUT_S,
        retry_after_s: Sequence[float] = RETRY_AFTER_S,
        banned_s: float = BANNED_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connects when first asked. `clock` gives the time that requests are signed with."""
        self.account: Account | None = account
        self._key = key
        self._clock = clock
        self._settle_coins = tuple(settle_coins)
        self._symbols = symbols
        self._calls = BybitCalls(
            url.rstrip("/") + PATH,
            timeout_s=timeout_s,
            retry_after_s=retry_after_s,
            banned_s=banned_s,
            now_s=now_s,
        )

    def covers(self, instrument: Instrument) -> bool:
        """Whether it is a linear perpetual that settles in one of the coins asked for."""
        is_linear = instrument.kind is InstrumentKind.LINEAR and instrument.settle_currency in self._settle_coins
        return is_linear and self._symbols.fullmatch(instrument.name) is not None

    async def positions(self, instrument: InstrumentName | None = None) -> VenuePositions | VenueFailure:
        """Every position of the account, or of one instrument, as of the time of the first page. Never raises."""
        if instrument is not None and self._symbols.fullmatch(instrument) is None:
            return VenuePositions(self._clock(), (), "bybit")
        scopes = [{"symbol": instrument}] if instrument else [{"settleCoin": coin} for coin in self._settle_coins]
        found: list[VenuePosition] = []
        at: datetime | None = None
        for scope in scopes:
            pages = await self._pages(scope)
            if isinstance(pages, VenueFailure):
                return pages
            at = at or pages[0].at
            found += [row for page in pages for row in page.rows]
        assert at is not None
        return VenuePositions(at, tuple(found), "bybit")

    async def close(self) -> None:
        """Gives up connections."""
        await self._calls.close()

    async def _pages(self, scope: Mapping[str, str]) -> list[_Page] | VenueFailure:
        pages: list[_Page] = []
        cursor = ""
        while len(pages) < PAGES_MAX:
            query = {"category": "linear", **scope, "limit": str(PAGE)} | ({"cursor": cursor} if cursor else {})
            page = await self._page(urlencode(query))
            if isinstance(page, VenueFailure):
                return page
            pages.append(page)
            if not page.cursor or page.cursor == cursor or not page.rows:
                return pages
            cursor = page.cursor
        return VenueFailure(VenueFailureReason.GARBLED, f"more than {PAGES_MAX} pages")

    async def _page(self, query: str) -> _Page | VenueFailure:
        answer = await self._calls.answer(partial(self._signed, query), _page_of)
        if isinstance(answer, Refusal):
            return VenueFailure(_REASONS.get(answer.trouble, VenueFailureReason.REFUSED), answer.text)
        return answer

    def _signed(self, query: str) -> Call:
        at_ms = (self._clock() - EPOCH) // timedelta(milliseconds=1)
        return Call(query, self._key.headers(query, at_ms=at_ms))


def _page_of(answer: Any) -> _Page:
    milliseconds = answer["time"]
    if type(milliseconds) is not int:
        raise TypeError("time is no whole number")
    result = answer["result"]
    rows = [_position(row) for row in result["list"]]
    return _Page(EPOCH + timedelta(milliseconds=milliseconds), rows, result.get("nextPageCursor") or "")


def _position(row: Mapping[str, Any]) -> VenuePosition:
    """A row: size is absolute and the side gives its sign; `""` and a price of 0 mean that there is none."""
    size = parse_decimal(row["size"] or "0", field="size")
    sign = SIDES[row["side"]]
    if size < 0 or (size and not sign):
        raise ValueError(f"a size of {size} on side {row['side']!r}")
    return VenuePosition(
        instrument=InstrumentName(row["symbol"]),
        leg=LEGS[row["positionIdx"]],
        quantity=size * sign,
        average_price=_price(row, "avgPrice") if size else None,
        mark_price=_price(row, "markPrice"),
        unrealized_pnl=_number(row, "unrealisedPnl"),
        realized_pnl=_number(row, "cumRealisedPnl"),
    )


def _number(row: Mapping[str, Any], name: str) -> Decimal | None:
    text = row.get(name)
    return parse_decimal(text, field=name) if text else None


def _price(row: Mapping[str, Any], name: str) -> Decimal | None:
    return _number(row, name) or None
