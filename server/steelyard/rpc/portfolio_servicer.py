"""PortfolioService. Each method: check -> call the operation -> translate -> fill the answer."""

from __future__ import annotations

from typing import TypeAlias

from steelyard.operations.position_view import Detail
from steelyard.operations.read_portfolio import PortfolioAnswers, PortfolioView
from steelyard.operations.reading import Answer
from steelyard.rpc import decode, encode_portfolio, encode_position
from steelyard.rpc.calls import Context
from steelyard.rpc.encoded_once import EncodedOnce
from steelyard.rpc.header import freshness, read_header
from steelyard.v1 import portfolio_service_pb2, portfolio_service_pb2_grpc

AnyRequest: TypeAlias = (
    portfolio_service_pb2.GetPortfolioRequest
    | portfolio_service_pb2.GetExposureRequest
    | portfolio_service_pb2.GetPnlRequest
)


class PortfolioServicer(portfolio_service_pb2_grpc.PortfolioServiceServicer):
    """Positions summed per settle currency."""

    def __init__(self, *, read: PortfolioAnswers) -> None:
        self._read = read
        self._portfolio = EncodedOnce(_portfolio)
        self._exposure = EncodedOnce(_exposure)
        self._pnl = EncodedOnce(_pnl)

    async def GetPortfolio(
        self, request: portfolio_service_pb2.GetPortfolioRequest, context: Context
    ) -> portfolio_service_pb2.GetPortfolioResponse:
        """Exposure, value, profit and loss, counts."""
        return self._portfolio(await self._answer(request, context, has_positions=request.include_positions))

    async def GetExposure(
        self, request: portfolio_service_pb2.GetExposureRequest, context: Context
    ) -> portfolio_service_pb2.GetExposureResponse:
        """The exposure alone."""
        return self._exposure(await self._answer(request, context))

    async def GetPnl(
        self, request: portfolio_service_pb2.GetPnlRequest, context: Context
    ) -> portfolio_service_pb2.GetPnlResponse:
        """The profit and loss alone."""
        return self._pnl(await self._answer(request, context))

    async def _answer(
        self, request: AnyRequest, context: Context, *, has_positions: bool = False
    ) -> Answer[PortfolioView]:
        return await self._read.get(
            accounts=decode.accounts(request.accounts),
            instruments=decode.instruments(request.instruments),
            has_positions=has_positions,
            freshness=freshness(request.min_commit, context),
        )


def _portfolio(answer: Answer[PortfolioView]) -> portfolio_service_pb2.GetPortfolioResponse:
    view, at = answer.value, answer.value.portfolio.calculated_at
    return portfolio_service_pb2.GetPortfolioResponse(
        header=read_header(answer.seen),
        currencies=[encode_portfolio.portfolio(each, at=at) for each in view.portfolio.currencies.values()],
        positions=[encode_position.position(each, detail=Detail.FULL) for each in view.positions],
        positions_truncated=view.is_truncated,
    )


def _exposure(answer: Answer[PortfolioView]) -> portfolio_service_pb2.GetExposureResponse:
    portfolio = answer.value.portfolio
    return portfolio_service_pb2.GetExposureResponse(
        header=read_header(answer.seen),
        currencies=[
            encode_portfolio.exposure(each, at=portfolio.calculated_at) for each in portfolio.currencies.values()
        ],
    )


def _pnl(answer: Answer[PortfolioView]) -> portfolio_service_pb2.GetPnlResponse:
    portfolio = answer.value.portfolio
    return portfolio_service_pb2.GetPnlResponse(
        header=read_header(answer.seen),
        currencies=[encode_portfolio.pnl(each, at=portfolio.calculated_at) for each in portfolio.currencies.values()],
    )
