"""What an order would do before it is sent: the position it would make and the limits it would break."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from steelyard.accounting.errors import InvalidField, PricesNotFresh, UnknownInstrument
from steelyard.accounting.instruments import Instrument
from steelyard.accounting.keys import Account, InstrumentName, PositionKey
from steelyard.accounting.limits import LimitCheck, RiskRow
from steelyard.accounting.marks import Mark
from steelyard.accounting.position import FiguresState, FoldState
from steelyard.accounting.round_trips import CostMethod
from steelyard.accounting.units import ZERO
from steelyard.accounting.what_if import Holding, Methods, Order, WhatIf, check_order, fill_order, what_if
from steelyard.operations.ports import StoredPosition
from steelyard.operations.reading import AS_IT_IS, Answer, Freshness, Reading, Snapshot
from steelyard.operations.risk import AccountRisk, RiskSnapshot, RiskStore, RiskTerms, account_risk, heads_of

WORKING_ORDERS_MAX = 1_000
"""Working orders that one question may bring."""

Traded = Mapping[InstrumentName, tuple[Instrument, Mark | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCheck:
    """What an order would do, in the settle currency of its instrument."""

    order: Order
    currency: str
    what_if: WhatIf
    position_version: int
    """Of the position it was worked out from; 0: there is none yet."""
    figures_state: FiguresState
    """REFOLDING: quantities and exposures are right, averages and realized figures are still being refolded."""
    stale_prices: tuple[str, ...]
    """Instruments whose mark is older than the setting allows; they count nevertheless."""

    @property
    def is_within_limits(self) -> bool:
        """Whether it breaks no limit and worsens none that is broken."""
        return not self.what_if.newly_exceeded and not self.what_if.worsened

    @property
    def would_exceed(self) -> tuple[LimitCheck, ...]:
        """Limits that would be exceeded and are not now."""
        return self.what_if.newly_exceeded


@dataclass(frozen=True, slots=True)
class _Facts:
    risk: AccountRisk
    stored: StoredPosition
    traded: Traded


class CheckOrder:
    """Answers before an order is sent. It reads the store, never a cache: one that is away is an error."""

    def __init__(self, store: RiskStore, reading: Reading, *, terms: RiskTerms) -> None:
        self._store = store
        self._reading = reading
        self._terms = terms

    async def check(
        self, order: Order, *, working: Sequence[Order] = (), freshness: Freshness = AS_IT_IS
    ) -> Answer[OrderCheck]:
        """What the order would do, taken as filled at its price (none: at the mark), in the worst case over the
        caller's working orders; those that settle in another currency have no part in it.

        Raises `InvalidField`, `NumericLimit`, `UnknownInstrument`, `PricesNotFresh` where an exposure has no price,
        `StoreUnavailable`, `NotYetVisible`.
        """
        _check_working(order, working)

        async def ask(heads: Collection[Account]) -> Snapshot[_Facts]:
            async with self._store.snapshot() as snapshot:
                facts = await _facts(snapshot, order, working=working, terms=self._terms)
                return Snapshot(facts, await heads_of(snapshot, facts.risk, accounts=heads))

        answer = await self._reading.answer(ask, accounts=(order.key.account,), freshness=freshness)
        return Answer(self._judge(answer.value, order, working=working), answer.seen)

    def _judge(self, facts: _Facts, order: Order, *, working: Sequence[Order]) -> OrderCheck:
        now, risk = self._terms.clock(), facts.risk
        instrument, _ = _traded(facts.traded, order, field="order")
        check_order(order, instrument, field="order")
        for place, each in enumerate(working):
            check_order(
                each, _traded(facts.traded, each, field=f"open_orders[{place}]")[0], field=f"open_orders[{place}]"
            )
        currency = instrument.settle_currency
        beside = [each for each in working if _settles(facts.traded, each) == currency]
        figures = risk.figures_in(currency)
        holdings = _holdings([order, *beside], facts)
        price = _price(order, holdings, missing=figures.missing_prices)
        rules = risk.facts.rules
        methods = Methods(rules.cost_method, rules.lot_method)
        outcome = fill_order(holdings[order.key], order, price=price, methods=methods, at=now)
        found = what_if(
            order,
            outcome=outcome,
            holdings=holdings,
            working=beside,
            now=figures,
            limits=risk.limits_in(currency),
            limits_now=risk.states.get(currency),
        )
        return OrderCheck(
            order=order,
            currency=currency,
            what_if=found,
            position_version=facts.stored.version,
            figures_state=facts.stored.figures_state,
            stale_prices=self._stale(risk, currency, holdings=holdings, now=now),
        )

    def _stale(
        self, risk: AccountRisk, currency: str, *, holdings: Mapping[PositionKey, Holding], now: datetime
    ) -> tuple[str, ...]:
        oldest = now - self._terms.stale_after
        stale = {
            row.key.instrument
            for row in risk.rows
            if row.marked_at is not None
            and row.marked_at < oldest
            and row.instrument.settle_currency == currency
            and row.quantity + row.pending_quantity
        }
        asked = {key.instrument for key, each in holdings.items() if each.mark is not None and each.mark.at < oldest}
        return tuple(sorted(stale | asked))


def _check_working(order: Order, working: Sequence[Order]) -> None:
    if len(working) > WORKING_ORDERS_MAX:
        raise InvalidField("open_orders", f"holds more than {WORKING_ORDERS_MAX} orders")
    for place, each in enumerate(working):
        if each.key.account != order.key.account:
            raise InvalidField(f"open_orders[{place}].account", "must be the account of the order")


async def _facts(snapshot: RiskSnapshot, order: Order, *, working: Sequence[Order], terms: RiskTerms) -> _Facts:
    risk = await account_risk(snapshot, order.key.account, terms=terms)
    has_lots = risk.facts.rules.cost_method is CostMethod.LOTS
    stored = await snapshot.stored(order.key, has_lots=has_lots)
    wanted = {each.key.instrument for each in (order, *working)}
    traded = {row.key.instrument: (row.instrument, _mark(row)) for row in risk.rows if row.key.instrument in wanted}
    others = wanted - traded.keys()
    if others:
        traded.update(await snapshot.traded(others))
    return _Facts(risk, stored, traded)


def _mark(row: RiskRow) -> Mark | None:
    return None if row.mark is None or row.marked_at is None else Mark(row.mark, row.marked_at, "")


def _traded(traded: Traded, order: Order, *, field: str) -> tuple[Instrument, Mark | None]:
    name = order.key.instrument
    if name not in traded:
        raise UnknownInstrument(f"instrument {name} has no record", instrument=name, field=field)
    return traded[name]


def _settles(traded: Traded, order: Order) -> str:
    return traded[order.key.instrument][0].settle_currency


def _holdings(orders: Sequence[Order], facts: _Facts) -> Mapping[PositionKey, Holding]:
    """What each key of the orders holds; of the first the whole state, of the others the quantity alone."""
    rows = {row.key: row for row in facts.risk.rows}
    found = {}
    for order in orders:
        key = order.key
        instrument, mark = facts.traded[key.instrument]
        if key == facts.stored.key:
            state, pending = facts.stored.state, facts.stored.pending.quantity
        else:
            row = rows.get(key)
            state = FoldState(quantity=ZERO if row is None else row.quantity)
            pending = ZERO if row is None else row.pending_quantity
        found[key] = Holding(key=key, instrument=instrument, state=state, pending_quantity=pending, mark=mark)
    return found


def _price(order: Order, holdings: Mapping[PositionKey, Holding], *, missing: Collection[str]) -> Decimal:
    """The price at which the order is taken to fill. Raises `PricesNotFresh` where any exposure has no price."""
    unpriced = {*missing, *(key.instrument for key, holding in holdings.items() if holding.mark is None)}
    if unpriced:
        names = ", ".join(sorted(unpriced))
        raise PricesNotFresh(f"no price is known of {names}", instruments=names)
    mark = holdings[order.key].mark
    assert mark is not None
    return mark.price if order.price is None else order.price
