"""How trading went, as a trader sees it: groups one a row, then everything there is to say of the whole range."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table

from steelyard.cli.tables import amount, duration, moment, money, performance_table, shown
from steelyard.client import (
    EquityCurve,
    ExtendedPerformance,
    HoldTime,
    PerformanceGroup,
    RangePerformance,
    SampledFigure,
    WatchedPerformance,
)

POINTS_SHOWN = 40
WITHOUT_LABEL = "(without)"


def range_view(found: RangePerformance, *, by: str) -> RenderableType:
    """A range of time: its groups, its figures, its curve."""
    if not found.currencies:
        return "no completed round trips"
    parts: list[RenderableType] = []
    if found.groups:
        parts.append(groups_table(found.groups, first=by))
    parts += [figures_table(figures) for figures in found.currencies]
    parts += [curve_table(curve) for curve in found.equity_curves]
    return Group(*parts)


def groups_table(groups: Sequence[PerformanceGroup], *, first: str) -> RenderableType:
    """Groups, one a row and currency."""
    headings = ("net", "gross", "fees", "trades", "won", "lost", "win rate", "profit factor", "average", "drawdown")
    table = _table(first, numbers=headings, last="")
    for group in groups:
        for figures in group.currencies:
            plain = figures.plain
            table.add_row(
                WITHOUT_LABEL if group.name is None else group.name,
                *(money(plain.net_pnl), money(plain.gross_pnl), amount(plain.fees)),
                *(f"{count:,}" for count in (plain.total_trades, plain.winning_trades, plain.losing_trades)),
                shown(plain.win_rate),
                amount(figures.profit_factor.value),
                money(figures.expectancy.value),
                amount(figures.max_drawdown.value),
                plain.settle_currency,
            )
    return table


def figures_table(figures: ExtendedPerformance) -> RenderableType:
    """Everything there is to say of the round trips of one currency, each figure beside its sample."""
    plain = figures.plain
    table = _table(plain.settle_currency, numbers=("figure", "of trades"))
    for name, value in (("net", plain.net_pnl), ("gross", plain.gross_pnl), ("funding", plain.funding)):
        table.add_row(name, money(value), f"{plain.total_trades:,}")
    table.add_row("fees", amount(plain.fees), f"{plain.total_trades:,}")
    counts = f"{plain.winning_trades:,} / {plain.losing_trades:,} / {plain.scratch_trades:,}"
    table.add_row("won / lost / scratch", counts, f"{plain.total_trades:,}")
    table.add_row("win rate", shown(plain.win_rate), f"{plain.total_trades:,}")
    for name, figure in _sampled(figures):
        table.add_row(name, money(figure.value) if name in _COLOURED else amount(figure.value), f"{figure.sample:,}")
    for name, held in (
        ("held", figures.hold_time),
        ("winners held", figures.winning_hold_time),
        ("losers held", figures.losing_hold_time),
    ):
        table.add_row(f"{name}, average (from - to)", _held(held), f"{held.sample:,}")
    streaks = (figures.longest_winning_streak, figures.longest_losing_streak)
    table.add_row(
        "longest run won / lost", " / ".join(f"{each.length:,}" for each in streaks), f"{streaks[0].sample:,}"
    )
    for name, side in (("long", figures.long), ("short", figures.short)):
        table.add_row(f"{name}, net", money(side.net_pnl), f"{side.total_trades:,}")
    if not plain.fees_complete:
        return Group(table, "some fees are in currencies that cannot be valued: net figures are incomplete")
    return table


def curve_table(curve: EquityCurve) -> RenderableType:
    """An equity curve, its last points."""
    table = _table(f"{curve.settle_currency} up to", numbers=("trades", "equity", "below the highest"))
    for point in curve.points[-POINTS_SHOWN:]:
        equity = (f"{point.total_trades:,}", money(point.equity_pnl), amount(point.drawdown_pnl))
        table.add_row(moment(point.closed_at), *equity)
    left_out = len(curve.points) - POINTS_SHOWN
    return Group(table, f"... {left_out:,} points before them (all with --json)") if left_out > 0 else table


def watched_view(figures: WatchedPerformance) -> RenderableType:
    """Today and this week as of one moment."""
    rows = [(f"today {figures.day}", each) for each in figures.day_currencies]
    rows += [(f"week of {figures.week_start_day}", each) for each in figures.week_currencies]
    if not rows:
        return f"today {figures.day}: no completed round trips this week"
    return performance_table(rows)


_COLOURED = {"average result", "average win", "average loss", "largest win", "largest loss"}


def _sampled(figures: ExtendedPerformance) -> Iterable[tuple[str, SampledFigure]]:
    return (
        ("profit factor", figures.profit_factor),
        ("average result", figures.expectancy),
        ("average win", figures.average_win),
        ("average loss", figures.average_loss),
        ("largest win", figures.largest_win),
        ("largest loss", figures.largest_loss),
        ("deepest drawdown", figures.max_drawdown),
    )


def _held(held: HoldTime) -> str:
    if held.average is None or held.shortest is None or held.longest is None:
        return "-"
    return f"{_brief(held.average)} ({_brief(held.shortest)} - {_brief(held.longest)})"


def _brief(span: timedelta) -> str:
    return duration(span) if span >= timedelta(seconds=1) or not span else f"{span / timedelta(milliseconds=1):g}ms"


def _table(first: str, *, numbers: Sequence[str], last: str | None = None) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(first, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    if last is not None:
        table.add_column(last, no_wrap=True)
    return table
