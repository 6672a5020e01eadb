"""The demo's answers as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from rich.console import Console
from rich.table import Table

from steelyard.app.demo_answers import Answers, DayOfAccount
from steelyard.client import CurrencyExposure, Position, RoundTrip

TRIPS_SHOWN = 15
CENT = Decimal("0.01")


def show(console: Console, answers: Answers, *, exposure: Sequence[CurrencyExposure], mark_source: str) -> None:
    """Positions, round trips, exposure and daily performance."""
    console.print(positions_table(answers.positions, mark_source=mark_source))
    console.print(trips_table(answers.round_trips))
    for currency in exposure:
        console.print(exposure_table(currency))
    console.print(days_table(answers.days))


def positions_table(positions: Iterable[Position], *, mark_source: str) -> Table:
    """What is held, the open ones first."""
    table = _table(f"Positions (marked at {mark_source})", words=("account", "instrument"))
    for name in ("quantity", "average", "mark", "unrealized", "net realized", "fees", "fills"):
        table.add_column(name, justify="right")
    for position in sorted(positions, key=lambda one: (one.quantity == 0, one.account, one.instrument)):
        mark = position.mark.price if position.mark and position.quantity else None
        table.add_row(
            position.account,
            position.instrument,
            number(position.quantity),
            number(position.average_price),
            number(mark),
            money(position.unrealized_pnl if position.quantity else None),
            money(position.net_realized_pnl),
            money(position.fees),
            f"{position.fill_count:,}",
        )
    return table


def trips_table(trips: Sequence[RoundTrip]) -> Table:
    """The first round trips and the sums of all."""
    shown = trips[:TRIPS_SHOWN]
    title = f"Round trips (the first {len(shown)} of {len(trips):,})" if len(shown) < len(trips) else "Round trips"
    table = _table(title, words=("account", "instrument", "direction", "opened (UTC)", "closed (UTC)"), has_footer=True)
    for name in ("entered", "entry", "exit", "gross", "fees", "net", "fills"):
        table.add_column(name, justify="right")
    for trip in shown:
        table.add_row(
            trip.key.account,
            trip.key.instrument,
            trip.direction.lower(),
            f"{trip.opened_at:%m-%d %H:%M:%S}",
            f"{trip.closed_at:%m-%d %H:%M:%S}" if trip.closed_at else "open",
            number(trip.entered_quantity),
            number(trip.average_entry_price),
            number(trip.average_exit_price),
            money(trip.gross_realized_pnl),
            money(trip.fees),
            money(trip.net_realized_pnl),
            str(trip.fill_count),
        )
    sums = [f"all {len(trips):,}", "", "", "", f"{sum(trip.closed_at is None for trip in trips)} open"]
    sums += [number(sum((trip.entered_quantity for trip in trips), Decimal(0))), "", ""]
    for name in ("gross_realized_pnl", "fees", "net_realized_pnl"):
        sums.append(money(sum((getattr(trip, name) for trip in trips), Decimal(0))))
    sums.append("")
    for column, text in zip(table.columns, sums, strict=True):
        column.footer = text
    return table


def exposure_table(currency: CurrencyExposure) -> Table:
    """The exposure of one settle currency: long, short, net and gross, and by instrument."""
    table = _table(f"Exposure in {currency.settle_currency}", words=("",))
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
    table = _table("Performance by day (round trips closed)", words=("account", "day"))
    for name in ("trips", "won", "lost", "even", "win rate", "gross", "fees", "net"):
        table.add_column(name, justify="right")
    for day in days:
        figures = day.performance
        counts = (figures.total_trades, figures.winning_trades, figures.losing_trades, figures.scratch_trades)
        table.add_row(
            day.account,
            day.day.isoformat(),
            *(f"{count:,}" for count in counts),
            f"{figures.win_rate * 100:.1f} %",
            f"{money(figures.gross_pnl)} {figures.settle_currency}",
            money(figures.fees),
            money(figures.net_pnl),
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


def _table(title: str, *, words: Iterable[str], has_footer: bool = False) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", show_footer=has_footer, box=None)
    for name in words:
        table.add_column(name)
    return table
