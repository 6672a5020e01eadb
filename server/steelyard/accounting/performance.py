"""Trader performance: what completed round trips add up to, per settle currency (DOMAIN 10).

A round trip belongs to the instant at which it closes. Winning, losing, streaks and drawdown go by net; gross is
always given beside it. Money is exact; averages and ratios have 18 places, half-even, the win rate 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple, TypeVar

from steelyard.accounting.instruments import Instrument
from steelyard.accounting.keys import PositionKey
from steelyard.accounting.round_trips import CostMethod, Direction, RoundTrip
from steelyard.accounting.trading_calendar import DayRule, day_of, local_time
from steelyard.accounting.units import PLACES_3, ZERO, Ratio, exactly, quotient, ratio_of

Name = TypeVar("Name")


class CompletedTrip(NamedTuple):
    """A completed round trip as performance sees it: one light tuple, because a year has many.

    Tuples sort as trips are counted: by closing, then opening, then first entry.
    """

    closed_at: datetime
    opened_at: datetime
    first_entry_id: str
    gross: Decimal
    """Realized by price alone, settle currency."""
    net: Decimal
    """Gross less all valued fees plus funding."""
    fees: Decimal
    direction: str
    """LONG or SHORT."""
    instrument: str
    book: str
    currency: str
    """Settle currency."""
    fees_complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """The plain figures of a set of completed trips of one settle currency."""

    currency: str
    total: int
    """Completed round trips."""
    winning: int
    """With net > 0."""
    losing: int
    """With net < 0."""
    scratch: int
    """With net = 0."""
    win_rate: Ratio
    """winning / total over all trips, scratches too, 3 places half-even; 0 when there are none."""
    net: Decimal
    gross: Decimal
    fees: Decimal
    fees_complete: bool
    """Whether every fee could be valued; where not, net figures are incomplete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """A figure and the number of trips it rests on; None where there were none."""

    value: Decimal | None
    sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldTime:
    """How long trips were held, and how many; averages to the microsecond. None where there were none."""

    average: timedelta | None
    shortest: timedelta | None
    longest: timedelta | None
    sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Streak:
    """The longest run of trips of one kind, in order of closing, among `sample` trips; a scratch ends any run."""

    length: int
    sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendedPerformance:
    """The figures that need more than sums, each with its sample size. By net, settle currency."""

    plain: Performance
    profit_factor: Sampled
    """Sum of wins / sum of losses; None without losses. Sample: wins and losses."""
    expectancy: Sampled
    """Average net per trip."""
    average_win: Sampled
    average_loss: Sampled
    """Negative."""
    largest_win: Sampled
    largest_loss: Sampled
    """Negative."""
    hold_time: HoldTime
    winning_hold_time: HoldTime
    losing_hold_time: HoldTime
    long: Performance
    short: Performance
    longest_winning_streak: Streak
    longest_losing_streak: Streak
    max_drawdown: Sampled
    """Deepest fall of the running sum of net below its highest point so far, which starts at zero; >= 0."""


def completed_trip(
    trip: RoundTrip, key: PositionKey, *, instrument: Instrument, method: CostMethod
) -> CompletedTrip | None:
    """The trip as performance sees it, by a cost method; None while it is open."""
    if trip.closed_at is None:
        return None
    return CompletedTrip(
        closed_at=trip.closed_at,
        opened_at=trip.opened_at,
        first_entry_id=trip.opened.entry_id,
        gross=trip.sums.gross(method),
        net=trip.sums.net(method),
        fees=trip.sums.fees,
        direction=trip.direction.value,
        instrument=key.instrument,
        book=key.book,
        currency=instrument.settle_currency,
        fees_complete=trip.sums.fees_complete,
    )


def win_rate(winning: int, total: int) -> Ratio:
    """winning / total, 3 places half-even (3 of 8 is 0.375, 15 of 35 is 0.429); 0 when there are none."""
    return Ratio(quotient(Decimal(winning), Decimal(total), PLACES_3)) if total else Ratio(ZERO)


def performance_of_sums(
    currency: str,
    *,
    total: int = 0,
    winning: int = 0,
    losing: int = 0,
    net: Decimal = ZERO,
    gross: Decimal = ZERO,
    fees: Decimal = ZERO,
    fees_complete: bool = True,
) -> Performance:
    """The plain figures from sums that a store has already counted; without any, the zeros of no trips."""
    return Performance(
        currency=currency,
        total=total,
        winning=winning,
        losing=losing,
        scratch=total - winning - losing,
        win_rate=win_rate(winning, total),
        net=net,
        gross=gross,
        fees=fees,
        fees_complete=fees_complete,
    )


@dataclass(slots=True)
class _Held:
    """Hold times of one kind of trips while they stream by."""

    total: timedelta = timedelta()
    shortest: timedelta | None = None
    longest: timedelta | None = None
    sample: int = 0

    def add(self, held: timedelta) -> None:
        self.total += held
        self.shortest = held if self.shortest is None else min(self.shortest, held)
        self.longest = held if self.longest is None else max(self.longest, held)
        self.sample += 1

    def figures(self) -> HoldTime:
        average = self.total / self.sample if self.sample else None
        return HoldTime(average=average, shortest=self.shortest, longest=self.longest, sample=self.sample)


@dataclass(slots=True)
class _Tally:
    """Plain sums of trips of one settle currency while they stream by."""

    total: int = 0
    winning: int = 0
    losing: int = 0
    won: Decimal = ZERO
    lost: Decimal = ZERO
    gross: Decimal = ZERO
    fees: Decimal = ZERO
    fees_complete: bool = True

    def add(self, trip: CompletedTrip) -> None:
        self.total += 1
        if trip.net > 0:
            self.winning += 1
            self.won += trip.net
        elif trip.net < 0:
            self.losing += 1
            self.lost += trip.net
        self.gross += trip.gross
        self.fees += trip.fees
        self.fees_complete = self.fees_complete and trip.fees_complete

    def figures(self, currency: str) -> Performance:
        return performance_of_sums(
            currency,
            total=self.total,
            winning=self.winning,
            losing=self.losing,
            net=self.won + self.lost,
            gross=self.gross,
            fees=self.fees,
            fees_complete=self.fees_complete,
        )


@dataclass(slots=True)
class _ExtendedTally:
    """What is needed beyond plain sums; trips come in order of closing."""

    plain: _Tally = field(default_factory=_Tally)
    long: _Tally = field(default_factory=_Tally)
    short: _Tally = field(default_factory=_Tally)
    held: _Held = field(default_factory=_Held)
    winners_held: _Held = field(default_factory=_Held)
    losers_held: _Held = field(default_factory=_Held)
    largest_win: Decimal | None = None
    largest_loss: Decimal | None = None
    wins_in_a_row: int = 0
    losses_in_a_row: int = 0
    longest_wins: int = 0
    longest_losses: int = 0
    running: Decimal = ZERO
    peak: Decimal = ZERO
    drawdown: Decimal = ZERO

    def add(self, trip: CompletedTrip) -> None:
        self.plain.add(trip)
        (self.long if trip.direction == Direction.LONG else self.short).add(trip)
        held = trip.closed_at - trip.opened_at
        self.held.add(held)
        net = trip.net
        if net > 0:
            self.winners_held.add(held)
            self.largest_win = net if self.largest_win is None else max(self.largest_win, net)
        elif net < 0:
            self.losers_held.add(held)
            self.largest_loss = net if self.largest_loss is None else min(self.largest_loss, net)
        self._follow(net)

    def _follow(self, net: Decimal) -> None:
        self.wins_in_a_row = self.wins_in_a_row + 1 if net > 0 else 0
        self.losses_in_a_row = self.losses_in_a_row + 1 if net < 0 else 0
        self.longest_wins = max(self.longest_wins, self.wins_in_a_row)
        self.longest_losses = max(self.longest_losses, self.losses_in_a_row)
        self.running += net
        self.peak = max(self.peak, self.running)
        self.drawdown = max(self.drawdown, self.peak - self.running)

    def figures(self, currency: str) -> ExtendedPerformance:
        plain = self.plain
        total, winning, losing = plain.total, plain.winning, plain.losing
        return ExtendedPerformance(
            plain=plain.figures(currency),
            profit_factor=Sampled(value=ratio_of(plain.won, -plain.lost) if losing else None, sample=winning + losing),
            expectancy=_average(plain.won + plain.lost, total),
            average_win=_average(plain.won, winning),
            average_loss=_average(plain.lost, losing),
            largest_win=Sampled(value=self.largest_win, sample=winning),
            largest_loss=Sampled(value=self.largest_loss, sample=losing),
            hold_time=self.held.figures(),
            winning_hold_time=self.winners_held.figures(),
            losing_hold_time=self.losers_held.figures(),
            long=self.long.figures(currency),
            short=self.short.figures(currency),
            longest_winning_streak=Streak(length=self.longest_wins, sample=total),
            longest_losing_streak=Streak(length=self.longest_losses, sample=total),
            max_drawdown=Sampled(value=self.drawdown if total else None, sample=total),
        )


def _average(total: Decimal, sample: int) -> Sampled:
    return Sampled(value=ratio_of(total, Decimal(sample)) if sample else None, sample=sample)


@exactly
def measure(trips: Iterable[CompletedTrip]) -> dict[str, Performance]:
    """The plain figures of each settle currency; any order, any stream. No trips: an empty mapping."""
    tallies: dict[str, _Tally] = {}
    for trip in trips:
        tallies.setdefault(trip.currency, _Tally()).add(trip)
    return {currency: tallies[currency].figures(currency) for currency in sorted(tallies)}


@exactly
def measure_extended(trips: Iterable[CompletedTrip]) -> dict[str, ExtendedPerformance]:
    """The extended figures of each settle currency; the trips are put in order of closing first."""
    tallies: dict[str, _ExtendedTally] = {}
    for trip in sorted(trips):
        tallies.setdefault(trip.currency, _ExtendedTally()).add(trip)
    return {currency: tallies[currency].figures(currency) for currency in sorted(tallies)}


@exactly
def measure_by(
    trips: Iterable[CompletedTrip], name_of: Callable[[CompletedTrip], Name]
) -> dict[tuple[str, Name], Performance]:
    """The plain figures of each (settle currency, name): `name_of` gives day, hour, instrument, book or label."""
    tallies: dict[tuple[str, Name], _Tally] = {}
    for trip in trips:
        tallies.setdefault((trip.currency, name_of(trip)), _Tally()).add(trip)
    return {name: tally.figures(name[0]) for name, tally in tallies.items()}


def closing_day(rule: DayRule) -> Callable[[CompletedTrip], date]:
    """Names a trip by the trading day in which it closes."""
    return lambda trip: day_of(trip.closed_at, rule)


def closing_weekday(rule: DayRule) -> Callable[[CompletedTrip], int]:
    """Names a trip by the weekday of its trading day: 1 Monday to 7 Sunday."""
    return lambda trip: day_of(trip.closed_at, rule).isoweekday()


def closing_hour(rule: DayRule) -> Callable[[CompletedTrip], int]:
    """Names a trip by the local hour, 0 to 23, in which it closes."""
    return lambda trip: local_time(trip.closed_at, rule).hour
