"""What positions add up to: exposure, value, profit and loss per settle currency, from one snapshot."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from steelyard.accounting.keys import Account, Book, InstrumentName
from steelyard.accounting.marks import STALE_AFTER, mark_state
from steelyard.accounting.portfolio import Portfolio, portfolio_of
from steelyard.accounting.units import ZERO
from steelyard.operations.ports import Clock
from steelyard.operations.position_view import Detail, PositionRow, PositionView
from steelyard.operations.read_positions import Exposures
from steelyard.operations.reading import AS_IT_IS, Answer, Freshness, Reading, Snapshot
from steelyard.operations.risk import NO_LIMITS, Standing

TOLD_POSITIONS_MAX = 1_000
"""Open positions that a portfolio brings along; ListPositions has them all."""


@dataclass(frozen=True, slots=True)
class PortfolioRead:
    """The positions of one snapshot, and, where positions are told in full, the exposures of their accounts."""

    rows: Sequence[PositionRow]
    exposures: Exposures


@dataclass(frozen=True, slots=True)
class PortfolioView:
    """A portfolio, and the open positions of the same read."""

    portfolio: Portfolio
    positions: Sequence[PositionView] = ()
    is_truncated: bool = False
    """Whether there are more open positions than are told."""
    limits: Standing = NO_LIMITS
    """Where the accounts stand against their limits, whichever instruments are asked for."""


def in_currencies(view: PortfolioView, currencies: Collection[str]) -> PortfolioView:
    """The part of a portfolio that settles in some currencies; zeros where nothing settles in one."""
    whole = view.portfolio
    zeros = portfolio_of((), now=whole.calculated_at, currencies=currencies).currencies
    told = {name: whole.currencies.get(name, zero) for name, zero in sorted(zeros.items())}
    positions = [each for each in view.positions if each.row.instrument.settle_currency in told]
    return replace(view, portfolio=replace(whole, currencies=told), positions=positions)


class PortfolioStore(Protocol):
    """Reads the positions that a portfolio adds up."""

    async def portfolio(
        self,
        accounts: Sequence[Account],
        instruments: Sequence[InstrumentName],
        *,
        detail: Detail,
        heads: Collection[Account],
    ) -> Snapshot[PortfolioRead]:
        """All positions of accounts (none: of all) in instruments (none: in all), in key order."""
        ...


class LimitsBeside(Protocol):
    """Tells where accounts stand against their limits."""

    async def standing(self, accounts: Sequence[Account] = ()) -> Standing:
        """Where accounts (none: all) stand together."""
        ...


class NobodyLimited:
    """Where no limits are kept."""

    async def standing(self, accounts: Sequence[Account] = ()) -> Standing:
        """No account has any."""
        return NO_LIMITS


class PortfolioAnswers(Protocol):
    """Whoever answers questions about what positions add up to, from the store or through a cache."""

    async def get(
        self,
        *,
        accounts: Sequence[Account] = (),
        instruments: Sequence[InstrumentName] = (),
        has_positions: bool = False,
        freshness: Freshness = AS_IT_IS,
        max_staleness: timedelta | None = None,
    ) -> Answer[PortfolioView]:
        """The portfolio of accounts (none: of all) in instruments (none: in all).

        With `max_staleness` the last known figures, up to that age, when the store is away. Raises `StoreUnavailable`.
        """
        ...


class ReadPortfolio:
    """Answers questions about what positions add up to."""

    def __init__(
        self,
        store: PortfolioStore,
        reading: Reading,
        *,
        clock: Clock,
        stale_after: timedelta = STALE_AFTER,
        limits: LimitsBeside | None = None,
    ) -> None:
        self._store = store
        self._limits = limits or NobodyLimited()
        self._reading = reading
        self._clock = clock
        self._stale_after = stale_after

    async def get(
        self,
        *,
        accounts: Sequence[Account] = (),
        instruments: Sequence[InstrumentName] = (),
        books: Collection[Book] = (),
        has_positions: bool = False,
        freshness: Freshness = AS_IT_IS,
        max_staleness: timedelta | None = None,
    ) -> Answer[PortfolioView]:
        """The portfolio of accounts, instruments and books (none: of all). Without positions it has no currency.

        `max_staleness` has no meaning here: this one knows only what the store says.

        With `has_positions` the first 1,000 open positions come along, in full.
        """
        detail = Detail.FULL if has_positions else Detail.BASIC
        answer = await self._reading.answer(
            lambda heads: self._store.portfolio(accounts, instruments, detail=detail, heads=heads),
            accounts=accounts,
            freshness=freshness,
        )
        # Read after the positions, so it is at least as new: what the caller asked not to be older is in both.
        limits = await self._limits.standing(accounts)
        read = answer.value
        now = self._clock()
        views = [
            PositionView(row, now, mark_state(row.mark, now=now, stale_after=self._stale_after))
            for row in read.rows
            if not books or row.key.book in books
        ]
        portfolio = portfolio_of((view.portfolio_row() for view in views), now=now)
        if not has_positions:
            return Answer(PortfolioView(portfolio, limits=limits), answer.seen)
        held = [view for view in views if view.quantity]
        told = [_with_exposure(view, read.exposures) for view in held[:TOLD_POSITIONS_MAX]]
        view = PortfolioView(portfolio, told, is_truncated=len(held) > len(told), limits=limits)
        return Answer(view, answer.seen)


def _with_exposure(view: PositionView, exposures: Exposures) -> PositionView:
    row = view.row
    exposure = exposures.get((row.key.account, row.instrument.settle_currency), ZERO)
    return replace(view, gross_exposure=exposure)
