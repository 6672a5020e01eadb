"""Exact numbers: what a decimal may look like, how it is written, and the few named functions that round.

Arithmetic runs with precision 200 and traps on anything inexact, so a result is either exact or an error. Rounding
happens only in the functions here, half-even: averages, ratios and fee shares to 18 places, values of inverse
contracts to 40. A quotient is first taken with ROUND_05UP, whose last digit remembers that something was cut off,
so that the second rounding is that of the exact quotient (double rounding cannot go wrong).
"""

from __future__ import annotations

import decimal
import re
from collections.abc import Callable
from decimal import Decimal
from functools import wraps
from typing import NewType, ParamSpec, TypeVar

from steelyard.accounting.errors import InvalidField

Price = NewType("Price", Decimal)
Quantity = NewType("Quantity", Decimal)
Money = NewType("Money", Decimal)
Ratio = NewType("Ratio", Decimal)

ZERO = Decimal(0)
ONE = Decimal(1)

EXACT = decimal.Context(
    prec=200,
    rounding=decimal.ROUND_HALF_EVEN,
    traps=[
        decimal.Inexact,
        decimal.InvalidOperation,
        decimal.DivisionByZero,
        decimal.Overflow,
        decimal.FloatOperation,
    ],
)
_ROUNDING_TRAPS = [decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow, decimal.FloatOperation]
_STICKY = decimal.Context(prec=120, rounding=decimal.ROUND_05UP, traps=_ROUNDING_TRAPS)
_HALF_EVEN = decimal.Context(prec=200, rounding=decimal.ROUND_HALF_EVEN, traps=_ROUNDING_TRAPS)
_multiply = EXACT.multiply
_divide = _STICKY.divide
_half_even = _HALF_EVEN.quantize

DECIMAL_PATTERN = r"-?(0|[1-9][0-9]{0,19})(\.[0-9]{1,18})?"
_DECIMAL = re.compile(DECIMAL_PATTERN, re.ASCII)

PLACES_18 = Decimal(1).scaleb(-18)
PLACES_40 = Decimal(1).scaleb(-40)
PLACES_3 = Decimal(1).scaleb(-3)
NOTIONAL_LIMIT = Decimal(10) ** 20
"""A fill whose |quantity x price x multiplier| reaches this is refused (NUMERIC_LIMIT)."""

P = ParamSpec("P")
R = TypeVar("R")


def exactly(function: Callable[P, R]) -> Callable[P, R]:
    """Runs a function under the exact context: inexact results raise instead of rounding in silence."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        before = decimal.getcontext()
        if before is EXACT:
            return function(*args, **kwargs)  # most of them are called by each other
        decimal.setcontext(EXACT)  # itself, no copy: nothing reads or changes what stands in it
        try:
            return function(*args, **kwargs)
        finally:
            decimal.setcontext(before)

    return run


def parse_decimal(text: str, *, field: str) -> Decimal:
    """The number that a plain decimal text names; checked before `Decimal()` sees it.

    At most 20 integer digits and 18 places, no exponent, no sign but a leading minus. Raises `InvalidField`.
    """
    if len(text) > 41 or _DECIMAL.fullmatch(text) is None:
        raise InvalidField(field, "must be a plain decimal such as -12.5, with at most 20 digits and 18 places")
    return Decimal(text)


def parse_positive(text: str, *, field: str) -> Decimal:
    """Like `parse_decimal`, for numbers that must be greater than zero."""
    value = parse_decimal(text, field=field)
    if value <= 0:
        raise InvalidField(field, "must be greater than zero")
    return value


def decimal_text(value: Decimal) -> str:
    """The canonical text of an exact number: no exponent, no trailing zeros, no minus zero."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def money_text(value: Decimal) -> str:
    """Money as it goes over the wire: rounded half-even to 18 places, canonical."""
    return decimal_text(round_places(value, PLACES_18))


def round_places(value: Decimal, places: Decimal) -> Decimal:
    """An exact number rounded half-even to the exponent of `places`."""
    return _half_even(value, places)


def product(left: Decimal, right: Decimal) -> Decimal:
    """left x right, exact whatever the context of the caller."""
    return _multiply(left, right)


def quotient(numerator: Decimal, denominator: Decimal, places: Decimal) -> Decimal:  # noqa: PLR0917 - as in arithmetic
    """numerator / denominator, rounded once, half-even, as the exact quotient would be."""
    return _half_even(_divide(numerator, denominator), places)


def ratio_of(part: Decimal, whole: Decimal) -> Ratio:
    """part / whole to 18 places."""
    return Ratio(quotient(part, whole, PLACES_18))


def fee_share(fee: Decimal, part: Decimal, whole: Decimal) -> Decimal:  # noqa: PLR0917 - as in arithmetic
    """The share of a fee that falls on `part` of `whole`, to 18 places; the rest stays with the other part."""
    return quotient(product(fee, part), whole, PLACES_18)


def valued_fee(fee: Decimal, rate: Decimal) -> Decimal:
    """A fee in another currency valued at a rate, to 18 places."""
    return round_places(product(fee, rate), PLACES_18)
