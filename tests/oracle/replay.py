"""The fold: entries of one key in order, from flat, one at a time.

`replay` answers every key from its surviving entries; the readings it follows where the law is silent
are numbered in the package's docstring.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from .entries import (
    OracleAdjustment,
    OracleEntry,
    OracleFill,
    OracleFunding,
    OracleInstrument,
    OracleKey,
    OracleRevision,
    Terms,
    fee_value,
    fold_order,
    key_of,
    surviving,
    terms_of,
)
from .exact import FEE_SHARE_PLACES, Instant, half_even, microseconds, number, sign
from .methods import ZERO, AverageHolding, LotHolding, Part
from .outcome import LOT_METHODS, METHODS, OracleFigures, OracleFillEffect, OraclePosition
from .trips import FoldedTrip, add_amounts

_LEG_DIRECTION = {"NET": 0, "LONG": 1, "SHORT": -1}


def replay(
    entries: Iterable[OracleEntry],
    *,
    instruments: Mapping[str, OracleInstrument],
    revisions: Iterable[OracleRevision] = (),
    as_of: Instant | None = None,
    known_at: Instant | None = None,
) -> dict[OracleKey, OraclePosition]:
    """Every key's position from its surviving entries executed at or before `as_of`, as known at `known_at`.

    `entries` comes in order of arrival, which decides nothing but which of two conflicting contents was
    first. A key all of whose entries are gone (busted, moved, later than `as_of`) is answered flat.
    """
    arrived, corrections = list(entries), list(revisions)
    by_key: dict[OracleKey, list[OracleEntry]] = {key_of(entry): [] for entry in arrived}
    for entry in surviving(arrived, revisions=corrections, known_at=known_at):
        standing = by_key.setdefault(key_of(entry), [])
        if as_of is None or microseconds(entry.executed_at) <= microseconds(as_of):
            standing.append(entry)
    return {key: fold_key(key, standing, instrument=instruments[key.instrument]) for key, standing in by_key.items()}


def fold_key(key: OracleKey, entries: Iterable[OracleEntry], *, instrument: OracleInstrument) -> OraclePosition:
    """One key's position from its entries, given in any order."""
    fold = _Fold(key, terms_of(instrument))
    for entry in sorted(entries, key=fold_order):
        if isinstance(entry, OracleFill):
            fold.fill(entry)
        elif isinstance(entry, OracleAdjustment):
            fold.adjust(entry)
        else:
            fold.fund(entry)
    return fold.position()


@dataclass(slots=True)
class _Fees:
    """A fee and its unvalued companion, handed out pro rata: shares rounded, the rest stays here."""

    valued: Fraction
    unvalued: dict[str, Fraction]

    def share(self, amount: Fraction, whole: Fraction) -> "_Fees":
        if amount == whole:
            taken = _Fees(self.valued, dict(self.unvalued))
        else:
            ratio = amount / whole
            unvalued = {name: half_even(fee * ratio, FEE_SHARE_PLACES) for name, fee in self.unvalued.items()}
            taken = _Fees(half_even(self.valued * ratio, FEE_SHARE_PLACES), unvalued)
        self.valued -= taken.valued
        for name, fee in taken.unvalued.items():
            self.unvalued[name] -= fee
        return taken


@dataclass(slots=True)
class _Fold:
    """A key in the middle of its fold."""

    key: OracleKey
    terms: Terms
    quantity: Fraction = ZERO
    unmatched: Fraction = ZERO
    fees: Fraction = ZERO
    reducing_fees: Fraction = ZERO
    funding: Fraction = ZERO
    unvalued: dict[str, Fraction] = field(default_factory=dict)
    fill_count: int = 0
    trips: list[FoldedTrip] = field(default_factory=list)
    effects: list[OracleFillEffect] = field(default_factory=list)
    by_average: AverageHolding = field(init=False)
    by_lots: dict[str, LotHolding] = field(init=False)

    def __post_init__(self) -> None:
        self.by_average = AverageHolding(self.terms)
        self.by_lots = {name: LotHolding(self.terms, name) for name in LOT_METHODS}

    def fill(self, fill: OracleFill) -> None:
        """Close what is opposite, then open with the rest, or keep the rest unmatched on a leg."""
        whole = number(fill.quantity)
        delta = whole if fill.side == "BUY" else -whole
        valued, unvalued = fee_value(fill, self.terms.settle_currency)
        fees = _Fees(valued, dict(unvalued))
        self.fill_count += 1
        self.fees += valued
        add_amounts(self.unvalued, unvalued)
        gross = dict.fromkeys(METHODS, ZERO)
        left = whole
        if self.quantity * delta < 0:
            closing = min(whole, abs(self.quantity))
            left -= closing
            gross = self._close(fill, sign(delta) * closing, fees.share(closing, whole), flips=left > 0)
        if left > 0 and _LEG_DIRECTION[self.key.leg] * delta < 0:
            self.unmatched += left
        elif left > 0:
            self._open(fill, sign(delta) * left, fees)
        self.effects.append(
            OracleFillEffect(
                fill_id=fill.fill_id, executed_at=microseconds(fill.executed_at), gross_pnl=gross, fee=valued
            )
        )

    def _part(self, fill: OracleFill, delta: Fraction, fees: _Fees) -> Part:
        price = number(fill.price)
        return Part(
            entry_id=fill.fill_id,
            at=microseconds(fill.executed_at),
            delta=delta,
            price=price,
            value=self.terms.value(delta, price),
            fee=fees.valued,
        )

    def _close(self, fill: OracleFill, delta: Fraction, fees: _Fees, *, flips: bool) -> dict[str, Fraction]:
        part, trip = self._part(fill, delta, fees), self.trips[-1]
        gross = {"AVERAGE": self.by_average.reduce(part)}
        for name, holding in self.by_lots.items():
            pairs = holding.reduce(part)
            trip.pairs[name].extend(pairs)
            gross[name] = sum((pair.gross_pnl for pair in pairs), ZERO)
        for name in METHODS:
            trip.gross[name] += gross[name]
        self.quantity += delta
        self.reducing_fees += part.fee
        trip.leave(part)
        add_amounts(trip.unvalued, fees.unvalued)
        relation = "decreased"
        if self.quantity == 0:
            trip.closed_at = part.at
            relation = "reversed" if flips and self.key.leg == "NET" else "closed"
        trip.relations.append((fill.fill_id, relation))
        return gross

    def _open(self, fill: OracleFill, delta: Fraction, fees: _Fees) -> None:
        part, relation = self._part(fill, delta, fees), "increased"
        if self.quantity == 0:
            relation = "opened"
            self._begin(fill.fill_id, direction=sign(delta), at=part.at)
        self.by_average.increase(part)
        for holding in self.by_lots.values():
            holding.increase(part)
        self.quantity += delta
        trip = self.trips[-1]
        trip.enter(part)
        add_amounts(trip.unvalued, fees.unvalued)
        trip.relations.append((fill.fill_id, relation))

    def _begin(self, entry_id: str, *, direction: int, at: int) -> None:
        trip = FoldedTrip(key=self.key, terms=self.terms, first_entry_id=entry_id, direction=direction, opened_at=at)
        self.trips.append(trip)

    def adjust(self, adjustment: OracleAdjustment) -> None:
        """Set quantity and/or average; what is not given stays as the average method has it."""
        before, held_at = self.quantity, self.by_average.average
        after = before if adjustment.quantity is None else number(adjustment.quantity)
        average = held_at if adjustment.average is None else half_even(number(adjustment.average), 18)
        if after == 0:
            average = None
        elif average is None:
            raise ValueError(f"{adjustment.adjustment_id}: an adjustment from flat needs an average")
        if after * _LEG_DIRECTION[self.key.leg] < 0:
            raise ValueError(f"{adjustment.adjustment_id}: the quantity is against its leg")
        at, entry_id = microseconds(adjustment.executed_at), adjustment.adjustment_id
        self.by_average.restate(after, average)
        for holding in self.by_lots.values():
            holding.restate(after, average, entry_id=entry_id, at=at)
        self.quantity = after
        if before != 0 and held_at is not None and sign(after) != sign(before):
            self.trips[-1].restate(-before, held_at)
            self.trips[-1].closed_at = at
        if after == 0 or average is None:
            return
        if sign(after) != sign(before):
            self._begin(entry_id, direction=sign(after), at=at)
            self.trips[-1].restate(after, average)
        else:
            shrinks = abs(after) < abs(before)
            self.trips[-1].restate(after - before, held_at if shrinks and held_at is not None else average)

    def fund(self, funding: OracleFunding) -> None:
        """Funding goes to the trip open at its place in the fold, else to the last before it."""
        amount = number(funding.amount)
        self.funding += amount
        if self.trips:
            self.trips[-1].funding += amount

    def _figures(self, method: str) -> OracleFigures:
        holding = self.by_average if method == "AVERAGE" else self.by_lots[method]
        assert holding.quantity == self.quantity
        return OracleFigures(
            average=holding.average,
            cost=holding.cost,
            gross_realized_pnl=holding.gross,
            realized_pnl=holding.gross - self.reducing_fees,
            net_realized_pnl=holding.gross - self.fees + self.funding,
            cash_flow=holding.cash,
        )

    def position(self) -> OraclePosition:
        """The key as it stands now."""
        return OraclePosition(
            key=self.key,
            terms=self.terms,
            quantity=self.quantity,
            unmatched_quantity=self.unmatched,
            figures={name: self._figures(name) for name in METHODS},
            lots={name: holding.open_lots() for name, holding in self.by_lots.items()},
            trips=tuple(trip.finished() for trip in self.trips),
            fees=self.fees,
            funding=self.funding,
            unvalued_fees=dict(self.unvalued),
            fees_complete=not self.unvalued,
            fill_count=self.fill_count,
            opened_at=self.trips[-1].opened_at if self.trips else None,
            closed_at=self.trips[-1].closed_at if self.trips else None,
            effects=tuple(self.effects),
        )
