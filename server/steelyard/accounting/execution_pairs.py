"""A round trip explained: what each of its fills did, and which entry was closed by which exit.

Pairs are made by the lot method. They add up to the trip's figures exactly: gross by lots is the sum over the pairs,
and fees are those of the pairs, of what is still open, and of what an adjustment or a leg's excess left without a
partner. Shares are rounded to 18 places and the rest stays with the other part: a lot keeps what its pieces leave,
the last pair of an exit takes what the others leave (for inverse contracts, of the values too).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from steelyard.accounting.entries import Entry
from steelyard.accounting.errors import InvariantBroken
from steelyard.accounting.fold import Fold, FoldRules
from steelyard.accounting.instruments import Instrument, average_price, value_of
from steelyard.accounting.keys import Leg
from steelyard.accounting.lots import LotPile, OpenLot
from steelyard.accounting.round_trips import RoundTrip
from steelyard.accounting.units import ZERO, exactly, fee_share
from steelyard.accounting.venue_report import replaces_average

_FEE = 6
"""Where an open lot keeps the entry fee that no pair has taken yet, behind its order."""


class Relation(StrEnum):
    """What a fill did to the trip."""

    OPENED = "OPENED"
    INCREASED = "INCREASED"
    DECREASED = "DECREASED"
    CLOSED = "CLOSED"
    REVERSED = "REVERSED"
    """Closed it and opened the next one with the rest."""


@dataclass(frozen=True, slots=True)
class TripFill:
    """The part of a fill that belongs to the trip."""

    entry_id: str
    executed_at: datetime
    relation: Relation
    quantity: Decimal
    """Signed; of a flip only the part on this side of it."""
    price: Decimal
    fee: Decimal
    """The valued fee share of this part."""


@dataclass(frozen=True, slots=True)
class ExecutionPair:
    """A piece of an entry and the exit that closed it."""

    entry_id: str
    exit_id: str
    quantity: Decimal
    """Greater than zero."""
    entry_price: Decimal
    exit_price: Decimal
    entered_at: datetime
    exited_at: datetime
    gross: Decimal
    """Realized by price alone, settle currency."""
    entry_fee: Decimal
    exit_fee: Decimal

    @property
    def net(self) -> Decimal:
        """Gross less both fee shares."""
        return _net(self)


@exactly
def _net(pair: ExecutionPair) -> Decimal:
    return pair.gross - pair.entry_fee - pair.exit_fee


@dataclass(frozen=True, slots=True)
class TripExplanation:
    """The fills of a trip in fold order, its execution pairs in order of closing, and the fees outside of pairs."""

    fills: tuple[TripFill, ...]
    pairs: tuple[ExecutionPair, ...]
    open_fees: Decimal
    """Entry fees of what is still open."""
    unpaired_fees: Decimal
    """Entry fees of what adjustments took away, and the fees of a leg's excess."""


@exactly
def explain_trip(  # noqa: PLR0917 - what, from what, under what
    trip: RoundTrip, entries: Iterable[Entry], rules: FoldRules
) -> TripExplanation:
    """Explains a trip from the live entries of its key, in fold order: from its opening one on, up to the opening of
    the next trip or further (what lies behind is not looked at).

    Raises `InvariantBroken` where the entries do not give this trip: it is not the one that is stored.
    """
    pairing = _Pairing(rules, trip)
    for entry in entries:
        if not pairing.take(entry):
            break
    found = pairing.explanation()
    gross = sum((pair.gross for pair in found.pairs), ZERO)
    fees = sum((pair.entry_fee + pair.exit_fee for pair in found.pairs), found.open_fees + found.unpaired_fees)
    if gross != trip.sums.gross_lots or fees != trip.sums.fees:
        raise InvariantBroken(f"pairs give gross {gross} and fees {fees} instead of the trip's figures")
    return found


@dataclass(slots=True)
class _Part:
    """A fill, or the part of a flip, that is being paired."""

    entry: Entry
    quantity: Decimal
    price: Decimal
    value: Decimal
    fee: Decimal


@dataclass(slots=True)
class _Pairing:
    """Lots with their open fees while the entries of one trip go by. Values are before scale, like those of a fold."""

    rules: FoldRules
    trip: RoundTrip
    fold: Fold = field(init=False)
    """Folds along: it knows the weighted average, which reports of a venue are compared with."""
    pile: LotPile = field(init=False)
    held: Decimal = ZERO
    cost: Decimal = ZERO
    is_begun: bool = False
    unpaired_fees: Decimal = ZERO
    fills: list[TripFill] = field(default_factory=list)
    pairs: list[ExecutionPair] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fold = Fold(self.rules, flip_part=self.trip.opening_quantity if self.trip.is_flip else None)
        self.pile = LotPile(self.rules.lot_method, is_long=self.trip.is_long)

    @property
    def instrument(self) -> Instrument:
        return self.rules.instrument

    def take(self, entry: Entry) -> bool:
        """Takes the next entry; False where it no longer belongs to the trip."""
        is_over = self.is_begun and not self.held
        if entry.kind == "FUNDING":
            return True
        if entry.kind != "FILL":
            return self._adjust(entry, is_over=is_over)
        quantity, price = entry.quantity, entry.price
        assert quantity is not None
        assert price is not None
        if is_over:
            # Behind its close only the excess of a leg still belongs to the trip.
            if self.rules.leg is Leg.NET or (quantity > ZERO) is self.trip.is_long:
                return False
            self.unpaired_fees += entry.fee
            return True
        if not self.is_begun:
            self._enter(self._opening_part(entry), Relation.OPENED)
        elif (quantity > ZERO) is self.trip.is_long:
            self._enter(self._part(entry, quantity=quantity, fee=entry.fee), Relation.INCREASED)
        else:
            self._leave(entry, quantity=quantity)
        self.fold.feed((entry,))
        return True

    def _part(self, entry: Entry, *, quantity: Decimal, fee: Decimal) -> _Part:
        assert entry.price is not None
        return _Part(entry, quantity, entry.price, value_of(self.instrument, quantity, entry.price), fee)

    def _opening_part(self, entry: Entry) -> _Part:
        part, quantity = self.trip.opening_quantity, entry.quantity
        assert quantity is not None
        closing_fee = fee_share(entry.fee, quantity - part, quantity) if self.trip.is_flip else ZERO
        return self._part(entry, quantity=part, fee=entry.fee - closing_fee)

    def _enter(self, part: _Part, relation: Relation) -> None:
        self.is_begun = True
        self.held += part.quantity
        self.cost += part.value
        self.pile.add([part.quantity, part.price, part.quantity, *part.entry.order, part.fee])
        self._note(part, relation)

    def _note(self, part: _Part, relation: Relation) -> None:
        entry = part.entry
        self.fills.append(TripFill(entry.entry_id, entry.executed_at, relation, part.quantity, part.price, part.fee))

    def _leave(self, entry: Entry, *, quantity: Decimal) -> None:
        closing = -self.held
        rest = quantity - closing
        if rest and (rest > ZERO) is not self.trip.is_long:
            part = self._part(entry, quantity=closing, fee=fee_share(entry.fee, closing, quantity))
            if self.rules.leg is Leg.NET:
                relation = Relation.REVERSED
            else:
                relation = Relation.CLOSED
                self.unpaired_fees += entry.fee - part.fee
        else:
            part = self._part(entry, quantity=quantity, fee=entry.fee)
            relation = Relation.DECREASED if rest else Relation.CLOSED
        self._note(part, relation)
        self._pair(part)

    def _pair(self, part: _Part) -> None:
        """Deals an exit out to the lots in their turn."""
        left, value, fee = part.quantity, part.value, part.fee
        closes = not self.held + part.quantity
        while left:
            lot = self.pile.items[self.pile.first]
            whole_lot = abs(lot[0]) <= abs(left)
            piece = -lot[0] if whole_lot else left
            entry_fee = lot[_FEE] if whole_lot else fee_share(lot[_FEE], piece, -lot[0])
            piece_value, piece_fee = value, fee
            if piece != left:
                piece_value = value_of(self.instrument, piece, part.price)
                piece_fee = fee_share(fee, piece, left)
            relieved = self.cost if closes and piece == left else value_of(self.instrument, -piece, lot[1])
            self._add_pair(lot, part, piece=piece, raw=-piece_value - relieved, fees=(entry_fee, piece_fee))
            self.cost -= relieved
            lot[0] += piece
            lot[_FEE] -= entry_fee
            if whole_lot:
                self.pile.take()
            left, value, fee = left - piece, value - piece_value, fee - piece_fee
        self.held += part.quantity

    def _add_pair(
        self, lot: OpenLot, part: _Part, *, piece: Decimal, raw: Decimal, fees: tuple[Decimal, Decimal]
    ) -> None:
        instrument, exit_ = self.instrument, part.entry
        gross = instrument.sign * instrument.scale * raw
        self.pairs.append(
            ExecutionPair(
                lot[5], exit_.entry_id, abs(piece), lot[1], part.price, lot[3], exit_.executed_at, gross, *fees
            )
        )

    def _adjust(self, entry: Entry, *, is_over: bool) -> bool:
        """Afterwards there is one lot, which inherits the open entry fees; False where another trip begins."""
        held = self.held
        quantity = held if entry.quantity is None else entry.quantity
        continues = bool(held and quantity) and (held > ZERO) is (quantity > ZERO)
        if is_over or not self.is_begun:
            if self.is_begun or not quantity or entry.price is None:
                return not quantity or entry.price is None
            self._hold(entry, quantity=quantity, price=entry.price)
        elif continues:
            price = self._new_price(entry, quantity=quantity)
            if price is not None:
                self._hold(entry, quantity=quantity, price=price)
        elif not quantity or entry.price is not None:
            self.unpaired_fees += self._open_fees()
            self.pile.items.clear()
            self.held = self.cost = ZERO
        self.fold.feed((entry,))
        return True

    def _new_price(self, entry: Entry, *, quantity: Decimal) -> Decimal | None:
        """The price of the one lot after an adjustment; None where a venue's report changes nothing."""
        average, current = entry.price, self.fold.average
        if entry.kind == "VENUE":
            if average is not None and current is not None:
                average = average if replaces_average(stored=current, reported=average) else None
            if average is None and quantity == self.held:
                return None
        return average_price(self.instrument, self.held, self.cost) if average is None else average

    def _hold(self, entry: Entry, *, quantity: Decimal, price: Decimal) -> None:
        fee = self._open_fees()
        self.is_begun = True
        self.held, self.cost = quantity, value_of(self.instrument, quantity, price)
        self.pile.items.clear()
        self.pile.add([quantity, price, quantity, *entry.order, fee])

    def _open_fees(self) -> Decimal:
        return sum((lot[_FEE] for lot in self.pile.items), ZERO)

    def explanation(self) -> TripExplanation:
        return TripExplanation(tuple(self.fills), tuple(self.pairs), self._open_fees(), self.unpaired_fees)
