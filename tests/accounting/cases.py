"""What the scenario tables share: short ways to write numbers and to compare many at once."""

from decimal import Decimal
from fractions import Fraction

D = Decimal


def exact(*values: object) -> list[object]:
    """Numbers as exact fractions, so that decimals, whole numbers and the oracle's fractions compare."""
    return [Fraction(value) if isinstance(value, Decimal | int | Fraction) else value for value in values]
