"""What is traded: the multiplier, the currencies, and how a price becomes money.

Two kinds. A *linear* contract is worth quantity x price x multiplier in its settle currency. An *inverse* contract is
worth quantity x multiplier / price, which is rounded to 40 places; its formulas are those of the linear one with
`value` exchanged and the sign turned round (source: DOMAIN 3, the harmonic average).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from steelyard.accounting.keys import InstrumentName
from steelyard.accounting.units import ONE, PLACES_18, PLACES_40, exactly, product, quotient


class InstrumentKind(StrEnum):
    """How price relates to money."""

    LINEAR = "LINEAR"
    INVERSE = "INVERSE"


_LINEAR = InstrumentKind.LINEAR  # a name of its own: looking members up in their class is slow


class PriceRule(StrEnum):
    """Which prices are legal: POSITIVE, or ANY (spreads, expiry; linear only)."""

    POSITIVE = "POSITIVE"
    ANY = "ANY"


@dataclass(frozen=True, slots=True)
class Instrument:
    """The record that gives an instrument's numbers their meaning; immutable once a fill exists."""

    name: InstrumentName
    kind: InstrumentKind
    multiplier: Decimal
    """Money (linear) or contracts' worth (inverse) per point and unit of quantity; greater than zero."""
    quote_currency: str
    settle_currency: str
    price_rule: PriceRule = PriceRule.POSITIVE
    is_root: bool = False
    """A futures root (`MNQ`): contracts whose first token is this name take their record from it."""

    @property
    def sign(self) -> Decimal:
        """+1 linear, -1 inverse: a long inverse position gains what its value loses."""
        return ONE if self.kind is _LINEAR else -ONE

    @property
    def scale(self) -> Decimal:
        """What `value` still has to be multiplied by to be money: the multiplier, or 1 where it is inside."""
        return self.multiplier if self.kind is _LINEAR else ONE

    def contract(self, name: InstrumentName) -> Instrument:
        """The record of one contract of this root."""
        return Instrument(
            name=name,
            kind=self.kind,
            multiplier=self.multiplier,
            quote_currency=self.quote_currency,
            settle_currency=self.settle_currency,
            price_rule=self.price_rule,
        )


def value_of(instrument: Instrument, quantity: Decimal, price: Decimal) -> Decimal:  # noqa: PLR0917 - as in arithmetic
    """Signed value of a quantity at a price, before `scale`: points x quantity, or quantity x multiplier / price."""
    if instrument.kind is _LINEAR:
        return product(quantity, price)
    return quotient(product(quantity, instrument.multiplier), price, PLACES_40)


def average_price(instrument: Instrument, quantity: Decimal, value: Decimal) -> Decimal:  # noqa: PLR0917 - as in arithmetic
    """The price at which `quantity` has `value` (before scale), to 18 places; inverse: the harmonic average."""
    if instrument.kind is _LINEAR:
        return quotient(value, quantity, PLACES_18)
    return quotient(product(quantity.copy_abs(), instrument.multiplier), value.copy_abs(), PLACES_18)


@exactly
def notional(instrument: Instrument, quantity: Decimal, price: Decimal) -> Decimal:  # noqa: PLR0917 - as in arithmetic
    """Signed notional in settle currency: quantity x price x multiplier, inverse quantity x multiplier / price."""
    return value_of(instrument, quantity, price) * instrument.scale
