"""Portfolio sums per settle currency, limits, and the features of one position."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from .exact import RATIO_PLACES, half_even
from .outcome import OraclePosition

_ZERO = Fraction(0)
_MICROSECONDS_PER_MINUTE = 60_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleHolding:
    """A position as a portfolio sees it; notional and unrealized are None without a mark."""

    instrument: str
    settle_currency: str
    quantity: Fraction
    realized: Fraction
    notional: Fraction | None
    unrealized: Fraction | None
    book: str = "main"
    stale: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleGroup:
    """The part of one instrument or book: gross exposure, sums, signed quantity."""

    exposure: Fraction
    unrealized: Fraction
    realized: Fraction
    quantity: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class OraclePortfolio:
    """One settle currency. `short_exposure` is unsigned, `net_exposure` is also the value."""

    gross_exposure: Fraction
    net_exposure: Fraction
    long_exposure: Fraction
    short_exposure: Fraction
    unrealized: Fraction
    realized: Fraction
    total: Fraction
    open_count: int
    long_count: int
    short_count: int
    by_instrument: Mapping[str, OracleGroup]
    by_book: Mapping[str, OracleGroup]
    stale_prices: tuple[str, ...]
    missing_prices: tuple[str, ...]
    complete: bool


def holding(
    position: OraclePosition, *, mark: Fraction | None, method: str = "AVERAGE", stale: bool = False
) -> OracleHolding:
    """The portfolio's view of a replayed position at a mark."""
    terms = position.terms
    notional = terms.value(position.quantity, mark) if mark is not None else None
    return OracleHolding(
        instrument=position.key.instrument,
        settle_currency=terms.settle_currency,
        quantity=position.quantity,
        realized=position.figures[method].realized_pnl,
        notional=notional,
        unrealized=position.unrealized(mark, method=method),
        book=position.key.book,
        stale=stale,
    )


def portfolio(holdings: Iterable[OracleHolding], *, currencies: Iterable[str] = ()) -> dict[str, OraclePortfolio]:
    """The portfolio of each settle currency; a named currency without positions is all zeros."""
    by_currency: dict[str, list[OracleHolding]] = {currency: [] for currency in currencies}
    for row in holdings:
        by_currency.setdefault(row.settle_currency, []).append(row)
    return {currency: _one_currency(rows) for currency, rows in by_currency.items()}


def _one_currency(rows: list[OracleHolding]) -> OraclePortfolio:
    opened = [row for row in rows if row.quantity != 0]
    notionals = [row.notional for row in opened if row.notional is not None]
    long_exposure = sum((each for each in notionals if each > 0), _ZERO)
    short_exposure = -sum((each for each in notionals if each < 0), _ZERO)
    everything = _group(rows)
    missing = sorted({row.instrument for row in opened if row.notional is None})
    return OraclePortfolio(
        gross_exposure=everything.exposure,
        net_exposure=sum(notionals, _ZERO),
        long_exposure=long_exposure,
        short_exposure=short_exposure,
        unrealized=everything.unrealized,
        realized=everything.realized,
        total=everything.unrealized + everything.realized,
        open_count=len(opened),
        long_count=sum(row.quantity > 0 for row in opened),
        short_count=sum(row.quantity < 0 for row in opened),
        by_instrument=_groups((row.instrument, row) for row in rows),
        by_book=_groups((row.book, row) for row in rows),
        stale_prices=tuple(sorted({row.instrument for row in opened if row.stale})),
        missing_prices=tuple(missing),
        complete=not missing,
    )


def _groups(named: Iterable[tuple[str, OracleHolding]]) -> dict[str, OracleGroup]:
    rows: dict[str, list[OracleHolding]] = {}
    for name, row in named:
        rows.setdefault(name, []).append(row)
    return {name: _group(members) for name, members in rows.items()}


def _group(rows: list[OracleHolding]) -> OracleGroup:
    return OracleGroup(
        exposure=sum((abs(row.notional) for row in rows if row.notional is not None), _ZERO),
        unrealized=sum((row.unrealized for row in rows if row.unrealized is not None), _ZERO),
        realized=sum((row.realized for row in rows), _ZERO),
        quantity=sum((row.quantity for row in rows), _ZERO),
    )


def limit_exceeded(exposure: Fraction, *, limit: Fraction | None, complete: bool) -> bool | None:
    """Whether a set limit is strictly exceeded; None (unknown) over an incomplete exposure."""
    if limit is None:
        return False
    return exposure > limit if complete else None


def unrealized_pnl_pct(position: OraclePosition, *, mark: Fraction | None, method: str = "AVERAGE") -> Fraction | None:
    """Unrealized PnL in percent of the cost at the average; None when flat or without a mark."""
    average = position.figures[method].average
    unrealized = position.unrealized(mark, method=method)
    if average is None or average == 0 or unrealized is None:
        return None
    size = abs(position.quantity) * position.terms.multiplier
    basis = size / average if position.terms.inverse else size * average
    return half_even(unrealized / basis * 100, RATIO_PLACES)


def time_held_minutes(position: OraclePosition, *, now: int) -> int | None:
    """Whole minutes since opening, or between opening and closing; None for a row without trips."""
    if position.opened_at is None:
        return None
    end = now if position.closed_at is None else position.closed_at
    return (end - position.opened_at) // _MICROSECONDS_PER_MINUTE


def position_size_norm(notional: Fraction | None, *, gross_exposure: Fraction) -> Fraction | None:
    """The share of a position in the gross exposure; None without a mark or an exposure."""
    if notional is None or gross_exposure == 0:
        return None
    return half_even(abs(notional) / gross_exposure, RATIO_PLACES)
