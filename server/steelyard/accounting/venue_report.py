"""What an exchange says a position is, against what its fills say (DOMAIN 7)."""

from __future__ import annotations

from decimal import Decimal

from steelyard.accounting.units import exactly

AVERAGE_TOLERANCE = Decimal("0.001")
"""A reported average replaces the stored one only if it differs by strictly more than this part of it."""


@exactly
def replaces_average(*, stored: Decimal, reported: Decimal) -> bool:
    """|reported - stored| / stored > 0.001, strictly: 50000 against 50050 keeps, 50050.01 replaces."""
    return abs(reported - stored) > AVERAGE_TOLERANCE * abs(stored)
