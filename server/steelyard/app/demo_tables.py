"""The demo's answers as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from rich.console import Console
from rich.table import Table

from steelyard.app.demo_answers import Answers, DayOfAccount
from steelyard.cli.tables import duration
from steelyard.client import CurrencyExposure, Position, RoundTrip

TRIPS_SHOWN = 15
CENT = Decimal("0.01")
WIDE = 110
"""Columns of a terminal from which on tables show everything."""


def show(console: Console, answers: Answers, *, exposure: Sequence[CurrencyExposure], mark_source: str) -> None:
    """Positions, round trips, exposure and daily performance."""
    tables = [
        positions_table(answers.positions, mark_source=mark_source, width=console.width),
        trips_table(answers.round_trips, width=console.width),
        *(exposure_table(currency) for currency in exposure),
        days_table(answers.days),
    ]
    for table in tables:
        console.print(table)
        console.print()


def positions_table(positions: Iterable[Position], *, mark_source: str, width: int = WIDE) -> Table:
    """What is held, the open ones first."""
    numbers = ["quantity", "average", "unrealized", "net realized"]
    table = _table(f"Positions, marked at {mark_source}", "account", "instrument")
    for name in [*numbers, "mark", "fees"] if width >= WIDE else numbers:
        table.add_column(name, justify="right")
    for position in sorted(positions, key=lambda one: (one.quantity == 0, one.account, one.instrument)):
        mark = position.mark.price if position.mark and position.quantity else None
        cells = [
            position.account,
            position.instrument,
            number(position.quantity),
            number(position.average_price),
            money(position.unrealized_pnl if position.quantity else None),
            money(position.net_realized_pnl),
            number(mark),
            money(position.fees),
        ]
        table.add_row(*cells[: len(table.columns)])
    return table


def trips_table(trips: Sequence[RoundTrip], *, width: int = WIDE) -> Table:
    """The first round trips and the sums of all."""
    shown = trips[:TRIPS_SHOWN]
    title = f"Round trips, the first {len(shown)} of {len(trips):,}" if len(shown) < len(trips) else "Round trips"
    table = _table(title, "account", "instrument", "side")
    table.show_footer = True
    numbers = ["entered", "entry", "exit", "gross", "net"]
    for name in [*numbers, "fees", "opened (UTC)", "held"] if width >= WIDE else numbers:
        table.add_column(name, justify="right")
    for trip in shown:
        cells = [
            trip.key.account,
            trip.key.instrument,
            trip.direction.lower(),
            number(trip.entered_quantity),
            number(trip.average_entry_price),
            number(trip.average_exit_price),
            money(trip.gross_realized_pnl),
            money(trip.net_realized_pnl),
            money(trip.fees),
            f"{trip.opened_at:%m-%d %H:%M}",
            duration(trip.closed_at - trip.opened_at) if trip.closed_at else "open",
        ]
        table.add_row(*cells[: len(table.columns)])
    for column, text in zip(table.columns, _sums(trips), strict=False):
        column.footer = text
    return table


def _sums(trips: Sequence[RoundTrip]) -> list[str]:
    entered = sum((trip.entered_quantity for trip in trips), Decimal(0))
    gross = sum((trip.gross_realized_pnl for trip in trips), Decimal(0))
    net = sum((trip.net_realized_pnl for trip in trips), Decimal(0))
    fees = sum((trip.fees for trip in trips), Decimal(0))
    still_open = sum(trip.closed_at is None for trip in trips)
    return ["all", "", "", number(entered), "", "", money(gross), money(net), money(fees), "", f"{still_open} open"]


def exposure_table(currency: CurrencyExposure) -> Table:
    """The exposure of one settle currency: by instrument, long, short, net and gross."""
    table = _table(f"Exposure in {currency.settle_currency}", "")
    for name in ("exposure", "open"):
        table.add_column(name, justify="right")
    for group in currency.by_instrument:
        if group.open_count:
            table.add_row(group.name, money(group.exposure), str(group.open_count))
    table.add_section()
    table.add_row("long", money(currency.long_exposure), str(currency.long_count))
    table.add_row("short", money(currency.short_exposure), str(currency.short_count))
    table.add_row("net", money(currency.net_exposure), "")
    table.add_row("gross", money(currency.gross_exposure), str(currency.open_count))
    return table


def days_table(days: Iterable[DayOfAccount]) -> Table:
    """How each trading day of each account went: round trips that closed in it."""
    table = _table("Performance by day, of round trips closed in it", "account", "day")
    for name in ("trips", "won", "lost", "win rate", "gross", "fees", "net"):
        table.add_column(name, justify="right")
    table.add_column("")
    for day in days:
        figures = day.performance
        table.add_row(
            day.account,
            day.day.isoformat(),
            *(f"{count:,}" for count in (figures.total_trades, figures.winning_trades, figures.losing_trades)),
            f"{figures.win_rate:.1%}",
            money(figures.gross_pnl),
            money(figures.fees),
            money(figures.net_pnl),
            figures.settle_currency,
        )
    return table


def number(value: Decimal | None) -> str:
    """A quantity or price: at most four decimals, no zeros behind."""
    if value is None:
        return "–"
    text = f"{value:,.4f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def money(value: Decimal | None) -> str:
    """An amount in whole cents, for the eye only."""
    return "–" if value is None else f"{value.quantize(CENT):,.2f}"


def _table(title: str, *words: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in words:
        table.add_column(name, no_wrap=True)
    return table
