"""PortfolioService. Each method: check -> call the operation -> translate -> fill the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from typing import TypeAlias

from steelyard.accounting.errors import InvalidField
from steelyard.operations.answering_once import RequestIdentity
from steelyard.operations.check_order import CheckOrder
from steelyard.operations.fresh_prices import FreshPrices
from steelyard.operations.keep_limits import KeepLimits
from steelyard.operations.ports import Clock
from steelyard.operations.position_view import Detail
from steelyard.operations.read_portfolio import PortfolioAnswers, PortfolioView, in_currencies
from steelyard.operations.reading import Answer
from steelyard.operations.watch_portfolio import WatchPortfolio
from steelyard.rpc import decode, decode_risk, encode_portfolio, encode_position, encode_risk, watching_portfolio
from steelyard.rpc.calls import Context
from steelyard.rpc.encoded_once import EncodedOnce
from steelyard.rpc.header import freshness, read_header, write_header
from steelyard.rpc.page_tokens import PageTokens
from steelyard.rpc.watching import seconds
from steelyard.v1 import portfolio_service_pb2, portfolio_service_pb2_grpc

STALENESS_MAX_S = 3_600.0

AnyRequest: TypeAlias = (
    portfolio_service_pb2.GetPortfolioRequest
    | portfolio_service_pb2.GetExposureRequest
    | portfolio_service_pb2.GetPnlRequest
)


class PortfolioServicer(portfolio_service_pb2_grpc.PortfolioServiceServicer):
    """Positions summed per settle currency, and the limits they are held against."""

    def __init__(
        self,
        *,
        read: PortfolioAnswers,
        fresh: FreshPrices,
        watch: WatchPortfolio,
        limits: KeepLimits,
        orders: CheckOrder,
        tokens: PageTokens,
        clock: Clock,
    ) -> None:
        self._read = read
        self._fresh = fresh
        self._watch = watch
        self._limits = limits
        self._orders = orders
        self._tokens = tokens
        self._clock = clock
        self._portfolio = EncodedOnce(_portfolio)
        self._exposure = EncodedOnce(_exposure)
        self._pnl = EncodedOnce(_pnl)

    async def GetPortfolio(
        self, request: portfolio_service_pb2.GetPortfolioRequest, context: Context
    ) -> portfolio_service_pb2.GetPortfolioResponse:
        """Exposure, value, profit and loss, counts."""
        answer = await self._answer(request, context, has_positions=request.include_positions)
        return _portfolio(answer) if request.settle_currencies else self._portfolio(answer)

    async def GetExposure(
        self, request: portfolio_service_pb2.GetExposureRequest, context: Context
    ) -> portfolio_service_pb2.GetExposureResponse:
        """The exposure alone."""
        answer = await self._answer(request, context)
        return _exposure(answer) if request.settle_currencies else self._exposure(answer)

    async def GetPnl(
        self, request: portfolio_service_pb2.GetPnlRequest, context: Context
    ) -> portfolio_service_pb2.GetPnlResponse:
        """The profit and loss alone."""
        answer = await self._answer(request, context)
        return _pnl(answer) if request.settle_currencies else self._pnl(answer)

    async def SetLimits(
        self, request: portfolio_service_pb2.SetLimitsRequest, context: Context
    ) -> portfolio_service_pb2.SetLimitsResponse:
        """Replaces all limits of an account in one settle currency."""
        request_id = decode.uuid(request.request_id, field="request_id")
        account, wanted = decode_risk.limits(request)
        is_versioned = request.HasField("expected_version")
        receipt = await self._limits.set(
            account,
            wanted,
            request=RequestIdentity(request_id, decode.body_hash(request)),
            expected_version=decode.version(request.expected_version) if is_versioned else None,
        )
        return portfolio_service_pb2.SetLimitsResponse(
            header=write_header(receipt.commits, at=self._clock()),
            limits=encode_risk.limits(receipt.record),
            replayed=receipt.is_replayed,
        )

    async def GetLimits(
        self, request: portfolio_service_pb2.GetLimitsRequest, context: Context
    ) -> portfolio_service_pb2.GetLimitsResponse:
        """The limits of an account, and where it stands against each."""
        answer = await self._limits.get(
            decode.account(request.account), freshness=freshness(request.min_commit, context)
        )
        return portfolio_service_pb2.GetLimitsResponse(
            header=read_header(answer.seen), currencies=encode_risk.standing(answer.value)
        )

    async def CheckOrder(
        self, request: portfolio_service_pb2.CheckOrderRequest, context: Context
    ) -> portfolio_service_pb2.CheckOrderResponse:
        """What an order would do before it is sent."""
        order, working = decode_risk.orders(request)
        answer = await self._orders.check(order, working=working, freshness=freshness(request.min_commit, context))
        return portfolio_service_pb2.CheckOrderResponse(
            header=read_header(answer.seen), **encode_risk.order_check(answer.value)
        )

    async def ListLimitBreaches(
        self, request: portfolio_service_pb2.ListLimitBreachesRequest, context: Context
    ) -> portfolio_service_pb2.ListLimitBreachesResponse:
        """Breaches of limits, the newest first."""
        answer = await self._limits.breaches(
            decode_risk.breach_filter(request),
            size=decode.page_size(request.page_size),
            after=self._tokens.cursor(request),
            freshness=freshness(request.min_commit, context),
        )
        return portfolio_service_pb2.ListLimitBreachesResponse(
            header=read_header(answer.seen),
            breaches=[encode_risk.breach(each) for each in answer.value.rows],
            next_page_token=self._tokens.next(request, answer.value.next_after),
        )

    async def WatchPortfolio(
        self, request: portfolio_service_pb2.WatchPortfolioRequest, context: Context
    ) -> AsyncIterator[portfolio_service_pb2.WatchPortfolioResponse]:
        """The figures, then again whenever they have changed."""
        wanted = watching_portfolio.watch_request(request, tokens=self._tokens)
        async with aclosing(self._watch.watch(wanted)) as messages:
            async for told in messages:
                yield watching_portfolio.message(told, request, tokens=self._tokens)

    async def _answer(
        self, request: AnyRequest, context: Context, *, has_positions: bool = False
    ) -> Answer[PortfolioView]:
        currencies, max_staleness = decode.currencies(request.settle_currencies), _max_staleness(request)
        accounts, instruments = decode.accounts(request.accounts), decode.instruments(request.instruments)
        fresh = freshness(request.min_commit, context)
        if request.require_fresh_prices:
            answer = await self._fresh.portfolio(
                accounts=accounts, instruments=instruments, has_positions=has_positions, freshness=fresh
            )
        else:
            answer = await self._read.get(
                accounts=accounts,
                instruments=instruments,
                has_positions=has_positions,
                freshness=fresh,
                max_staleness=max_staleness,
            )
        return Answer(in_currencies(answer.value, currencies), answer.seen) if currencies else answer


def _max_staleness(request: AnyRequest) -> timedelta | None:
    if not request.HasField("max_staleness"):
        return None
    if request.require_fresh_prices:
        raise InvalidField("max_staleness", "excludes require_fresh_prices")
    return timedelta(seconds=seconds(request, "max_staleness", default=0.0, bounds=(0.0, STALENESS_MAX_S)))


def _portfolio(answer: Answer[PortfolioView]) -> portfolio_service_pb2.GetPortfolioResponse:
    view, at = answer.value, answer.value.portfolio.calculated_at
    return portfolio_service_pb2.GetPortfolioResponse(
        header=read_header(answer.seen),
        currencies=[
            encode_portfolio.portfolio(each, at=at, limits=view.limits) for each in view.portfolio.currencies.values()
        ],
        positions=[encode_position.position(each, detail=Detail.FULL) for each in view.positions],
        positions_truncated=view.is_truncated,
    )


def _exposure(answer: Answer[PortfolioView]) -> portfolio_service_pb2.GetExposureResponse:
    view, at = answer.value, answer.value.portfolio.calculated_at
    return portfolio_service_pb2.GetExposureResponse(
        header=read_header(answer.seen),
        currencies=[
            encode_portfolio.exposure(each, at=at, limits=view.limits) for each in view.portfolio.currencies.values()
        ],
    )


def _pnl(answer: Answer[PortfolioView]) -> portfolio_service_pb2.GetPnlResponse:
    view, at = answer.value, answer.value.portfolio.calculated_at
    return portfolio_service_pb2.GetPnlResponse(
        header=read_header(answer.seen),
        currencies=[
            encode_portfolio.pnl(each, at=at, limits=view.limits) for each in view.portfolio.currencies.values()
        ],
    )
