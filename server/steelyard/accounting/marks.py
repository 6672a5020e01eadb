"""Marks: the latest price of an instrument, with its own time and source, and how fresh it is (DOMAIN 8).

Marks are joined when a question is answered; they never change a position.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from steelyard.accounting.entries import EARLIEST, check_price
from steelyard.accounting.errors import InvalidField
from steelyard.accounting.instruments import Instrument

STALE_AFTER = timedelta(seconds=300)
"""A mark older than this is stale (default of a setting)."""
AHEAD_TOLERANCE = timedelta(seconds=5)
"""A mark further ahead of now than this is refused: a clock is wrong."""


class MarkState(StrEnum):
    """FRESH, STALE (older than the setting allows) or MISSING (never known)."""

    FRESH = "FRESH"
    STALE = "STALE"
    MISSING = "MISSING"


@dataclass(frozen=True, slots=True)
class Mark:
    """A price of an instrument."""

    price: Decimal
    at: datetime
    """When the price was right, by its source; aware UTC."""
    source: str


def mark_state(mark: Mark | None, *, now: datetime, stale_after: timedelta = STALE_AFTER) -> MarkState:
    """How fresh a mark is at `now`: stale once its age exceeds `stale_after`."""
    if mark is None:
        return MarkState.MISSING
    return MarkState.STALE if now - mark.at > stale_after else MarkState.FRESH


def newer_mark(known: Mark | None, reported: Mark) -> Mark:
    """The mark to keep: the one with the newer time; at equal times the one already known."""
    return reported if known is None or reported.at > known.at else known


def check_mark(mark: Mark, instrument: Instrument, *, now: datetime) -> None:
    """Refuses a mark more than 5 s ahead of now, before 1970, or of a price the instrument cannot have.

    Raises `InvalidField`.
    """
    check_price(mark.price, instrument)
    if mark.at < EARLIEST:
        raise InvalidField("at", "must not be before 1970")
    if mark.at > now + AHEAD_TOLERANCE:
        raise InvalidField("at", "lies more than 5 seconds in the future")
