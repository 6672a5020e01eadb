"""The two ways to hold a cost: a weighted average, and lots closed in FIFO, LIFO or HIFO order."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from .entries import Terms
from .exact import AVERAGE_PLACES, FEE_SHARE_PLACES, half_even, sign
from .outcome import OracleLot, OraclePair

ZERO = Fraction(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A fill, or the closing or opening part of one that flips. `delta` is signed, `value` is its value."""

    entry_id: str
    at: int
    delta: Fraction
    price: Fraction
    value: Fraction
    fee: Fraction


@dataclass(slots=True)
class AverageHolding:
    """Weighted average: reductions leave the average alone, a rounding rest stays in the cost."""

    terms: Terms
    quantity: Fraction = ZERO
    cost: Fraction = ZERO
    average: Fraction | None = None
    gross: Fraction = ZERO
    cash: Fraction = ZERO

    def increase(self, part: Part) -> None:
        self.quantity += part.delta
        self.cost += part.value
        self.cash += self.terms.cash_sign * part.value
        self.average = half_even(self.terms.mean_price(self.quantity, self.cost), AVERAGE_PLACES)

    def reduce(self, part: Part) -> Fraction:
        """Take off at most what is held; answers the gross result."""
        assert self.average is not None
        if self.quantity + part.delta == 0:
            relieved, self.average = self.cost, None
        else:
            relieved = self.terms.value(-part.delta, self.average)
        gross = self.terms.cash_sign * (part.value + relieved)
        self.quantity += part.delta
        self.cost -= relieved
        self.cash += self.terms.cash_sign * part.value
        self.gross += gross
        return gross

    def restate(self, quantity: Fraction, average: Fraction | None) -> None:
        """An adjustment: cash flow bears the change of cost, no realized figure moves."""
        cost = self.terms.value(quantity, average) if average is not None else ZERO
        self.cash += self.terms.cash_sign * (cost - self.cost)
        self.quantity, self.cost, self.average = quantity, cost, average


@dataclass(slots=True)
class _OpenLot:
    entry_id: str
    at: int
    quantity: Fraction
    price: Fraction
    cost: Fraction
    fee: Fraction

    def take(self, amount: Fraction, terms: Terms) -> tuple[Fraction, Fraction]:
        """Remove an unsigned amount; answers the cost and the fee that leave with it."""
        if amount == abs(self.quantity):
            cost, fee = self.cost, self.fee
        else:
            cost = terms.value(sign(self.quantity) * amount, self.price)
            fee = half_even(self.fee * amount / abs(self.quantity), FEE_SHARE_PLACES)
        self.quantity -= sign(self.quantity) * amount
        self.cost -= cost
        self.fee -= fee
        return cost, fee


def _first(lots: list[_OpenLot]) -> int:
    return 0


def _last(lots: list[_OpenLot]) -> int:
    return len(lots) - 1


def _dearest(lots: list[_OpenLot]) -> int:
    """The highest price of a long, the lowest of a short; the earliest of equals."""
    prices = [lot.price for lot in lots]
    wanted = max(prices) if lots[0].quantity > 0 else min(prices)
    return prices.index(wanted)


NEXT_LOT: Mapping[str, Callable[[list[_OpenLot]], int]] = {"FIFO": _first, "LIFO": _last, "HIFO": _dearest}


@dataclass(slots=True)
class LotHolding:
    """Lots in fold order, each with its own price, cost and remaining entry fee."""

    terms: Terms
    method: str
    lots: list[_OpenLot] = field(default_factory=list)
    gross: Fraction = ZERO
    cash: Fraction = ZERO

    @property
    def quantity(self) -> Fraction:
        return sum((lot.quantity for lot in self.lots), ZERO)

    @property
    def cost(self) -> Fraction:
        return sum((lot.cost for lot in self.lots), ZERO)

    @property
    def average(self) -> Fraction | None:
        if not self.lots:
            return None
        return half_even(self.terms.mean_price(self.quantity, self.cost), AVERAGE_PLACES)

    def increase(self, part: Part) -> None:
        self.lots.append(_OpenLot(part.entry_id, part.at, part.delta, part.price, part.value, part.fee))
        self.cash += self.terms.cash_sign * part.value

    def reduce(self, part: Part) -> list[OraclePair]:
        """Take off at most what is held; answers the pairs, whose gross sums to what was realized."""
        pairs = []
        left, value_left, fee_left = abs(part.delta), part.value, part.fee
        while left > 0:
            index = NEXT_LOT[self.method](self.lots)
            lot = self.lots[index]
            amount = min(left, abs(lot.quantity))
            value, exit_fee = value_left, fee_left
            if amount < left:
                value = self.terms.value(sign(part.delta) * amount, part.price)
                exit_fee = half_even(fee_left * amount / left, FEE_SHARE_PLACES)
            relieved, entry_fee = lot.take(amount, self.terms)
            gross = self.terms.cash_sign * (value + relieved)
            pairs.append(
                OraclePair(
                    entry_id=lot.entry_id,
                    exit_id=part.entry_id,
                    quantity=amount,
                    entry_price=lot.price,
                    exit_price=part.price,
                    entered_at=lot.at,
                    exited_at=part.at,
                    gross_pnl=gross,
                    entry_fee=entry_fee,
                    exit_fee=exit_fee,
                )
            )
            left, value_left, fee_left = left - amount, value_left - value, fee_left - exit_fee
            if lot.quantity == 0:
                self.lots.pop(index)
        self.cash += self.terms.cash_sign * part.value
        self.gross += sum((pair.gross_pnl for pair in pairs), ZERO)
        return pairs

    def restate(self, quantity: Fraction, average: Fraction | None, *, entry_id: str, at: int) -> None:
        """An adjustment: one lot at the new average, which inherits the open entry fees of its trip."""
        cost = self.terms.value(quantity, average) if average is not None else ZERO
        self.cash += self.terms.cash_sign * (cost - self.cost)
        continues = sign(self.quantity) == sign(quantity)
        fee = sum((lot.fee for lot in self.lots), ZERO) if continues else ZERO
        self.lots = [] if average is None else [_OpenLot(entry_id, at, quantity, average, cost, fee)]

    def open_lots(self) -> tuple[OracleLot, ...]:
        """What is open, in fold order."""
        return tuple(
            OracleLot(
                entry_id=lot.entry_id,
                opened_at=lot.at,
                quantity=lot.quantity,
                price=lot.price,
                cost=lot.cost,
                fee=lot.fee,
            )
            for lot in self.lots
        )
