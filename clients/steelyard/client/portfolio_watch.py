"""WatchPortfolio: the figures of a portfolio, and again whenever they have changed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cached_property

from google.protobuf.duration_pb2 import Duration

from steelyard.client.caller import Caller
from steelyard.client.reports import CurrencyPortfolio
from steelyard.client.resuming import heard, resumed
from steelyard.client.translation import record_of
from steelyard.v1 import portfolio_service_pb2, portfolio_service_pb2_grpc


class PortfolioChangeCause(StrEnum):
    """Why figures are told: BEGIN of a watch, COMMITS, or PRICES alone."""

    BEGIN = "BEGIN"
    COMMITS = "COMMITS"
    PRICES = "PRICES"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortfolioChange:
    """The figures of a portfolio, whole, per settle currency; they replace those told before."""

    cause: PortfolioChangeCause
    currencies: tuple[CurrencyPortfolio, ...]


class PortfolioWatchCalls(Caller):
    """WatchPortfolio of PortfolioService."""

    @cached_property
    def _portfolio_watches(self) -> portfolio_service_pb2_grpc.PortfolioServiceStub:
        return portfolio_service_pb2_grpc.PortfolioServiceStub(self.channel)

    def watch_portfolio(
        self,
        accounts: Iterable[str] = (),
        *,
        books: Iterable[str] = (),
        instruments: Iterable[str] = (),
        min_interval: timedelta = timedelta(milliseconds=500),
        heartbeat: timedelta = timedelta(seconds=10),
    ) -> AsyncGenerator[PortfolioChange, None]:
        """The figures of a portfolio and then the newest whenever they have changed, for as long as it is read.

        A server that leaves, a broken connection and a silent one (no heartbeat) are survived: figures that are still
        the same then are not told again. Raises what makes that impossible, such as `ResumeTokenExpired`.
        """
        request = portfolio_service_pb2.WatchPortfolioRequest(
            accounts=accounts, books=books, instruments=instruments, min_interval=Duration(), heartbeat=Duration()
        )
        request.min_interval.FromTimedelta(min_interval)
        request.heartbeat.FromTimedelta(heartbeat)
        return resumed(lambda: self._one_portfolio_stream(request, silence_s=3 * heartbeat.total_seconds()))

    async def _one_portfolio_stream(
        self, request: portfolio_service_pb2.WatchPortfolioRequest, *, silence_s: float
    ) -> AsyncGenerator[PortfolioChange, None]:
        call = self._portfolio_watches.WatchPortfolio(request, metadata=self._metadata)
        async with aclosing(heard(call, silence_s=silence_s)) as messages:
            async for message in messages:
                request.resume_token = message.resume_token
                if message.WhichOneof("message") == "figures":
                    yield _change(message.figures)


def _change(figures: portfolio_service_pb2.WatchPortfolioFigures) -> PortfolioChange:
    cause = portfolio_service_pb2.PortfolioChangeCause.Name(figures.cause).removeprefix("PORTFOLIO_CHANGE_CAUSE_")
    return PortfolioChange(
        cause=PortfolioChangeCause(cause),
        currencies=tuple(record_of(CurrencyPortfolio, each) for each in figures.currencies),
    )
