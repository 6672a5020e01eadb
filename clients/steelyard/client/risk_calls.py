"""PortfolioService, the part of risk managers: limits, breaches, orders before they are sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from functools import cached_property

from steelyard.client.caller import Caller, Commits, new_request_id
from steelyard.client.risk_records import (
    CurrencyLimits,
    LimitBreach,
    LimitKind,
    Limits,
    LimitsChange,
    Order,
    OrderCheck,
)
from steelyard.client.translation import decimal_text, message_of, record_of, set_word, timestamp
from steelyard.v1 import portfolio_service_pb2, portfolio_service_pb2_grpc, risk_pb2


class RiskCalls(Caller):
    """The calls of PortfolioService on limits."""

    @cached_property
    def _risk(self) -> portfolio_service_pb2_grpc.PortfolioServiceStub:
        return portfolio_service_pb2_grpc.PortfolioServiceStub(self.channel)

    async def set_limits(
        self, limits: Limits, *, expected_version: int | None = None, request_id: str | None = None
    ) -> LimitsChange:
        """Replaces all limits of an account in one settle currency; what is None is limited no more."""
        request = portfolio_service_pb2.SetLimitsRequest(
            request_id=new_request_id(request_id), limits=_limits(limits), expected_version=expected_version
        )
        return record_of(LimitsChange, await self._write(self._risk.SetLimits, request))

    async def get_limits(self, account: str, *, min_commit: Commits | None = None) -> tuple[CurrencyLimits, ...]:
        """The limits of an account by settle currency, and where it stands against each."""
        request = portfolio_service_pb2.GetLimitsRequest(account=account, min_commit=self._since([account], min_commit))
        answer = await self._ask(self._risk.GetLimits, request)
        return tuple(record_of(CurrencyLimits, currency) for currency in answer.currencies)

    async def check_order(
        self, order: Order, *, open_orders: Iterable[Order] = (), min_commit: Commits | None = None
    ) -> OrderCheck:
        """What an order would do before it is sent, in the worst case over the caller's working orders.

        Raises `PricesNotFresh` where an exposure has no price, `UnknownInstrument`, `NumericLimit`.
        """
        request = portfolio_service_pb2.CheckOrderRequest(
            order=message_of(risk_pb2.Order, order),
            open_orders=[message_of(risk_pb2.Order, each) for each in open_orders],
            min_commit=self._since([order.account], min_commit),
        )
        return record_of(OrderCheck, await self._ask(self._risk.CheckOrder, request))

    def list_limit_breaches(
        self,
        accounts: Iterable[str] = (),
        *,
        settle_currency: str = "",
        kind: LimitKind | None = None,
        instrument: str = "",
        open_only: bool = False,
        opened_from: datetime | None = None,
        opened_before: datetime | None = None,
        page_size: int = 0,
        min_commit: Commits | None = None,
    ) -> AsyncIterator[LimitBreach]:
        """The breaches of limits on record, the newest first."""
        names = tuple(accounts)
        request = portfolio_service_pb2.ListLimitBreachesRequest(
            accounts=names,
            settle_currency=settle_currency,
            instrument=instrument,
            open_only=open_only,
            opened_from=timestamp(opened_from) if opened_from else None,
            opened_before=timestamp(opened_before) if opened_before else None,
            page_size=page_size,
            min_commit=self._since(names, min_commit),
        )
        set_word(request, "kind", word=kind)
        return self._pages(
            self._risk.ListLimitBreaches,
            request,
            rows=lambda answer: (record_of(LimitBreach, breach) for breach in answer.breaches),
        )


def _limits(limits: Limits) -> risk_pb2.Limits:
    named = {name: decimal_text(amount) for name, amount in limits.instrument_exposures_max.items()}
    message = risk_pb2.Limits(
        account=limits.account,
        settle_currency=limits.settle_currency,
        instrument_exposures_max=named,
        counts_unrealized=limits.counts_unrealized,
    )
    for name in ("gross_exposure_max", "net_exposure_max", "instrument_exposure_max", "day_loss_max"):
        amount = getattr(limits, name)
        if amount is not None:
            setattr(message, name, decimal_text(amount))
    return message
