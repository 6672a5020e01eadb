"""Limits of an account in one settle currency: gross, net and per-instrument exposure, loss of a day (DOMAIN 9).

A limit is exceeded when its value is strictly greater; one that is not set is never exceeded. Where prices are missing
a value is only partly known. Gross and per-instrument exposure can only grow by what is missing, so what is known may
be enough to say EXCEEDED; a net exposure may be offset by it, and is UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from steelyard.accounting.errors import InvalidField
from steelyard.accounting.instruments import Instrument, value_of
from steelyard.accounting.keys import InstrumentName, PositionKey
from steelyard.accounting.portfolio import CurrencyPortfolio
from steelyard.accounting.round_trips import CostMethod, Sums, Unvalued
from steelyard.accounting.units import NOTIONAL_LIMIT, ZERO, exactly

NAMED_INSTRUMENTS_MAX = 1_000
"""Instruments with a limit of their own."""


class LimitKind(StrEnum):
    """What a limit bounds."""

    GROSS_EXPOSURE = "GROSS_EXPOSURE"
    NET_EXPOSURE = "NET_EXPOSURE"
    """The magnitude of the signed sum."""
    INSTRUMENT_EXPOSURE = "INSTRUMENT_EXPOSURE"
    """Sum of |notional| of the positions in one instrument."""
    LOSS_PER_DAY = "LOSS_PER_DAY"


class LimitState(StrEnum):
    """Where a value stands against its limit; UNKNOWN where missing prices or figures leave it open."""

    WITHIN = "WITHIN"
    EXCEEDED = "EXCEEDED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSet:
    """The limits of an account in one settle currency, amounts of that currency; None: no such limit."""

    currency: str
    gross_exposure_max: Decimal | None = None
    net_exposure_max: Decimal | None = None
    instrument_exposure_max: Decimal | None = None
    """For every instrument that has no limit of its own."""
    instrument_exposures_max: Mapping[InstrumentName, Decimal] = field(default_factory=dict)
    """Limits of single instruments, which take the place of the common one."""
    day_loss_max: Decimal | None = None
    """The greatest loss of a day, positive: net realized of the fills executed in the account's day."""
    counts_unrealized: bool = False
    """Whether the unrealized PnL of what is open counts in the loss of the day."""

    def of_instrument(self, name: InstrumentName) -> Decimal | None:
        """The exposure limit that holds for an instrument."""
        return self.instrument_exposures_max.get(name, self.instrument_exposure_max)


class RiskRow(NamedTuple):
    """A position as limits see it: a bare tuple, because all of an account's are read before each order."""

    key: PositionKey
    instrument: Instrument
    quantity: Decimal
    """Signed, as folded."""
    pending_quantity: Decimal
    """Counted, but not folded yet."""
    cost: Decimal
    """Signed, before scale, by the account's cost method."""
    gross_realized: Decimal
    """Lifetime, by the account's cost method."""
    fees: Decimal
    """Lifetime, all valued ones."""
    unvalued_fees: Unvalued
    fill_count: int
    last_fill_at: datetime | None
    mark: Decimal | None
    """The price; None without a mark."""
    marked_at: datetime | None


@dataclass(frozen=True, slots=True)
class DayResult:
    """What the fills executed in a day came to in one settle currency."""

    net_realized: Decimal = ZERO
    """Gross realized of closing parts less all valued fees; funding is none of a fill's."""
    unvalued_fees: Unvalued = ()
    """Fees whose value is unknown."""
    is_complete: bool = True
    """False: entries are stored that are not folded yet."""

    @property
    def can_only_be_worse(self) -> bool:
        """Whether all that is not known are fees still to be taken off."""
        return self.is_complete and all(amount > 0 for _, amount in self.unvalued_fees)

    @property
    def is_known(self) -> bool:
        """Whether nothing is missing."""
        return self.is_complete and not self.unvalued_fees


NO_RESULT = DayResult()


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskFigures:
    """What limits are held against, in one settle currency. Net lies within [net_low, net_high]: one value unless open
    orders may still move it."""

    gross_exposure: Decimal = ZERO
    net_low: Decimal = ZERO
    net_high: Decimal = ZERO
    by_instrument: Mapping[InstrumentName, Decimal] = field(default_factory=dict)
    """Sum of |notional| of each instrument that is held."""
    missing_prices: frozenset[str] = frozenset()
    """Instruments that are held and have no mark; their exposure is not counted."""
    unrealized_pnl: Decimal = ZERO
    day: DayResult = NO_RESULT

    @property
    def net_exposure(self) -> Decimal:
        """The greatest magnitude that net exposure may have."""
        return max(self.net_low.copy_abs(), self.net_high.copy_abs())

    @property
    def is_complete(self) -> bool:
        """Whether every held instrument has a price."""
        return not self.missing_prices


class LimitCheck(NamedTuple):
    """One limit, and where the value stands."""

    kind: LimitKind
    instrument: InstrumentName | None
    """Only of INSTRUMENT_EXPOSURE."""
    limit: Decimal
    value: Decimal
    """As far as it is known. LOSS_PER_DAY: a loss is positive."""
    state: LimitState

    @property
    def subject(self) -> tuple[LimitKind, InstrumentName | None]:
        """Which limit it is."""
        return (self.kind, self.instrument)


@dataclass(frozen=True, slots=True)
class LimitsState:
    """All limits that are set in one currency, and where each stands."""

    checks: tuple[LimitCheck, ...] = ()

    @property
    def limit_exceeded(self) -> LimitState:
        """EXCEEDED where any limit is, else UNKNOWN where any may be, else WITHIN; also where none is set."""
        states = {check.state for check in self.checks}
        for state in (LimitState.EXCEEDED, LimitState.UNKNOWN):
            if state in states:
                return state
        return LimitState.WITHIN

    @property
    def exceeded(self) -> tuple[LimitCheck, ...]:
        """The limits that are exceeded."""
        return tuple(check for check in self.checks if check.state is LimitState.EXCEEDED)


def check_limit_set(limits: LimitSet, *, field: str = "limits") -> None:
    """Refuses limits that are negative or beyond 1e20, and more than 1,000 instruments. Raises `InvalidField`."""
    amounts = {
        "gross_exposure_max": limits.gross_exposure_max,
        "net_exposure_max": limits.net_exposure_max,
        "instrument_exposure_max": limits.instrument_exposure_max,
        "day_loss_max": limits.day_loss_max,
        **{f"instrument_exposures_max[{name}]": amount for name, amount in limits.instrument_exposures_max.items()},
    }
    for name, amount in amounts.items():
        if amount is not None and not ZERO <= amount < NOTIONAL_LIMIT:
            raise InvalidField(f"{field}.{name}", "must not be negative, and less than 1e20")
    if len(limits.instrument_exposures_max) > NAMED_INSTRUMENTS_MAX:
        raise InvalidField(f"{field}.instrument_exposures_max", f"holds more than {NAMED_INSTRUMENTS_MAX} instruments")


def risk_figures(portfolio: CurrencyPortfolio, day: DayResult = NO_RESULT) -> RiskFigures:
    """What limits are held against, of a portfolio in one currency and its day."""
    held = portfolio.by_instrument.items()
    return RiskFigures(
        gross_exposure=portfolio.gross_exposure,
        net_low=portfolio.net_exposure,
        net_high=portfolio.net_exposure,
        by_instrument={InstrumentName(name): group.exposure for name, group in held if group.open_count},
        missing_prices=frozenset(portfolio.missing_prices),
        unrealized_pnl=portfolio.unrealized_pnl,
        day=day,
    )


@exactly
def figures_of(rows: Iterable[RiskRow]) -> dict[str, RiskFigures]:
    """What limits are held against, by settle currency, of all open positions of an account; without its day."""
    tallies: dict[str, _Tally] = {}
    for row in rows:
        held = row.quantity + row.pending_quantity
        if not held:
            continue
        instrument = row.instrument
        tally = tallies.get(instrument.settle_currency)
        if tally is None:
            tally = tallies[instrument.settle_currency] = _Tally()
        name, price = instrument.name, row.mark
        if price is None:
            tally.missing.add(name)
            tally.by_instrument.setdefault(name, ZERO)
            continue
        worth = value_of(instrument, held, price) * instrument.scale
        size = worth.copy_abs()
        tally.gross += size
        tally.net += worth
        tally.by_instrument[name] = tally.by_instrument.get(name, ZERO) + size
        # What waits for a refold has no cost yet, so it has no part in unrealized PnL either.
        folded = value_of(instrument, row.quantity, price) * instrument.scale if row.pending_quantity else worth
        tally.unrealized += instrument.sign * (folded - row.cost * instrument.scale)
    return {currency: tally.figures() for currency, tally in tallies.items()}


@dataclass(slots=True)
class _Tally:
    gross: Decimal = ZERO
    net: Decimal = ZERO
    unrealized: Decimal = ZERO
    by_instrument: dict[InstrumentName, Decimal] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)

    def figures(self) -> RiskFigures:
        return RiskFigures(
            gross_exposure=self.gross,
            net_low=self.net,
            net_high=self.net,
            by_instrument=self.by_instrument,
            missing_prices=frozenset(self.missing),
            unrealized_pnl=self.unrealized,
        )


@exactly
def results_since(
    openings: Mapping[PositionKey, Sums], rows: Iterable[RiskRow], *, method: CostMethod
) -> dict[str, DayResult]:
    """What fills came to, by settle currency, between what each key had come to at the opening and what it has now.

    Only fills change gross and fees (adjustments touch no realized figure), so the difference is theirs.
    """
    net: dict[str, Decimal] = {}
    unvalued: dict[str, dict[str, Decimal]] = {}
    for row in rows:
        opening, currency = openings[row.key], row.instrument.settle_currency
        gained = row.gross_realized - opening.gross(method) - (row.fees - opening.fees)
        net[currency] = net.get(currency, ZERO) + gained
        if row.unvalued_fees != opening.unvalued_fees:
            _add_unvalued(unvalued.setdefault(currency, {}), before=opening.unvalued_fees, after=row.unvalued_fees)
    return {
        currency: DayResult(total, tuple(sorted(unvalued.get(currency, {}).items()))) for currency, total in net.items()
    }


def _add_unvalued(total: dict[str, Decimal], *, before: Unvalued, after: Unvalued) -> None:
    """Fees of several positions that cancel out were paid at several rates: they stay unknown, as zero."""
    known = dict(before)
    for currency, amount in after:
        total[currency] = total.get(currency, ZERO) + amount - known.pop(currency, ZERO)
    for currency, amount in known.items():
        total[currency] = total.get(currency, ZERO) - amount


def evaluate_limits(limits: LimitSet, figures: RiskFigures) -> LimitsState:
    """Where each limit of a set stands: gross, net, by instrument in order of name, loss of the day."""
    gross, net, loss = limits.gross_exposure_max, limits.net_exposure_max, limits.day_loss_max
    checks: list[LimitCheck] = []
    if gross is not None:
        state = _state_of(figures.gross_exposure, gross, is_complete=figures.is_complete, can_only_grow=True)
        checks.append(LimitCheck(LimitKind.GROSS_EXPOSURE, None, gross, figures.gross_exposure, state))
    if net is not None:
        state = _state_of(figures.net_exposure, net, is_complete=figures.is_complete, can_only_grow=False)
        checks.append(LimitCheck(LimitKind.NET_EXPOSURE, None, net, figures.net_exposure, state))
    for name in sorted({*figures.by_instrument, *limits.instrument_exposures_max}):
        limit = limits.of_instrument(name)
        if limit is not None:
            value, is_complete = figures.by_instrument.get(name, ZERO), name not in figures.missing_prices
            state = _state_of(value, limit, is_complete=is_complete, can_only_grow=True)
            checks.append(LimitCheck(LimitKind.INSTRUMENT_EXPOSURE, name, limit, value, state))
    if loss is not None:
        checks.append(_day_check(loss, figures, counts_unrealized=limits.counts_unrealized))
    return LimitsState(tuple(checks))


@exactly
def _day_check(limit: Decimal, figures: RiskFigures, *, counts_unrealized: bool) -> LimitCheck:
    day = figures.day
    result = day.net_realized + (figures.unrealized_pnl if counts_unrealized else ZERO)
    has_prices = figures.is_complete or not counts_unrealized
    state = _state_of(
        -result, limit, is_complete=day.is_known and has_prices, can_only_grow=day.can_only_be_worse and has_prices
    )
    return LimitCheck(LimitKind.LOSS_PER_DAY, None, limit, -result if result else ZERO, state)


def _state_of(value: Decimal, limit: Decimal, *, is_complete: bool, can_only_grow: bool) -> LimitState:
    if value > limit and (is_complete or can_only_grow):
        return LimitState.EXCEEDED
    return LimitState.WITHIN if is_complete else LimitState.UNKNOWN
