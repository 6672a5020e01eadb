"""The layer that holds a key to how often it may ask: calls a minute, fills a second, streams at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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

    def around(self, call: Call) -> _Limited:
        """Raises `RateLimited`, `StreamLimit` on entering."""
        return _Limited(self, call)

    async def begin(self, call: Call) -> bool:
        """Whether a stream was counted in, and must be counted out."""
        key = call.key
        if key is None:
            return False
        if call.method in self._fill_methods:
            call.admit_request = lambda request: self._take_fills(call, request, key=key)
        else:
            await self._take_call(call, key)
        if not call.is_stream:
            return False
        try:
            self._allowances.open_stream(key)
        except StreamLimit:
            self._used(key, "streams", True)
            raise
        return True

    def end(self, call: Call) -> None:
        """Counts a stream out."""
        if call.key is not None:
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

    async def _take_fills(self, call: Call, request: Any, *, key: ApiKey) -> None:
        """A stream of fills that runs ahead of its allowance is held back: the next batch is read a little later."""
        count = len(request.fills) if "fills" in request.DESCRIPTOR.fields_by_name else 1
        for attempt in range(FILL_WAITS):
            try:
                await self._allowances.take_fills(key, count)
            except RateLimited as refusal:
                if not call.is_stream or attempt == FILL_WAITS - 1:
                    self._used(key, "fills", True)
                    _tell_refusal(call, refusal, limit=key.terms.fills_per_second)
                    raise
                await asyncio.sleep(refusal.retry_after_s)
            else:
                self._used(key, "fills", False)
                return


class _Limited:
    __slots__ = ("_call", "_has_stream", "_layer")

    def __init__(self, layer: LimitCalls, call: Call) -> None:
        self._layer = layer
        self._call = call
        self._has_stream = False

    async def __aenter__(self) -> None:
        self._has_stream = await self._layer.begin(self._call)

    async def __aexit__(self, *ended: Any) -> None:
        if self._has_stream:
            self._layer.end(self._call)


def _tell(call: Call, standing: Standing) -> None:
    call.add_trailers(
        (LIMIT, str(standing.limit)), (REMAINING, str(standing.remaining)), (RESET, str(standing.reset_s))
    )


def _tell_refusal(call: Call, refusal: RateLimited, *, limit: int) -> None:
    call.add_trailers((LIMIT, str(limit)), (REMAINING, "0"), (RESET, str(max(1, round(refusal.retry_after_s)))))
