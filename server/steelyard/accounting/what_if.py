"""What an order would do: the position after it, exposures in the worst case over open orders, limits it would break.

Problem: a trader asks before he sends. The order fills or it does not; so does every order that is already working, in
any part and in any order. Example: long 10, SELL 15 asked, BUY 8 working: filled alone the position is -5, but the
buy may fill first or later, so what is held ends anywhere in [-5, 3].
Choice: the order asked about counts as filled, since that is the question; each key with working orders spans an
interval of quantities, from all its sells filled to all its buys filled, and every exposure is taken at the end where
it is worst. |notional| is greatest at an end of the interval, and keys move independently, so this is exactly the
worst over all subsets (and partial fills) of the working orders.
Rejected: trying subsets (exponential), and adding all orders' notionals (a buy and a sell do not add up).

Working orders move exposures only. The loss of the day counts the order asked about, at its price: at which prices
the others will fill is not known. The fill is folded like any other, so all figures are those the position would have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from steelyard.accounting.entries import Entry, EntryKind, Side, check_price
from steelyard.accounting.errors import InvalidField, NumericLimit
from steelyard.accounting.fold import Fold, FoldRules
from steelyard.accounting.instruments import Instrument, notional, value_of
from steelyard.accounting.keys import InstrumentName, Leg, OrderKey, PositionKey
from steelyard.accounting.limits import (
    DayResult,
    LimitCheck,
    LimitSet,
    LimitsState,
    RiskFigures,
    evaluate_limits,
)
from steelyard.accounting.lots import Lot, LotMethod
from steelyard.accounting.marks import Mark
from steelyard.accounting.position import EMPTY, FoldState, average_entry, unrealized
from steelyard.accounting.round_trips import CostMethod
from steelyard.accounting.units import NOTIONAL_LIMIT, ZERO, exactly


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order that is asked about, or one that is working."""

    key: PositionKey
    side: Side
    quantity: Decimal
    """What is still to be filled, greater than zero."""
    price: Decimal | None = None
    """At which it would fill; None: at the mark."""
    fee: Decimal = ZERO
    """What its fill would cost, in settle currency."""

    @property
    def delta(self) -> Decimal:
        """Signed quantity: positive for BUY."""
        return self.quantity if self.side is Side.BUY else self.quantity.copy_negate()


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What a key holds before an order."""

    key: PositionKey
    instrument: Instrument
    state: FoldState = EMPTY
    """Lots may be left out: figures by the average method do not need them."""
    pending_quantity: Decimal = ZERO
    """Counted, but not folded yet."""
    mark: Mark | None = None

    @property
    @exactly
    def quantity(self) -> Decimal:
        """Signed; counts also what waits for a refold."""
        return self.state.quantity + self.pending_quantity


@dataclass(frozen=True, slots=True)
class Methods:
    """By which methods an account's figures are worked out."""

    cost: CostMethod = CostMethod.AVERAGE
    lots: LotMethod = LotMethod.FIFO


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderOutcome:
    """A position before and after an order, by the account's cost method, money in settle currency."""

    price: Decimal
    """At which the order was taken to fill."""
    quantity_before: Decimal
    quantity_after: Decimal
    average_price_before: Decimal | None
    average_price_after: Decimal | None
    gross_realized_pnl: Decimal
    """What the order realizes by price alone."""
    realized_pnl: Decimal
    """Less the fee share of its reducing part."""
    net_realized_pnl: Decimal
    """Less its whole fee."""
    unrealized_pnl_before: Decimal | None
    unrealized_pnl_after: Decimal | None
    """At the mark; None without one."""
    unmatched_quantity: Decimal
    """What the order closes beyond what its leg holds; ZERO on NET."""
    after: FoldState


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """What an order would do to a position and to the limits of its account and settle currency."""

    outcome: OrderOutcome
    now: RiskFigures
    filled: RiskFigures
    """After the order alone."""
    worst: RiskFigures
    """After the order, in the worst case over the working orders."""
    limits_now: LimitsState
    limits_worst: LimitsState

    @property
    def newly_exceeded(self) -> tuple[LimitCheck, ...]:
        """Limits that would be exceeded and are not now."""
        now = {check.subject for check in self.limits_now.exceeded}
        return tuple(check for check in self.limits_worst.exceeded if check.subject not in now)

    @property
    def worsened(self) -> tuple[LimitCheck, ...]:
        """Limits that are exceeded now and would be exceeded by more."""
        now = {check.subject: check.value for check in self.limits_now.exceeded}
        exceeded = self.limits_worst.exceeded
        return tuple(check for check in exceeded if check.subject in now and check.value > now[check.subject])


@exactly
def check_order(order: Order, instrument: Instrument, *, field: str) -> None:
    """Refuses an order whose numbers cannot be right. Raises `InvalidField`, `NumericLimit`."""
    if order.quantity <= 0:
        raise InvalidField(f"{field}.quantity", "must be greater than zero")
    if abs(order.fee) >= NOTIONAL_LIMIT:
        raise NumericLimit("the fee of the order is 1e20 or more")
    if order.price is None:
        return
    try:
        check_price(order.price, instrument)
    except InvalidField as refused:
        raise InvalidField(f"{field}.price", refused.why) from None
    if abs(notional(instrument, order.quantity, order.price)) >= NOTIONAL_LIMIT:
        raise NumericLimit("quantity x price x multiplier of the order is 1e20 or more")


@exactly
def fill_order(holding: Holding, order: Order, *, price: Decimal, methods: Methods, at: datetime) -> OrderOutcome:
    """The position after the order has filled at `price`: exactly what recording that fill would make of it.

    Without lots (AVERAGE accounts may leave them out) the figures by the average method are exact, and only these.
    """
    instrument, method, before = holding.instrument, methods.cost, holding.state
    fold = Fold(FoldRules(instrument, holding.key.leg, methods.lots), _with_lots(before))
    when = at if before.last is None else max(at, before.last.executed_at)
    fold.feed([Entry(when, 0, "what-if", EntryKind.FILL, order.delta, price, order.fee)])
    after = fold.state()
    gained = after.lifetime.minus(before.lifetime)
    mark = None if holding.mark is None else holding.mark.price
    return OrderOutcome(
        price=price,
        quantity_before=holding.quantity,
        quantity_after=after.quantity + holding.pending_quantity,
        average_price_before=average_entry(before, instrument, method),
        average_price_after=average_entry(after, instrument, method),
        gross_realized_pnl=gained.gross(method),
        realized_pnl=gained.realized(method),
        net_realized_pnl=gained.net(method),
        unrealized_pnl_before=unrealized(before, instrument, mark=mark, method=method),
        unrealized_pnl_after=unrealized(after, instrument, mark=mark, method=method),
        unmatched_quantity=gained.unmatched,
        after=after,
    )


def _with_lots(state: FoldState) -> FoldState:
    if not state.quantity or state.lots:
        return state
    assert state.average is not None
    size = state.quantity.copy_abs()
    opened = state.last if state.trip is None else state.trip.opened
    assert opened is not None
    return replace(state, lots=(Lot(OrderKey(*opened), size, size, state.average),))


@exactly
def what_if(
    order: Order,
    *,
    outcome: OrderOutcome,
    holdings: Mapping[PositionKey, Holding],
    working: Iterable[Order],
    now: RiskFigures,
    limits: LimitSet,
    limits_now: LimitsState | None = None,
) -> WhatIf:
    """What the order would do. `holdings` has the key of the order and those of all working ones; all settle in the
    currency of `now` and `limits`, and have marks. `limits_now` is where the limits stand, if it is known already."""
    realized = _with_pnl(now, outcome)
    spans = {order.key: (outcome.quantity_after, outcome.quantity_after)}
    filled = _moved(realized, spans=spans, of=holdings)
    for key, orders in _by_key(working).items():
        held = outcome.quantity_after if key == order.key else holdings[key].quantity
        spans[key] = _reachable(held, orders, leg=key.leg)
    worst = _moved(realized, spans=spans, of=holdings)
    return WhatIf(
        outcome=outcome,
        now=now,
        filled=filled,
        worst=worst,
        limits_now=evaluate_limits(limits, now) if limits_now is None else limits_now,
        limits_worst=evaluate_limits(limits, worst),
    )


Span = tuple[Decimal, Decimal]
"""The least and the greatest quantity that a key may come to hold."""


def _by_key(orders: Iterable[Order]) -> Mapping[PositionKey, Sequence[Order]]:
    gathered: dict[PositionKey, list[Order]] = {}
    for order in orders:
        gathered.setdefault(order.key, []).append(order)
    return gathered


def _reachable(held: Decimal, orders: Sequence[Order], *, leg: Leg) -> Span:
    """From all sells filled to all buys filled; a leg is never closed beyond flat."""
    low = held + sum((order.delta for order in orders if order.delta < 0), ZERO)
    high = held + sum((order.delta for order in orders if order.delta > 0), ZERO)
    if leg is Leg.LONG:
        low = max(low, ZERO)
    elif leg is Leg.SHORT:
        high = min(high, ZERO)
    return low, high


def _with_pnl(now: RiskFigures, outcome: OrderOutcome) -> RiskFigures:
    day = now.day
    unrealized_change = (outcome.unrealized_pnl_after or ZERO) - (outcome.unrealized_pnl_before or ZERO)
    return replace(
        now,
        unrealized_pnl=now.unrealized_pnl + unrealized_change,
        day=DayResult(day.net_realized + outcome.net_realized_pnl, day.unvalued_fees, day.is_complete),
    )


def _moved(now: RiskFigures, *, spans: Mapping[PositionKey, Span], of: Mapping[PositionKey, Holding]) -> RiskFigures:
    """The figures once keys hold what is worst within their spans."""
    gross, net_low, net_high = now.gross_exposure, now.net_low, now.net_high
    by_instrument: dict[InstrumentName, Decimal] = dict(now.by_instrument)
    for key, span in spans.items():
        holding = of[key]
        was = _worth(holding, holding.quantity)
        ends = sorted(_worth(holding, end) for end in span)
        more = max(abs(ends[0]), abs(ends[1])) - abs(was)
        gross += more
        by_instrument[key.instrument] = by_instrument.get(key.instrument, ZERO) + more
        net_low += ends[0] - was
        net_high += ends[1] - was
    return replace(now, gross_exposure=gross, net_low=net_low, net_high=net_high, by_instrument=by_instrument)


def _worth(holding: Holding, quantity: Decimal) -> Decimal:
    if not quantity:
        return ZERO
    assert holding.mark is not None
    return value_of(holding.instrument, quantity, holding.mark.price) * holding.instrument.scale
