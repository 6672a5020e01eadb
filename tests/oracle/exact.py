"""Exact numbers of the oracle: decimal text in, fractions inside, half-even rounding by name.

Times are whole microseconds since 1970 in UTC, so that ordering is plain integer ordering.
"""

import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction

Instant = datetime | int

AVERAGE_PLACES = 18
RATIO_PLACES = 18
FEE_SHARE_PLACES = 18
INVERSE_PLACES = 40
MONEY_PLACES = 18

_DECIMAL_TEXT = re.compile(r"-?(0|[1-9][0-9]{0,19})(\.[0-9]{1,18})?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def number(text: str) -> Fraction:
    """The exact value of a decimal text of the wire; ValueError for any other text."""
    if not _DECIMAL_TEXT.fullmatch(text):
        raise ValueError(f"not a decimal text: {text!r}")
    return Fraction(text)


def half_even(value: Fraction, places: int) -> Fraction:
    """The value rounded to so many decimal places, ties to the even digit."""
    scaled = value * 10**places
    whole, rest = divmod(scaled.numerator, scaled.denominator)
    twice = 2 * rest
    if twice > scaled.denominator or (twice == scaled.denominator and whole % 2 == 1):
        whole += 1
    return Fraction(whole, 10**places)


def sign(value: Fraction) -> int:
    """-1, 0 or +1."""
    return (value > 0) - (value < 0)


def microseconds(instant: Instant) -> int:
    """The instant as microseconds since 1970 UTC; ValueError for a time without a zone."""
    if isinstance(instant, int):
        return instant
    if instant.tzinfo is None:
        raise ValueError("a time without a zone is not an instant")
    return (instant - _EPOCH) // timedelta(microseconds=1)


def moment(at: int) -> datetime:
    """The aware UTC time of a microsecond count."""
    return _EPOCH + timedelta(microseconds=at)


def wire(value: Fraction, places: int = MONEY_PLACES) -> str:
    """Canonical decimal text, rounded half-even: no exponent, no trailing zeros, no negative zero."""
    scaled = half_even(value, places) * 10**places
    digits = str(abs(scaled.numerator)).rjust(places + 1, "0")
    head, tail = digits[: len(digits) - places], digits[len(digits) - places :].rstrip("0")
    text = f"{head}.{tail}" if tail else head
    return f"-{text}" if scaled < 0 else text
