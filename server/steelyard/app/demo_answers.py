"""What the demo asks the service once its builds have ended, and the one JSON document that holds the answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from steelyard.accounting.trading_calendar import Calendar, day_of
from steelyard.accounting.units import ZERO
from steelyard.client import ImportOutcome, Performance, Position, RoundTrip, Steelyard

PAGE = 1_000


@dataclass(frozen=True, slots=True)
class FileImported:
    """A file and what became of it."""

    name: str
    outcome: ImportOutcome
    build_state: str | None
    """None: there was nothing to build."""


@dataclass(frozen=True, slots=True)
class DayOfAccount:
    """How a trading day of an account went, in one currency."""

    account: str
    day: date
    performance: Performance


@dataclass(frozen=True, slots=True)
class Answers:
    """All there is to show; each sorted by account."""

    positions: Sequence[Position]
    round_trips: Sequence[RoundTrip]
    days: Sequence[DayOfAccount]


async def ask(steelyard: Steelyard) -> Answers:
    """Everything the service holds: meant for a database of a few files."""
    accounts = [account async for account in steelyard.list_accounts(page_size=PAGE)]
    positions = [position async for position in steelyard.list_positions(page_size=PAGE)]
    trips: list[RoundTrip] = []
    days: list[DayOfAccount] = []
    for account in accounts:
        own = [trip async for trip in steelyard.list_round_trips(account.account, page_size=PAGE)]
        trips.extend(own)
        days.extend([day async for day in _days(steelyard, own, zone=account.time_zone)])
    return Answers(positions, sorted(trips, key=_place), days)


def _place(trip: RoundTrip) -> tuple[str, str, datetime, datetime, str, str]:
    # Of two that open in the same second the one that ended first was first.
    closed_at = trip.closed_at or datetime.max.replace(tzinfo=UTC)
    return trip.key.account, trip.key.instrument, trip.opened_at, closed_at, trip.key.book, trip.trip_id


async def _days(steelyard: Steelyard, trips: Sequence[RoundTrip], *, zone: str) -> Any:
    """The days on which an account's round trips began or ended."""
    instants = {instant for trip in trips for instant in (trip.opened_at, trip.closed_at) if instant is not None}
    for day in sorted({day_of(instant, Calendar(zone)) for instant in instants}):
        account, currency = trips[0].key.account, trips[0].settle_currency
        answer = await steelyard.get_daily_performance([account], day=day)
        for performance in answer.currencies or (no_trades(currency),):
            yield DayOfAccount(account, day, performance)


def no_trades(currency: str) -> Performance:
    """A day on which nothing came to its end."""
    return Performance(
        settle_currency=currency,
        net_pnl=ZERO,
        gross_pnl=ZERO,
        fees=ZERO,
        funding=ZERO,
        total_trades=0,
        winning_trades=0,
        losing_trades=0,
        scratch_trades=0,
        win_rate=ZERO,
        fees_complete=True,
    )


def document(imports: Iterable[FileImported], answers: Answers) -> dict[str, Any]:
    """The JSON document: decimals as text, times in ISO-8601 UTC."""
    return {
        "imports": [_import(one) for one in imports],
        "round_trips": [_round_trip(trip) for trip in answers.round_trips],
        "positions": [_position(position) for position in answers.positions],
        "performance": [_day(day) for day in answers.days],
    }


def _import(one: FileImported) -> dict[str, Any]:
    made = one.outcome.trade_import
    return {
        "file": one.name,
        "format": str(made.format),
        "rows": made.rows,
        "recorded": made.recorded,
        "repeated": made.repeated,
        "conflicting": made.conflicting,
        "rejected": made.rejected,
        "warnings": made.warnings,
        "build_state": one.build_state,
        "row_results": [
            {
                "row_number": row.row_number,
                "category": row.category.lower(),
                "field": row.field or None,
                "reason": row.reason,
                "raw": row.raw,
            }
            for row in one.outcome.rows
        ],
        "row_results_truncated": one.outcome.rows_truncated,
    }


_TRIP = [
    "trip_id",
    "direction",
    "state",
    "entered_quantity",
    "exited_quantity",
    "open_quantity",
    "max_quantity",
    "average_entry_price",
    "average_exit_price",
    "points_weighted",
    "gross_realized_pnl",
    "fees",
    "net_realized_pnl",
    "settle_currency",
    "opened_at",
    "closed_at",
    "fill_count",
]
_POSITION = [
    "account",
    "book",
    "instrument",
    "leg",
    "side",
    "quantity",
    "average_price",
    "cost",
    "gross_realized_pnl",
    "fees",
    "funding",
    "realized_pnl",
    "net_realized_pnl",
    "unrealized_pnl",
    "settle_currency",
    "opened_at",
    "closed_at",
    "last_fill_at",
    "fill_count",
    "version",
]
_PERFORMANCE = [
    "settle_currency",
    "net_pnl",
    "gross_pnl",
    "fees",
    "funding",
    "total_trades",
    "winning_trades",
    "losing_trades",
    "scratch_trades",
    "win_rate",
]


def _round_trip(trip: RoundTrip) -> dict[str, Any]:
    key = {"account": trip.key.account, "book": trip.key.book, "instrument": trip.key.instrument, "leg": trip.key.leg}
    return key | _fields(trip, _TRIP)


def _position(position: Position) -> dict[str, Any]:
    return _fields(position, _POSITION)


def _day(day: DayOfAccount) -> dict[str, Any]:
    return {"account": day.account, "day": day.day.isoformat()} | _fields(day.performance, _PERFORMANCE)


def _fields(record: object, names: Iterable[str]) -> dict[str, Any]:
    return {name: plain(getattr(record, name)) for name in names}


def plain(value: Any) -> Any:
    """A value as JSON holds it."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value
