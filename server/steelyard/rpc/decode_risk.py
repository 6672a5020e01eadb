"""Limits, orders that are asked about and questions about breaches, out of the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from steelyard.accounting.errors import InvalidField
from steelyard.accounting.keys import Account, PositionKey
from steelyard.accounting.limits import NAMED_INSTRUMENTS_MAX, LimitKind, LimitSet
from steelyard.accounting.units import ZERO
from steelyard.accounting.what_if import Order
from steelyard.operations.check_order import WORKING_ORDERS_MAX
from steelyard.operations.keep_limits import BreachFilter
from steelyard.rpc import decode
from steelyard.rpc.decode_fill import SIDES
from steelyard.v1 import portfolio_service_pb2, risk_pb2

KINDS: Mapping[int, LimitKind] = {
    risk_pb2.LIMIT_KIND_GROSS_EXPOSURE: LimitKind.GROSS_EXPOSURE,
    risk_pb2.LIMIT_KIND_NET_EXPOSURE: LimitKind.NET_EXPOSURE,
    risk_pb2.LIMIT_KIND_INSTRUMENT_EXPOSURE: LimitKind.INSTRUMENT_EXPOSURE,
    risk_pb2.LIMIT_KIND_LOSS_PER_DAY: LimitKind.LOSS_PER_DAY,
}


def limits(request: portfolio_service_pb2.SetLimitsRequest) -> tuple[Account, LimitSet]:
    """Whose limits are to be which. Raises `InvalidField`."""
    if not request.HasField("limits"):
        raise InvalidField("limits", "is required")
    asked = request.limits
    named = asked.instrument_exposures_max
    decode.at_most(named, NAMED_INSTRUMENTS_MAX, field="limits.instrument_exposures_max")
    return decode.account(asked.account, field="limits.account"), LimitSet(
        currency=decode.currency(asked.settle_currency, field="limits.settle_currency"),
        gross_exposure_max=_amount(asked, "gross_exposure_max"),
        net_exposure_max=_amount(asked, "net_exposure_max"),
        instrument_exposure_max=_amount(asked, "instrument_exposure_max"),
        instrument_exposures_max={
            decode.instrument(name, field=f"limits.instrument_exposures_max[{name}]"): decode.decimal(
                amount, field=f"limits.instrument_exposures_max[{name}]"
            )
            for name, amount in named.items()
        },
        day_loss_max=_amount(asked, "day_loss_max"),
        counts_unrealized=asked.counts_unrealized,
    )


def _amount(asked: risk_pb2.Limits, name: str) -> Decimal | None:
    return decode.decimal(getattr(asked, name), field=f"limits.{name}") if asked.HasField(name) else None  # type: ignore[arg-type] # a name of the message's own


def orders(request: portfolio_service_pb2.CheckOrderRequest) -> tuple[Order, Sequence[Order]]:
    """The order asked about, and those that are working. Raises `InvalidField`."""
    if not request.HasField("order"):
        raise InvalidField("order", "is required")
    decode.at_most(request.open_orders, WORKING_ORDERS_MAX, field="open_orders")
    working = [_order(each, field=f"open_orders[{place}]") for place, each in enumerate(request.open_orders)]
    return _order(request.order, field="order"), working


def _order(message: risk_pb2.Order, *, field: str) -> Order:
    return Order(
        key=PositionKey(
            decode.account(message.account, field=f"{field}.account"),
            decode.book(message.book, field=f"{field}.book"),
            decode.instrument(message.instrument, field=f"{field}.instrument"),
            decode.leg(message.leg, field=f"{field}.leg"),
        ),
        side=decode.choice(message.side, SIDES, field=f"{field}.side"),
        quantity=decode.positive(message.quantity, field=f"{field}.quantity"),
        price=decode.decimal(message.price, field=f"{field}.price") if message.HasField("price") else None,
        fee=decode.decimal(message.fee, field=f"{field}.fee") if message.HasField("fee") else ZERO,
    )


def breach_filter(request: portfolio_service_pb2.ListLimitBreachesRequest) -> BreachFilter:
    """Which breaches are meant. Raises `InvalidField`."""
    opened_from = decode.optional_timestamp(request, "opened_from")
    opened_before = decode.optional_timestamp(request, "opened_before")
    decode.interval(opened_from, opened_before, field="opened_before")
    currency = request.settle_currency
    return BreachFilter(
        accounts=decode.accounts(request.accounts),
        currency=decode.currency(currency, field="settle_currency") if currency else None,
        kind=decode.choice(request.kind, KINDS, field="kind") if request.kind else None,
        instrument=decode.optional_instrument(request.instrument),
        is_open_only=request.open_only,
        opened_from=opened_from,
        opened_before=opened_before,
    )
