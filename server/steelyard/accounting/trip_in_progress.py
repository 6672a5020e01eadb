"""The trip that a fold is working on: mutable sums before scale, frozen into a `RoundTrip` when it is asked for."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from steelyard.accounting.instruments import Instrument
from steelyard.accounting.keys import OrderKey
from steelyard.accounting.round_trips import NO_SUMS, Direction, RoundTrip, Sums
from steelyard.accounting.units import ZERO


class TripInProgress:
    """Accumulators of one trip. `base` holds the sums of a trip that is taken up again, so nothing is unscaled."""

    __slots__ = (
        "base",
        "base_value",
        "closed_at",
        "correction_average",
        "correction_lots",
        "entered_quantity",
        "entered_value",
        "exited_quantity",
        "exited_value",
        "fees",
        "fill_count",
        "funding",
        "gross_average",
        "gross_lots",
        "is_adjusted",
        "is_flip",
        "last",
        "max_quantity",
        "opened",
        "opening_quantity",
        "reducing_fees",
        "unmatched",
        "unvalued",
    )

    def __init__(self, opened: OrderKey, quantity: Decimal, value: Decimal, *, is_flip: bool) -> None:
        self.opened = opened
        self.opening_quantity = quantity
        self.is_flip = is_flip
        self.is_adjusted = False
        self.closed_at: datetime | None = None
        self.last = opened
        self.entered_quantity = self.max_quantity = abs(quantity)
        self.entered_value = value
        self.exited_quantity = self.exited_value = ZERO
        self.base: Sums = NO_SUMS
        self.base_value = ZERO
        self._clear()

    def _clear(self) -> None:
        self.gross_average = self.gross_lots = self.correction_average = self.correction_lots = ZERO
        self.fees = self.reducing_fees = self.funding = self.unmatched = ZERO
        self.fill_count = 0
        self.unvalued: dict[str, Decimal] = {}

    @classmethod
    def resume(cls, trip: RoundTrip) -> TripInProgress:
        """Takes a frozen trip up again."""
        self = cls(trip.opened, trip.opening_quantity, trip.entered_value, is_flip=trip.is_flip)
        self.is_adjusted = trip.is_adjusted
        self.closed_at = trip.closed_at
        self.last = trip.last
        self.entered_quantity = trip.entered_quantity
        self.max_quantity = trip.max_quantity
        self.exited_quantity = trip.exited_quantity
        self.exited_value = trip.exited_value
        self.base = trip.sums
        self.base_value = trip.entered_value + trip.exited_value
        return self

    def set_aside(self, currency: str, fee: Decimal) -> None:
        """Keeps a fee that cannot be valued."""
        self.unvalued[currency] = self.unvalued.get(currency, ZERO) + fee

    def freeze(self, instrument: Instrument, *, held: Decimal, last: OrderKey | None) -> RoundTrip:
        """The trip as a value; `held` is the signed quantity still open, `last` the newest entry of an open one."""
        return RoundTrip(
            Direction.LONG if self.opening_quantity > 0 else Direction.SHORT,
            self.opened,
            self.opening_quantity,
            self.is_flip,
            self.last if self.closed_at is not None or last is None else last,
            self.closed_at,
            self.entered_quantity,
            self.entered_value,
            self.exited_quantity,
            self.exited_value,
            abs(held) if self.closed_at is None else ZERO,
            self.max_quantity,
            self.is_adjusted,
            self._sums(instrument),
        )

    def _sums(self, instrument: Instrument) -> Sums:
        scale = instrument.sign * instrument.scale
        # Cash flow by price is minus the value of everything entered and exited, whichever cost method is asked.
        cash = self.base_value - self.entered_value - self.exited_value
        sums = Sums(
            scale * self.gross_average,
            scale * self.gross_lots,
            self.fees,
            self.reducing_fees,
            self.funding,
            scale * (cash + self.correction_average),
            scale * (cash + self.correction_lots),
            self.unmatched,
            self.fill_count,
            tuple(sorted(self.unvalued.items())) if self.unvalued else (),
        )
        return sums if self.base is NO_SUMS else self.base.plus(sums)
