"""Answers for callers who demand fresh prices: they wait for the price source, up to their own deadline.

The answer is read first, since only it tells what is held; where its prices are stale or missing the source is asked
for them, in the calls that are in flight anyway, and the answer is read again. No cache is asked on the way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Protocol

from steelyard.accounting.keys import Account, InstrumentName, PositionKey
from steelyard.accounting.marks import MarkState
from steelyard.operations.position_view import Detail, PositionView
from steelyard.operations.read_portfolio import PortfolioView, ReadPortfolio
from steelyard.operations.read_positions import ReadPositions
from steelyard.operations.reading import Answer, Freshness


class PriceDemands(Protocol):
    """Gets fresh prices."""

    async def demand(self, names: Collection[InstrumentName], *, wait_s: float) -> None:
        """Returns once the marks of all these are fresh; raises `PricesNotFresh` when they are not within `wait_s`."""
        ...


class FreshPrices:
    """Reads positions and portfolios at fresh prices."""

    def __init__(self, prices: PriceDemands, *, positions: ReadPositions, portfolio: ReadPortfolio) -> None:
        self._prices = prices
        self._positions = positions
        self._portfolio = portfolio

    async def position(self, key: PositionKey, *, detail: Detail, freshness: Freshness) -> Answer[PositionView]:
        """One position. Raises `NotFound`, `PricesNotFresh`."""
        clock = _Deadline(freshness)
        answer = await self._positions.get(key, detail=detail, freshness=freshness)
        if not (stale := _stale([answer.value])):
            return answer
        await self._prices.demand(stale, wait_s=clock.left_s)
        return await self._positions.get(key, detail=detail, freshness=clock.freshness)

    async def batch(
        self, keys: Sequence[PositionKey], *, detail: Detail, freshness: Freshness
    ) -> Answer[dict[PositionKey, PositionView]]:
        """Positions of one snapshot. Raises `PricesNotFresh` where the price of any that is held is not to be had."""
        clock = _Deadline(freshness)
        answer = await self._positions.batch(keys, detail=detail, freshness=freshness)
        if stale := _stale(answer.value.values()):
            await self._prices.demand(stale, wait_s=clock.left_s)
            answer = await self._positions.batch(keys, detail=detail, freshness=clock.freshness)
        return Answer(dict(answer.value), answer.seen)

    async def portfolio(
        self,
        *,
        accounts: Sequence[Account],
        instruments: Sequence[InstrumentName],
        has_positions: bool,
        freshness: Freshness,
    ) -> Answer[PortfolioView]:
        """The portfolio. Raises `PricesNotFresh` where the price of anything held is not to be had."""
        clock = _Deadline(freshness)

        async def read(fresh: Freshness) -> Answer[PortfolioView]:
            return await self._portfolio.get(
                accounts=accounts, instruments=instruments, has_positions=has_positions, freshness=fresh
            )

        answer = await read(freshness)
        sums = answer.value.portfolio.currencies.values()
        stale = {InstrumentName(name) for each in sums for name in (*each.stale_prices, *each.missing_prices)}
        if not stale:
            return answer
        await self._prices.demand(stale, wait_s=clock.left_s)
        return await read(clock.freshness)


class _Deadline:
    """The caller's deadline while time goes by."""

    def __init__(self, freshness: Freshness) -> None:
        self._freshness = freshness
        self._end_s = asyncio.get_running_loop().time() + freshness.wait_s

    @property
    def left_s(self) -> float:
        return max(0.0, self._end_s - asyncio.get_running_loop().time())

    @property
    def freshness(self) -> Freshness:
        return replace(self._freshness, wait_s=self.left_s)


def _stale(views: Collection[PositionView]) -> set[InstrumentName]:
    """The instruments of positions that hold something at a price that is not fresh."""
    return {view.row.key.instrument for view in views if view.quantity and view.mark_state is not MarkState.FRESH}
