"""Trader performance: completed round trips by the trading day and week in which they close."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from fractions import Fraction
from typing import TypeVar
from zoneinfo import ZoneInfo

from .exact import RATIO_PLACES, half_even, moment
from .outcome import OraclePosition

_ZERO = Fraction(0)
_WIN_RATE_PLACES = 3
_SATURDAY = 5

Name = TypeVar("Name")


@dataclass(frozen=True, slots=True)
class CalendarDays:
    """CALENDAR(zone): local midnight to local midnight."""

    zone: str = "America/Chicago"


@dataclass(frozen=True, slots=True)
class SessionDays:
    """SESSION(close time, zone, weekdays only): at the close time the next day begins."""

    closes_at: time = time(15, 0)
    zone: str = "America/Los_Angeles"
    weekdays_only: bool = True


DayRule = CalendarDays | SessionDays


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleResult:
    """One completed round trip: net and gross money, times in microseconds since 1970."""

    net: Fraction
    gross: Fraction
    closed_at: int
    opened_at: int
    settle_currency: str = "USD"
    direction: str = "LONG"
    instrument: str = ""
    book: str = "main"
    first_entry_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OraclePerformance:
    """A set of results; averages and the profit factor are None where they have no sample."""

    net: Fraction
    gross: Fraction
    total_trades: int
    winning: int
    losing: int
    scratch: int
    win_rate: Fraction
    profit_factor: Fraction | None
    expectancy: Fraction | None
    average_win: Fraction | None
    average_loss: Fraction | None
    largest_win: Fraction | None
    largest_loss: Fraction | None
    average_hold_us: Fraction | None
    longest_winning_streak: int
    longest_losing_streak: int
    max_drawdown: Fraction


def local_time(at: int, rule: DayRule) -> datetime:
    """The instant on the wall clock of the rule's zone."""
    return moment(at).astimezone(ZoneInfo(rule.zone))


def trading_day(at: int, rule: DayRule) -> date:
    """The trading day an instant belongs to."""
    local = local_time(at, rule)
    day = local.date()
    if isinstance(rule, CalendarDays):
        return day
    if local.time() >= rule.closes_at:
        day += timedelta(days=1)
    while rule.weekdays_only and day.weekday() >= _SATURDAY:
        day += timedelta(days=1)
    return day


def trading_week(at: int, rule: DayRule) -> date:
    """The Monday of the week of the instant's trading day."""
    day = trading_day(at, rule)
    return day - timedelta(days=day.weekday())


def completed(positions: Iterable[OraclePosition], *, method: str = "AVERAGE") -> list[OracleResult]:
    """The closed trips of replayed positions."""
    return [
        OracleResult(
            net=trip.net_pnl[method],
            gross=trip.gross_pnl[method],
            closed_at=trip.closed_at,
            opened_at=trip.opened_at,
            settle_currency=trip.settle_currency,
            direction=trip.direction,
            instrument=trip.key.instrument,
            book=trip.key.book,
            first_entry_id=trip.first_entry_id,
        )
        for position in positions
        for trip in position.trips
        if trip.closed_at is not None
    ]


def performance(results: Iterable[OracleResult]) -> dict[str, OraclePerformance]:
    """The performance of each settle currency."""
    grouped = group(results, lambda result: result.settle_currency)
    return {currency: measure(members) for currency, members in grouped.items()}


def group(results: Iterable[OracleResult], name_of: Callable[[OracleResult], Name]) -> dict[Name, list[OracleResult]]:
    """Results by any name: day, week, instrument, book, direction."""
    groups: dict[Name, list[OracleResult]] = {}
    for result in results:
        groups.setdefault(name_of(result), []).append(result)
    return groups


def by_day(results: Iterable[OracleResult], rule: DayRule) -> dict[tuple[str, date], OraclePerformance]:
    """Performance per settle currency and trading day of the close."""
    named = group(results, lambda result: (result.settle_currency, trading_day(result.closed_at, rule)))
    return {name: measure(members) for name, members in named.items()}


def by_week(results: Iterable[OracleResult], rule: DayRule) -> dict[tuple[str, date], OraclePerformance]:
    """Performance per settle currency and Monday of the trading week of the close."""
    named = group(results, lambda result: (result.settle_currency, trading_week(result.closed_at, rule)))
    return {name: measure(members) for name, members in named.items()}


def measure(results: Iterable[OracleResult]) -> OraclePerformance:
    """The figures of results of one settle currency, judged by their net."""
    ordered = sorted(results, key=lambda result: (result.closed_at, result.opened_at, result.first_entry_id))
    nets = [result.net for result in ordered]
    wins, losses = [net for net in nets if net > 0], [net for net in nets if net < 0]
    lost = -sum(losses, _ZERO)
    held = [Fraction(result.closed_at - result.opened_at) for result in ordered]
    return OraclePerformance(
        net=sum(nets, _ZERO),
        gross=sum((result.gross for result in ordered), _ZERO),
        total_trades=len(nets),
        winning=len(wins),
        losing=len(losses),
        scratch=len(nets) - len(wins) - len(losses),
        win_rate=half_even(Fraction(len(wins), len(nets)), _WIN_RATE_PLACES) if nets else _ZERO,
        profit_factor=half_even(sum(wins, _ZERO) / lost, RATIO_PLACES) if losses else None,
        expectancy=_mean(nets),
        average_win=_mean(wins),
        average_loss=_mean(losses),
        largest_win=max(wins, default=None),
        largest_loss=min(losses, default=None),
        average_hold_us=_mean(held),
        longest_winning_streak=_longest([net > 0 for net in nets]),
        longest_losing_streak=_longest([net < 0 for net in nets]),
        max_drawdown=_drawdown(nets),
    )


def net_of_fills_by_day(
    positions: Iterable[OraclePosition], rule: DayRule, *, method: str = "AVERAGE"
) -> dict[tuple[str, date], Fraction]:
    """Gross realized minus fees of the fills executed in each trading day, per settle currency."""
    days: dict[tuple[str, date], Fraction] = {}
    for position in positions:
        for effect in position.effects:
            name = position.terms.settle_currency, trading_day(effect.executed_at, rule)
            days[name] = days.get(name, _ZERO) + effect.gross_pnl[method] - effect.fee
    return days


def _mean(values: list[Fraction]) -> Fraction | None:
    return half_even(sum(values, _ZERO) / len(values), RATIO_PLACES) if values else None


def _longest(hits: list[bool]) -> int:
    longest = run = 0
    for hit in hits:
        run = run + 1 if hit else 0
        longest = max(longest, run)
    return longest


def _drawdown(nets: list[Fraction]) -> Fraction:
    """The deepest fall of the running sum below its highest point so far, which starts at zero."""
    total = peak = deepest = _ZERO
    for net in nets:
        total += net
        peak = max(peak, total)
        deepest = max(deepest, peak - total)
    return deepest
