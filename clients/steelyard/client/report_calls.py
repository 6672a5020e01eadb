"""PortfolioService: positions summed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from google.protobuf.duration_pb2 import Duration

from steelyard.client.caller import Caller, Commits
from steelyard.client.records import Position
from steelyard.client.reports import CurrencyExposure, CurrencyPnl, CurrencyPortfolio
from steelyard.client.translation import record_of
from steelyard.v1 import portfolio_service_pb2, portfolio_service_pb2_grpc


@dataclass(frozen=True, slots=True, kw_only=True)
class Portfolio:
    """Positions summed per settle currency; the open ones too where that was asked for."""

    currencies: tuple[CurrencyPortfolio, ...]
    positions: tuple[Position, ...]
    positions_truncated: bool


class PortfolioCalls(Caller):
    """The calls of PortfolioService."""

    @cached_property
    def _portfolio(self) -> portfolio_service_pb2_grpc.PortfolioServiceStub:
        return portfolio_service_pb2_grpc.PortfolioServiceStub(self.channel)

    @cached_property
    def _last_known(self) -> portfolio_service_pb2_grpc.PortfolioServiceStub:
        """For questions that take older figures: they are asked of servers whose store is away, too."""
        return portfolio_service_pb2_grpc.PortfolioServiceStub(self.unhealthy_channel)

    async def get_portfolio(
        self,
        accounts: Iterable[str] = (),
        *,
        instruments: Iterable[str] = (),
        settle_currencies: Iterable[str] = (),
        include_positions: bool = False,
        min_commit: Commits | None = None,
        max_staleness: timedelta | None = None,
        require_fresh_prices: bool = False,
    ) -> Portfolio:
        """Exposure, value, profit and loss, counts, per settle currency; zeros in one asked for that does not occur.

        With `max_staleness` the last figures known, up to that age, when the store is away; with `require_fresh_prices`
        the price source is waited for, else `PricesNotFresh` is raised.
        """
        asked = self._portfolio if max_staleness is None else self._last_known
        names = tuple(accounts)
        request = portfolio_service_pb2.GetPortfolioRequest(
            accounts=names,
            instruments=instruments,
            settle_currencies=settle_currencies,
            include_positions=include_positions,
            min_commit=self._since(names, min_commit),
            max_staleness=_duration(max_staleness),
            require_fresh_prices=require_fresh_prices,
        )
        return record_of(Portfolio, await self._ask(asked.GetPortfolio, request))

    async def get_exposure(
        self,
        accounts: Iterable[str] = (),
        *,
        instruments: Iterable[str] = (),
        settle_currencies: Iterable[str] = (),
        min_commit: Commits | None = None,
        max_staleness: timedelta | None = None,
        require_fresh_prices: bool = False,
    ) -> tuple[CurrencyExposure, ...]:
        """The exposure alone, per settle currency; both options as in `get_portfolio`."""
        asked = self._portfolio if max_staleness is None else self._last_known
        names = tuple(accounts)
        request = portfolio_service_pb2.GetExposureRequest(
            accounts=names,
            instruments=instruments,
            settle_currencies=settle_currencies,
            min_commit=self._since(names, min_commit),
            max_staleness=_duration(max_staleness),
            require_fresh_prices=require_fresh_prices,
        )
        answer = await self._ask(asked.GetExposure, request)
        return tuple(record_of(CurrencyExposure, currency) for currency in answer.currencies)

    async def get_pnl(
        self,
        accounts: Iterable[str] = (),
        *,
        instruments: Iterable[str] = (),
        settle_currencies: Iterable[str] = (),
        min_commit: Commits | None = None,
        max_staleness: timedelta | None = None,
        require_fresh_prices: bool = False,
    ) -> tuple[CurrencyPnl, ...]:
        """The profit and loss alone, per settle currency; both options as in `get_portfolio`."""
        asked = self._portfolio if max_staleness is None else self._last_known
        names = tuple(accounts)
        request = portfolio_service_pb2.GetPnlRequest(
            accounts=names,
            instruments=instruments,
            settle_currencies=settle_currencies,
            min_commit=self._since(names, min_commit),
            max_staleness=_duration(max_staleness),
            require_fresh_prices=require_fresh_prices,
        )
        answer = await self._ask(asked.GetPnl, request)
        return tuple(record_of(CurrencyPnl, currency) for currency in answer.currencies)


def _duration(value: timedelta | None) -> Duration | None:
    if value is None:
        return None
    duration = Duration()
    duration.FromTimedelta(value)
    return duration
