"""What a trader sees: records as tables. Rounded for the eye only; `--json` gives every digit."""

from __future__ import annotations

import decimal
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from steelyard.client import (
    Account,
    Build,
    CurrencyPortfolio,
    ImportOutcome,
    ImportRow,
    Instrument,
    KeyState,
    Performance,
    Portfolio,
    Position,
    RoundTrip,
)

PLACES_2 = Decimal("1e-2")
PLACES_8 = Decimal("1e-8")
ROWS_SHOWN = 20
_WIDE = decimal.Context(prec=80)


def shown(value: Decimal | None) -> str:
    """A quantity or price for the eye, at most 8 places; a dash where there is none."""
    return "-" if value is None else _rounded(value, PLACES_8)


def amount(value: Decimal | None) -> str:
    """Money for the eye: cents, but 8 places below one (a coin's fraction is money too)."""
    if value is None:
        return "-"
    return _rounded(value, PLACES_2 if abs(value) >= 1 else PLACES_8)


def money(value: Decimal | None) -> Text:
    """The same in colour: gains green, losses red."""
    return Text(amount(value), style="" if not value else "green" if value > 0 else "red")


def moment(at: datetime | None) -> str:
    """A time for the eye, UTC, to the minute; a dash where there is none."""
    return "-" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def duration(held: timedelta) -> str:
    """How long something was held, in its two largest units: `3m 10s`, `2d 4h`."""
    seconds = int(held.total_seconds())
    parts = ((seconds // 86_400, "d"), (seconds // 3_600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s"))
    told = [f"{number}{unit}" for number, unit in parts if number]
    return " ".join(told[:2]) or "0s"


def positions_table(positions: Sequence[Position]) -> RenderableType:
    """Positions, one a row."""
    if not positions:
        return "no positions"
    table = _table(
        "account", "instrument", *_numbers("quantity", "average", "mark", "unrealized", "realized", "net"), ""
    )
    for position in positions:
        mark = position.mark
        table.add_row(
            position.account if position.book == "main" else f"{position.account}/{position.book}",
            position.instrument if position.leg == "NET" else f"{position.instrument} {position.leg}",
            shown(position.quantity),
            shown(position.average_price),
            shown(mark.price if mark else None) + ("" if mark is None or mark.state != "STALE" else " (stale)"),
            money(position.unrealized_pnl),
            money(position.realized_pnl),
            money(position.net_realized_pnl),
            position.settle_currency,
        )
    return table


def trips_table(trips: Sequence[RoundTrip]) -> RenderableType:
    """Round trips, one a row."""
    if not trips:
        return "no round trips"
    table = _table(
        "account", "instrument", "", *_numbers("quantity", "entry", "exit", "gross", "fees", "net"), "opened", "held"
    )
    for trip in trips:
        table.add_row(
            trip.key.account,
            trip.key.instrument,
            trip.direction.lower(),
            shown(trip.max_quantity),
            shown(trip.average_entry_price),
            shown(trip.average_exit_price),
            money(trip.gross_realized_pnl),
            amount(trip.fees),
            money(trip.net_realized_pnl),
            moment(trip.opened_at),
            "open" if trip.closed_at is None else duration(trip.closed_at - trip.opened_at),
        )
    return table


def portfolio_view(portfolio: Portfolio) -> RenderableType:
    """A portfolio, per settle currency; prices that are missing are named."""
    if not portfolio.currencies:
        return "no positions"
    return Group(*(part for currency in portfolio.currencies for part in _currency_parts(currency)))


def performance_table(rows: Iterable[tuple[str, Performance]], *, first: str = "") -> RenderableType:
    """Performance, one row each, under a first column."""
    found = list(rows)
    if not found:
        return "no completed round trips"
    table = _table(first, *_numbers("net", "gross", "fees", "trades", "won", "lost", "win rate"), "")
    for name, performance in found:
        table.add_row(
            name,
            money(performance.net_pnl),
            money(performance.gross_pnl),
            amount(performance.fees),
            str(performance.total_trades),
            str(performance.winning_trades),
            str(performance.losing_trades),
            shown(performance.win_rate),
            performance.settle_currency,
        )
    return table


def imports_table(outcomes: Sequence[tuple[str, ImportOutcome]]) -> RenderableType:
    """What became of files, one a row."""
    table = _table("file", *_numbers("rows", "recorded", "repeated", "conflicting", "rejected", "warnings"))
    for name, outcome in outcomes:
        counts = outcome.trade_import
        numbers = (counts.rows, counts.recorded, counts.repeated, counts.conflicting, counts.rejected, counts.warnings)
        table.add_row(name, *(f"{number:,}" for number in numbers))
    return table


def rows_table(rows: Sequence[ImportRow]) -> RenderableType:
    """Rows that something is wrong with, the first ones."""
    table = _table(*_numbers("line"), "", "column", "why", "row")
    for row in rows[:ROWS_SHOWN]:
        table.add_row(
            str(row.row_number), row.category.lower(), row.field, row.reason, Text(row.raw, overflow="ellipsis")
        )
    more = len(rows) - ROWS_SHOWN
    return Group(table, f"... and {more:,} more (all of them with --json)") if more > 0 else table


def builds_table(builds: Sequence[Build]) -> RenderableType:
    """Builds, one a row."""
    if not builds:
        return "no builds"
    table = _table("build", "state", "mode", *_numbers("keys", "failed", "fills", "percent"), "created", "finished")
    for build in builds:
        progress = build.progress
        table.add_row(
            build.build_id,
            _state(build),
            build.mode.lower(),
            f"{progress.keys_done:,}/{progress.keys_total:,}",
            f"{progress.keys_failed:,}",
            f"{progress.fills_done:,}/{progress.fills_total:,}",
            f"{progress.percent:.0f}",
            moment(build.created_at),
            moment(build.finished_at),
        )
    return table


def build_view(build: Build) -> RenderableType:
    """One build, and the keys that failed in it."""
    failed = [result for result in build.key_results if result.state == KeyState.FAILED]
    if not failed:
        return builds_table([build])
    table = _table("failed key", "check", "what it found")
    for result in failed[:ROWS_SHOWN]:
        for error in result.errors:
            key = result.key
            table.add_row(f"{key.account} {key.book} {key.instrument} {key.leg}", error.check, error.message)
    return Group(builds_table([build]), table)


def accounts_table(accounts: Sequence[Account]) -> RenderableType:
    """Accounts, one a row."""
    if not accounts:
        return "no accounts"
    table = _table("account", "cost method", "lot method", "size authority", "time zone", "created")
    for account in accounts:
        words = (account.cost_method, account.lot_method, account.size_authority)
        table.add_row(
            account.account, *(str(word or "-") for word in words), account.time_zone, moment(account.created_at)
        )
    return table


def instruments_table(instruments: Sequence[Instrument]) -> RenderableType:
    """Instruments, one a row."""
    if not instruments:
        return "no instruments"
    table = _table("instrument", "kind", *_numbers("multiplier"), "quote", "settle", "root")
    for instrument in instruments:
        table.add_row(
            instrument.instrument,
            instrument.kind.lower(),
            shown(instrument.multiplier),
            instrument.quote_currency,
            instrument.settle_currency,
            "yes" if instrument.root else "",
        )
    return table


def _currency_parts(currency: CurrencyPortfolio) -> Iterable[RenderableType]:
    figures = _table(currency.settle_currency, *_numbers("gross", "net", "long", "short"), *_numbers("open"))
    figures.add_row(
        "exposure",
        *(amount(v) for v in (currency.gross_exposure, currency.net_exposure)),
        *(amount(v) for v in (currency.long_exposure, currency.short_exposure)),
        f"{currency.open_count} ({currency.long_count} long, {currency.short_count} short)",
    )
    yield figures
    pnl = _table("", *_numbers("unrealized", "realized", "fees", "funding", "net realized", "total"))
    values = (currency.unrealized_pnl, currency.realized_pnl, currency.fees, currency.funding)
    pnl.add_row("pnl", *(money(v) for v in (*values, currency.net_realized_pnl, currency.total_pnl)))
    yield pnl
    if currency.by_instrument:
        groups = _table("instrument", *_numbers("quantity", "exposure", "unrealized", "realized"))
        for group in currency.by_instrument:
            numbers = (money(group.unrealized_pnl), money(group.realized_pnl))
            groups.add_row(group.name, shown(group.quantity), amount(group.exposure), *numbers)
        yield groups
    if currency.missing_prices:
        yield f"without a price, in no exposure: {', '.join(currency.missing_prices)}"
    if currency.stale_prices:
        yield f"stale prices: {', '.join(currency.stale_prices)}"
    if not currency.fees_complete:
        yield "some fees are in currencies that cannot be valued: net figures are incomplete"


_WRAPPED = {"why", "row", "what it found", "file"}


class _Right(str):
    """The heading of a column of numbers."""

    __slots__ = ()


def _numbers(*headings: str) -> list[_Right]:
    return [_Right(heading) for heading in headings]


def _table(*headings: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        is_number = isinstance(heading, _Right)
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=heading not in _WRAPPED)
    return table


def _rounded(value: Decimal, places: Decimal) -> str:
    text = format(value.quantize(places, context=_WIDE), "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def _state(build: Build) -> Text:
    styles = {"SUCCEEDED": "green", "FAILED": "red", "PARTIALLY_SUCCEEDED": "yellow", "CANCELLED": "yellow"}
    return Text(build.state.lower().replace("_", " "), style=styles.get(build.state, ""))
