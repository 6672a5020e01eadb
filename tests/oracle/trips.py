"""Round trips while they are being folded, and their finished form."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from .entries import OracleKey, Terms
from .exact import AVERAGE_PLACES, half_even
from .methods import ZERO, Part
from .outcome import LOT_METHODS, METHODS, OraclePair, OracleTrip


@dataclass(slots=True)
class Side:
    """The entered or the exited side of a trip: an unsigned quantity and its unsigned value."""

    quantity: Fraction = ZERO
    value: Fraction = ZERO

    def add(self, quantity: Fraction, value: Fraction) -> None:
        """Count more of it; the caller has multiplied its direction in."""
        self.quantity += quantity
        self.value += value


@dataclass(slots=True, kw_only=True)
class FoldedTrip:
    """Accumulates one cycle. `direction` is +1 long, -1 short."""

    key: OracleKey
    terms: Terms
    first_entry_id: str
    direction: int
    opened_at: int
    adjusted: bool = False
    closed_at: int | None = None
    entered: Side = field(default_factory=Side)
    exited: Side = field(default_factory=Side)
    maximum: Fraction = ZERO
    gross: dict[str, Fraction] = field(default_factory=lambda: dict.fromkeys(METHODS, ZERO))
    pairs: dict[str, list[OraclePair]] = field(default_factory=lambda: {name: [] for name in LOT_METHODS})
    fees: Fraction = ZERO
    reducing_fees: Fraction = ZERO
    funding: Fraction = ZERO
    unvalued: dict[str, Fraction] = field(default_factory=dict)
    relations: list[tuple[str, str]] = field(default_factory=list)

    def enter(self, part: Part) -> None:
        """An opening or increasing part."""
        self.entered.add(self.direction * part.delta, self.direction * part.value)
        self.fees += part.fee
        self._reach()

    def leave(self, part: Part) -> None:
        """A reducing or closing part."""
        self.exited.add(-self.direction * part.delta, -self.direction * part.value)
        self.fees += part.fee
        self.reducing_fees += part.fee

    def restate(self, change: Fraction, price: Fraction) -> None:
        """An adjustment's signed change of quantity, entered or exited at a price."""
        self.adjusted = True
        grown = self.direction * change
        if grown > 0:
            self.entered.add(grown, self.terms.value(grown, price))
        elif grown < 0:
            self.exited.add(-grown, self.terms.value(-grown, price))
        self._reach()

    def _reach(self) -> None:
        self.maximum = max(self.maximum, self.entered.quantity - self.exited.quantity)

    def finished(self) -> OracleTrip:
        """The trip as it stands now."""
        entry = self.terms.mean_price(self.entered.quantity, self.entered.value)
        leave = points = weighted = None
        if self.closed_at is not None:
            leave = self.terms.mean_price(self.exited.quantity, self.exited.value)
            points = self.direction * (leave - entry)
            weighted = points * self.exited.quantity
        realized = {name: gross - self.reducing_fees for name, gross in self.gross.items()}
        net = {name: gross - self.fees + self.funding for name, gross in self.gross.items()}
        return OracleTrip(
            key=self.key,
            settle_currency=self.terms.settle_currency,
            first_entry_id=self.first_entry_id,
            direction="LONG" if self.direction > 0 else "SHORT",
            entered_quantity=self.entered.quantity,
            exited_quantity=self.exited.quantity,
            open_quantity=self.entered.quantity - self.exited.quantity,
            max_quantity=self.maximum,
            average_entry_exact=entry,
            average_entry=half_even(entry, AVERAGE_PLACES),
            average_exit_exact=leave,
            average_exit=None if leave is None else half_even(leave, AVERAGE_PLACES),
            points_per_contract=points,
            points_weighted=weighted,
            gross_pnl=dict(self.gross),
            realized_pnl=realized,
            net_pnl=net,
            fees=self.fees,
            funding=self.funding,
            unvalued_fees=dict(self.unvalued),
            fees_complete=not self.unvalued,
            opened_at=self.opened_at,
            closed_at=self.closed_at,
            fill_count=len(self.relations),
            relations=tuple(self.relations),
            adjusted=self.adjusted,
            pairs={name: tuple(pairs) for name, pairs in self.pairs.items()},
        )


def add_amounts(total: dict[str, Fraction], more: Mapping[str, Fraction]) -> None:
    """Add amounts per currency in place."""
    for currency, amount in more.items():
        total[currency] = total.get(currency, ZERO) + amount
