"""The checks before and after a key's fold; a violation fails that key alone, which keeps its old rows.

Before: what is stored must be entries that could have been recorded. After: the laws of a position (DOMAIN 3, 4) hold
for what came out, and its quantity is the signed sum of its fills, counted apart from the fold.
"""

from __future__ import annotations

import decimal
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from operator import itemgetter

from steelyard.accounting.entries import EARLIEST, FUTURE_TOLERANCE, Entry
from steelyard.accounting.errors import InvariantBroken
from steelyard.accounting.fold import FoldRules
from steelyard.accounting.instruments import InstrumentKind, PriceRule
from steelyard.accounting.keys import Leg
from steelyard.accounting.position import FoldState, assert_identity, assert_leg
from steelyard.accounting.round_trips import RoundTrip, Sums
from steelyard.accounting.units import EXACT, ZERO
from steelyard.operations.building import BuildError

_kind, _quantity, _price, _fee = itemgetter(3), itemgetter(4), itemgetter(5), itemgetter(6)
_OF_TRIPS = ("gross_average", "gross_lots", "reducing_fees", "cash_average", "cash_lots")
"""Sums that nothing but round trips adds to; fees, funding and unmatched quantity may come before the first one."""


class KeyCheckFailed(Exception):
    """A key failed a check; it keeps its old rows."""

    def __init__(self, error: BuildError) -> None:
        self.error = error
        super().__init__(f"{error.check}: {error.message}")


class FillSum:
    """The signed sum of the fills that a fold is fed, counted apart from it."""

    def __init__(self) -> None:
        self.delta = ZERO
        self.fees = ZERO
        self.entries = 0
        self.fills = 0
        self.first_ids: list[str] = []
        self.has_adjustments = False

    def add(self, batch: Sequence[Entry], *, ids_max: int, are_fills: bool = False) -> None:
        """Counts a batch; `are_fills` says that nothing else is in it."""
        self.entries += len(batch)
        fills = batch
        if not are_fills:
            self.has_adjustments |= any(entry[3] in ("ADJUSTMENT", "VENUE") for entry in batch)
            fills = [entry for entry in batch if entry[3] == "FILL"]
        with decimal.localcontext(EXACT):
            self.delta = sum(map(_quantity, fills), self.delta)
            self.fees = sum(map(_fee, fills), self.fees)
        self.fills += len(fills)
        if len(self.first_ids) < ids_max:
            self.first_ids.extend(entry[2] for entry in fills[: ids_max - len(self.first_ids)])


def check_entries(batch: Sequence[Entry], rules: FoldRules, *, now: datetime) -> bool:
    """Times, quantities, sides and prices of stored entries, which come in fold order; whether all are plain fills.

    Raises `KeyCheckFailed`.
    """
    if not batch:
        return True
    if batch[0][0] < EARLIEST:
        raise KeyCheckFailed(BuildError("times", "lies before 1970", batch[0][2]))
    if batch[-1][0] > now + FUTURE_TOLERANCE:
        raise KeyCheckFailed(BuildError("times", "lies in the future", batch[-1][2]))
    is_any = rules.instrument.price_rule is PriceRule.ANY and rules.instrument.kind is InstrumentKind.LINEAR
    # A batch of plain fills is looked at in bulk; anything else entry by entry.
    are_plain = set(map(_kind, batch)) == {"FILL"} and all(map(_quantity, batch)) and all(map(_price, batch))
    if are_plain and (is_any or min(map(_price, batch)) > 0):
        return True
    for entry in batch:
        _check_entry(entry, is_any_price=is_any)
    return False


def _check_entry(entry: Entry, *, is_any_price: bool) -> None:
    _, _, entry_id, kind, quantity, price, *_ = entry
    if kind not in ("FILL", "FUNDING", "ADJUSTMENT", "VENUE"):
        raise KeyCheckFailed(BuildError("sides", f"{kind} is no kind of entry", entry_id))
    if kind == "FILL" and not quantity:
        raise KeyCheckFailed(BuildError("quantities", "a fill's quantity is zero or missing", entry_id))
    if kind == "FILL" and price is None:
        raise KeyCheckFailed(BuildError("prices", "a fill has no price", entry_id))
    if price is not None and price <= 0 and not is_any_price:
        raise KeyCheckFailed(BuildError("prices", "a price is not greater than zero", entry_id))


def check_trips(trips: Iterable[RoundTrip]) -> None:
    """Trips of one key in order do not overlap, and only the last may be open. Raises `KeyCheckFailed`."""
    before: RoundTrip | None = None
    for trip in trips:
        if before is not None:
            if before.closed_at is None:
                raise KeyCheckFailed(
                    BuildError("open_trips", "a round trip is open that is not the last", before.opened.entry_id)
                )
            if before.closed_at > trip.opened.executed_at or before.last > trip.opened:
                raise KeyCheckFailed(
                    BuildError("overlap", "a round trip opens before the one before it closed", trip.opened.entry_id)
                )
        before = trip


def check_state(state: FoldState, rules: FoldRules) -> None:
    """The cash-flow identity, the leg, and the open quantity of the trip. Raises `KeyCheckFailed`."""
    try:
        assert_identity(state, rules.instrument)
    except InvariantBroken as broken:
        raise KeyCheckFailed(BuildError("identity", broken.message)) from None
    try:
        assert_leg(state, rules.leg)
    except InvariantBroken as broken:
        raise KeyCheckFailed(BuildError("quantities", broken.message)) from None
    held = state.trip.open_quantity if state.trip is not None else ZERO
    if held != abs(state.quantity):
        raise KeyCheckFailed(BuildError("open_trips", "the open round trip does not hold the position's quantity"))


def check_sums(before: Sums, after: Sums, *, replaced: Sequence[RoundTrip], replacing: Sequence[RoundTrip]) -> None:
    """Lifetime sums change by what the round trips change. Raises `KeyCheckFailed`.

    `before` and `after` are lifetime sums; `replacing` are the trips that take the place of the stored `replaced`.
    """
    for name in _OF_TRIPS:
        with decimal.localcontext(EXACT):
            of_position = getattr(after, name) - getattr(before, name)
            of_trips = sum((getattr(trip.sums, name) for trip in replacing), ZERO)
            of_trips -= sum((getattr(trip.sums, name) for trip in replaced), ZERO)
        if of_position != of_trips:
            raise KeyCheckFailed(
                BuildError("sums", f"{name} of the round trips adds up to {of_trips}, of the position to {of_position}")
            )


def check_fill_sums(before: Sums, after: Sums, *, counted: FillSum) -> None:
    """Fees and fill count change by those of the folded fills. Raises `KeyCheckFailed`."""
    fees = exact_sum(after.fees, -before.fees)
    if fees != counted.fees:
        raise KeyCheckFailed(BuildError("sums", f"the fills' fees add up to {counted.fees}, the position's to {fees}"))
    fills = after.fill_count - before.fill_count
    if fills != counted.fills:
        raise KeyCheckFailed(BuildError("sums", f"{counted.fills} fills were folded, the position counts {fills}"))


def exact_sum(left: Decimal, right: Decimal) -> Decimal:
    """Both added, exactly."""
    with decimal.localcontext(EXACT):
        return left + right


def check_quantity(state: FoldState, leg: Leg, *, delta: Decimal, unmatched: Decimal) -> None:
    """The quantity is the signed sum of fills (`delta`, with what was held before them); what a hedge leg could not
    match counts back. Raises `KeyCheckFailed`."""
    with decimal.localcontext(EXACT):
        back = unmatched if leg is Leg.LONG else -unmatched if leg is Leg.SHORT else ZERO
        expected = delta + back
    if state.quantity != expected:
        raise KeyCheckFailed(
            BuildError("quantities", f"the quantity is {state.quantity}, the signed sum of fills {expected}")
        )
