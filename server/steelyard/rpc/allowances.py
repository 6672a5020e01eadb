"""The layer that holds a key to how often it may ask: calls a minute, fills a second, streams at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from steelyard.accounting.errors import RateLimited, StreamLimit
from steelyard.operations.access import ApiKey
from steelyard.operations.allowances import Allowances, Standing
from steelyard.rpc.access import demands
from steelyard.rpc.calls import Call

LIMIT, REMAINING, RESET = "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"
FILL_WAITS = 5
"""How many periods a stream of fills is held back before it is refused."""


class LimitCalls:
    """Takes each call from its key's allowance."""

    def __init__(self, allowances: Allowances, *, used: Callable[[ApiKey, str, bool], None]) -> None:
        """`used` is told the key, what it asked for (`calls`, `fills`, `streams`) and whether it was refused."""
        self._allowances = allowances
        self._used = used
        self._fill_methods = frozenset(name for name, demand in demands().items() if demand.fills)

    def enter(self, call: Call) -> Awaitable[None] | None:
        """Raises `RateLimited`, `StreamLimit`, at once or when it is waited for."""
        key = call.key
        if key is None:
            return None
        if call.method in self._fill_methods:
            call.admit_request = lambda request: self._take_fills(call, request, key=key)
        else:
            standing = self._allowances.call_at_hand(key)
            if standing is None:
                return self._take_call(call, key)
            self._used(key, "calls", False)
            _tell(call, standing)
        self._count_in(call, key)
        return None

    def leave(self, call: Call, error: BaseException | None) -> None:
        """Counts a stream out."""
        if call.key is not None and call.about.is_stream:
            self._allowances.close_stream(call.key)

    async def _take_call(self, call: Call, key: ApiKey) -> None:
        try:
            standing = await self._allowances.take_call(key)
        except RateLimited as refusal:
            self._used(key, "calls", True)
            _tell_refusal(call, refusal, limit=key.terms.calls_allowed)
            raise
        self._used(key, "calls", False)
        _tell(call, standing)
        self._count_in(call, key)

    def _count_in(self, call: Call, key: ApiKey) -> None:
        if not call.about.is_stream:
            return
        try:
            self._allowances.open_stream(key)
        except StreamLimit:
            self._used(key, "streams", True)
            raise

    def _take_fills(self, call: Call, request: Any, *, key: ApiKey) -> Awaitable[None] | None:
        count = len(request.fills) if "fills" in request.DESCRIPTOR.fields_by_name else 1
        if self._allowances.fills_at_hand(key, count) is None:
            return self._wait_for_fills(call, count, key=key)
        self._used(key, "fills", False)
        return None

    async def _wait_for_fills(self, call: Call, count: int, *, key: ApiKey) -> None:
        """A stream of fills that runs ahead of its allowance is held back: the next batch is read a little later."""
        for attempt in range(FILL_WAITS):
            try:
                await self._allowances.take_fills(key, count)
            except RateLimited as refusal:
                if not call.about.is_stream or attempt == FILL_WAITS - 1:
                    self._used(key, "fills", True)
                    _tell_refusal(call, refusal, limit=key.terms.fills_per_second)
                    raise
                await asyncio.sleep(refusal.retry_after_s)
            else:
                self._used(key, "fills", False)
                return


def _tell(call: Call, standing: Standing) -> None:
    call.add_trailers(
        (LIMIT, str(standing.limit)), (REMAINING, str(standing.remaining)), (RESET, str(standing.reset_s))
    )


def _tell_refusal(call: Call, refusal: RateLimited, *, limit: int) -> None:
    call.add_trailers((LIMIT, str(limit)), (REMAINING, "0"), (RESET, str(max(1, round(refusal.retry_after_s)))))
