"""Portfolios, exposures, profit and loss, as the contract tells them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from steelyard.accounting.portfolio import CurrencyPortfolio, PortfolioGroup
from steelyard.operations.risk import Standing
from steelyard.rpc import encode
from steelyard.rpc.encode_risk import STATES
from steelyard.v1 import portfolio_pb2


def portfolio(figures: CurrencyPortfolio, *, at: datetime, limits: Standing) -> portfolio_pb2.CurrencyPortfolio:
    """Everything that settles in one currency."""
    return portfolio_pb2.CurrencyPortfolio(
        settle_currency=figures.currency,
        gross_exposure=encode.money(figures.gross_exposure),
        net_exposure=encode.money(figures.net_exposure),
        long_exposure=encode.money(figures.long_exposure),
        short_exposure=encode.money(figures.short_exposure),
        value=encode.money(figures.value),
        unrealized_pnl=encode.money(figures.unrealized_pnl),
        realized_pnl=encode.money(figures.realized_pnl),
        gross_realized_pnl=encode.money(figures.gross_realized_pnl),
        fees=encode.money(figures.fees),
        funding=encode.money(figures.funding),
        net_realized_pnl=encode.money(figures.net_realized_pnl),
        total_pnl=encode.money(figures.total_pnl),
        fees_complete=figures.fees_complete,
        open_count=figures.open_count,
        long_count=figures.long_count,
        short_count=figures.short_count,
        by_instrument=_groups(figures.by_instrument),
        by_book=_groups(figures.by_book),
        stale_prices=figures.stale_prices,
        missing_prices=figures.missing_prices,
        complete=figures.complete,
        calculated_at=encode.timestamp(at),
        limit_exceeded=STATES[limits.limit_exceeded(figures.currency)],
    )


def exposure(figures: CurrencyPortfolio, *, at: datetime, limits: Standing) -> portfolio_pb2.CurrencyExposure:
    """The exposure of one settle currency."""
    return portfolio_pb2.CurrencyExposure(
        settle_currency=figures.currency,
        gross_exposure=encode.money(figures.gross_exposure),
        net_exposure=encode.money(figures.net_exposure),
        long_exposure=encode.money(figures.long_exposure),
        short_exposure=encode.money(figures.short_exposure),
        open_count=figures.open_count,
        long_count=figures.long_count,
        short_count=figures.short_count,
        by_instrument=_groups(figures.by_instrument),
        by_book=_groups(figures.by_book),
        stale_prices=figures.stale_prices,
        missing_prices=figures.missing_prices,
        complete=figures.complete,
        calculated_at=encode.timestamp(at),
        limit_exceeded=STATES[limits.limit_exceeded(figures.currency)],
    )


def pnl(figures: CurrencyPortfolio, *, at: datetime, limits: Standing) -> portfolio_pb2.CurrencyPnl:
    """The profit and loss of one settle currency."""
    return portfolio_pb2.CurrencyPnl(
        settle_currency=figures.currency,
        gross_realized_pnl=encode.money(figures.gross_realized_pnl),
        fees=encode.money(figures.fees),
        funding=encode.money(figures.funding),
        realized_pnl=encode.money(figures.realized_pnl),
        net_realized_pnl=encode.money(figures.net_realized_pnl),
        unrealized_pnl=encode.money(figures.unrealized_pnl),
        total_pnl=encode.money(figures.total_pnl),
        fees_complete=figures.fees_complete,
        by_instrument=_groups(figures.by_instrument),
        by_book=_groups(figures.by_book),
        stale_prices=figures.stale_prices,
        missing_prices=figures.missing_prices,
        complete=figures.complete,
        calculated_at=encode.timestamp(at),
        limit_exceeded=STATES[limits.limit_exceeded(figures.currency)],
    )


def _groups(groups: Mapping[str, PortfolioGroup]) -> list[portfolio_pb2.PortfolioGroup]:
    return [
        portfolio_pb2.PortfolioGroup(
            name=name,
            exposure=encode.money(group.exposure),
            unrealized_pnl=encode.money(group.unrealized_pnl),
            realized_pnl=encode.money(group.realized_pnl),
            quantity=encode.decimal(group.quantity),
            open_count=group.open_count,
        )
        for name, group in groups.items()
    ]
