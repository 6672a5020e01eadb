"""Limits, where accounts stand against them, breaches and checked orders, as the contract tells them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from steelyard.accounting.limits import LimitCheck, LimitKind, LimitState, RiskFigures
from steelyard.accounting.units import ZERO
from steelyard.accounting.what_if import OrderOutcome
from steelyard.operations.check_order import OrderCheck
from steelyard.operations.risk import AccountRisk, Breach, LimitRecord
from steelyard.rpc import decode_risk, encode
from steelyard.rpc.encode_position import FIGURES_STATES
from steelyard.v1 import risk_pb2

KINDS: Mapping[LimitKind, Any] = {kind: number for number, kind in decode_risk.KINDS.items()}
STATES: Mapping[LimitState, risk_pb2.LimitState.ValueType] = {
    LimitState.WITHIN: risk_pb2.LIMIT_STATE_WITHIN,
    LimitState.EXCEEDED: risk_pb2.LIMIT_STATE_EXCEEDED,
    LimitState.UNKNOWN: risk_pb2.LIMIT_STATE_UNKNOWN,
}


def limits(record: LimitRecord) -> risk_pb2.Limits:
    """The limits of an account in one settle currency."""
    kept = record.limits
    return risk_pb2.Limits(
        account=record.account,
        settle_currency=kept.currency,
        gross_exposure_max=encode.optional_decimal(kept.gross_exposure_max),
        net_exposure_max=encode.optional_decimal(kept.net_exposure_max),
        instrument_exposure_max=encode.optional_decimal(kept.instrument_exposure_max),
        instrument_exposures_max={name: encode.decimal(each) for name, each in kept.instrument_exposures_max.items()},
        day_loss_max=encode.optional_decimal(kept.day_loss_max),
        counts_unrealized=kept.counts_unrealized,
        created_at=encode.timestamp(record.created_at),
        updated_at=encode.timestamp(record.updated_at),
        version=record.version,
    )


def standing(risk: AccountRisk) -> list[risk_pb2.CurrencyLimits]:
    """The limits of an account and where it stands, by settle currency."""
    return [
        risk_pb2.CurrencyLimits(
            limits=limits(record),
            limit_exceeded=STATES[risk.states[currency].limit_exceeded],
            checks=_checks(risk.states[currency].checks),
        )
        for currency, record in sorted(risk.facts.limits.items())
    ]


def _checks(checks: Iterable[LimitCheck]) -> list[risk_pb2.LimitCheck]:
    return [
        risk_pb2.LimitCheck(
            kind=KINDS[check.kind],
            instrument=check.instrument,
            limit=encode.decimal(check.limit),
            value=encode.money(check.value),
            state=STATES[check.state],
        )
        for check in checks
    ]


def breach(told: Breach) -> risk_pb2.LimitBreach:
    """One breach of a limit."""
    return risk_pb2.LimitBreach(
        breach_id=str(told.breach_id),
        account=told.account,
        settle_currency=told.currency,
        kind=KINDS[told.kind],
        instrument=told.instrument,
        limit=encode.decimal(told.limit),
        opened_value=encode.money(told.opened_value),
        opened_seq=told.opened_seq,
        opened_at=encode.timestamp(told.opened_at),
        closed_value=encode.optional_money(told.closed_value),
        closed_seq=told.closed_seq,
        closed_at=encode.optional_timestamp(told.closed_at),
    )


def order_check(check: OrderCheck) -> dict[str, Any]:
    """The fields of an answer that say what an order would do."""
    found, name = check.what_if, check.order.key.instrument
    return {
        "within_limits": check.is_within_limits,
        "settle_currency": check.currency,
        "outcome": _outcome(found.outcome),
        "now": _figures(found.now, instrument=name),
        "filled": _figures(found.filled, instrument=name),
        "worst": _figures(found.worst, instrument=name),
        "would_exceed": _checks(check.would_exceed),
        "would_worsen": _checks(found.worsened),
        "checks": _checks(found.limits_worst.checks),
        "position_version": check.position_version,
        "figures_state": FIGURES_STATES[check.figures_state],
        "stale_prices": check.stale_prices,
    }


def _outcome(outcome: OrderOutcome) -> risk_pb2.OrderOutcome:
    return risk_pb2.OrderOutcome(
        price=encode.decimal(outcome.price),
        quantity_before=encode.decimal(outcome.quantity_before),
        quantity_after=encode.decimal(outcome.quantity_after),
        average_price_before=encode.optional_decimal(outcome.average_price_before),
        average_price_after=encode.optional_decimal(outcome.average_price_after),
        gross_realized_pnl=encode.money(outcome.gross_realized_pnl),
        realized_pnl=encode.money(outcome.realized_pnl),
        net_realized_pnl=encode.money(outcome.net_realized_pnl),
        unrealized_pnl_before=encode.optional_money(outcome.unrealized_pnl_before),
        unrealized_pnl_after=encode.optional_money(outcome.unrealized_pnl_after),
        unmatched_quantity=encode.decimal(outcome.unmatched_quantity),
    )


def _figures(figures: RiskFigures, *, instrument: str) -> risk_pb2.RiskFigures:
    by_instrument: Mapping[Any, Any] = figures.by_instrument
    return risk_pb2.RiskFigures(
        gross_exposure=encode.money(figures.gross_exposure),
        net_exposure_low=encode.money(figures.net_low),
        net_exposure_high=encode.money(figures.net_high),
        instrument_exposure=encode.money(by_instrument.get(instrument, ZERO)),
        unrealized_pnl=encode.money(figures.unrealized_pnl),
        day_net_realized_pnl=encode.money(figures.day.net_realized),
    )
