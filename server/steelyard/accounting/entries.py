"""What a position is folded from: fills, adjustments, funding.

`Fill` and `Adjustment` are the records as callers give them. `Entry` is the same reduced to what the fold reads: a
bare tuple, because a rebuild reads millions and a store can hand them over without making objects of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from steelyard.accounting.errors import InvalidField, NumericLimit
from steelyard.accounting.instruments import Instrument, InstrumentKind, PriceRule, value_of
from steelyard.accounting.keys import Account, FillId, Leg, OrderKey, PositionKey
from steelyard.accounting.units import NOTIONAL_LIMIT, ZERO, exactly, valued_fee

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
FUTURE_TOLERANCE = timedelta(minutes=5)
"""An execution further ahead of now than this is refused: a clock or a zone is wrong."""


class Side(StrEnum):
    """BUY adds to the signed quantity, SELL takes from it."""

    BUY = "BUY"
    SELL = "SELL"


class AdjustmentKind(StrEnum):
    """Why an entry that is no fill exists. FUNDING is an amount; the others set quantity and/or average."""

    FUNDING = "FUNDING"
    OPENING = "OPENING"
    TRANSFER = "TRANSFER"
    SETTLEMENT = "SETTLEMENT"
    CORRECTION = "CORRECTION"
    VENUE = "VENUE"


class EntryKind(StrEnum):
    """How the fold treats an entry."""

    FILL = "FILL"
    FUNDING = "FUNDING"
    ADJUSTMENT = "ADJUSTMENT"
    VENUE = "VENUE"


_BUY, _FILL = Side.BUY, EntryKind.FILL  # names of their own: looking members up in their class is slow
NOTIONAL_PLACES = NOTIONAL_LIMIT.adjusted()


class Entry(NamedTuple):
    """One step of the fold.

    FILL: `quantity` is the signed delta, `price` the price, `fee` the fee valued in the settle currency (zero while it
    cannot be valued; then `unvalued_currency` and `unvalued_fee` name it). FUNDING: `fee` is the amount received.
    ADJUSTMENT and VENUE: `quantity` is the new signed quantity or None (keep), `price` the new average or None (keep).
    """

    executed_at: datetime
    source_sequence: int
    entry_id: str
    kind: str
    quantity: Decimal | None
    price: Decimal | None
    fee: Decimal
    unvalued_currency: str | None = None
    unvalued_fee: Decimal | None = None

    @property
    def order(self) -> OrderKey:
        """The entry's place in the fold."""
        return OrderKey(self.executed_at, self.source_sequence, self.entry_id)


NO_LABELS: Mapping[str, str] = MappingProxyType({})


class Fill(NamedTuple):
    """One execution. Identity is (account, fill_id); corrections are further revisions of it.

    A tuple, as `Entry` is: a stream brings thousands a second, and a frozen dataclass takes three times as long.
    """

    key: PositionKey
    fill_id: FillId
    side: Side
    quantity: Decimal
    """Greater than zero."""
    price: Decimal
    executed_at: datetime
    """Aware UTC, microseconds."""
    fee: Decimal = ZERO
    """What was paid; negative is a rebate."""
    fee_currency: str | None = None
    """None: the instrument's settle currency."""
    fee_rate: Decimal | None = None
    """Settle currency per unit of fee currency, where they differ."""
    source_sequence: int = 0
    order_id: str | None = None
    note: str | None = None
    labels: Mapping[str, str] = NO_LABELS
    revision: int = 1
    is_busted: bool = False

    @property
    def account(self) -> Account:
        """Who holds it."""
        return self.key.account

    @property
    def delta(self) -> Decimal:
        """Signed quantity: positive for BUY."""
        return self.quantity if self.side is _BUY else self.quantity.copy_negate()

    @property
    def order(self) -> OrderKey:
        """The fill's place in the fold."""
        return OrderKey(self.executed_at, self.source_sequence, self.fill_id)

    @property
    def content(self) -> tuple[object, ...]:
        """What makes two reports of one id the same fill (DOMAIN 6)."""
        key = self.key
        return (
            key.book,
            key.instrument,
            key.leg,
            self.side,
            self.quantity,
            self.price,
            self.fee,
            self.fee_currency,
            self.executed_at,
        )


@dataclass(frozen=True, slots=True)
class Adjustment:
    """An entry that is no execution: an opening balance, a correction, funding, a venue's word."""

    key: PositionKey
    adjustment_id: FillId
    kind: AdjustmentKind
    effective_at: datetime
    quantity: Decimal | None = None
    """The signed quantity to hold from then on; None keeps it."""
    average_price: Decimal | None = None
    """The average from then on; None keeps it."""
    amount: Decimal | None = None
    """FUNDING only, settle currency: positive was received."""
    source_sequence: int = 0
    note: str | None = None

    @property
    def order(self) -> OrderKey:
        """The adjustment's place in the fold."""
        return OrderKey(self.effective_at, self.source_sequence, self.adjustment_id)


def entry_of_fill(fill: Fill, instrument: Instrument) -> Entry:
    """What the fold reads of a fill; a fee in another currency is valued at its stored rate, or set aside."""
    fee, unvalued_currency, unvalued_fee = fill.fee, None, None
    if fill.fee_currency not in (None, instrument.settle_currency) and fee:
        if fill.fee_rate is None:
            fee, unvalued_currency, unvalued_fee = ZERO, fill.fee_currency, fill.fee
        else:
            fee = valued_fee(fee, fill.fee_rate)
    return Entry(
        fill.executed_at,
        fill.source_sequence,
        fill.fill_id,
        _FILL,
        fill.delta,
        fill.price,
        fee,
        unvalued_currency,
        unvalued_fee,
    )


def entry_of_adjustment(adjustment: Adjustment) -> Entry:
    """What the fold reads of an adjustment."""
    if adjustment.kind is AdjustmentKind.FUNDING:
        kind = EntryKind.FUNDING
    elif adjustment.kind is AdjustmentKind.VENUE:
        kind = EntryKind.VENUE
    else:
        kind = EntryKind.ADJUSTMENT
    return Entry(
        adjustment.effective_at,
        adjustment.source_sequence,
        adjustment.adjustment_id,
        kind,
        adjustment.quantity,
        adjustment.average_price,
        adjustment.amount or ZERO,
    )


def check_fill(fill: Fill, instrument: Instrument, *, now: datetime) -> None:
    """Refuses a fill whose numbers cannot be right. Raises `InvalidField` or `NumericLimit`."""
    if fill.quantity <= 0:
        raise InvalidField("quantity", "must be greater than zero")
    check_price(fill.price, instrument)
    check_time(fill.executed_at, field="executed_at", now=now)
    if not _is_surely_small(fill, instrument):
        _check_size(fill, instrument)
    if fill.fee_rate is not None and fill.fee_rate <= 0:
        raise InvalidField("fee_rate", "must be greater than zero")


def _is_surely_small(fill: Fill, instrument: Instrument) -> bool:
    """Whether the places before the point alone say that nothing reaches 1e20; nearly always, and at once."""
    if instrument.kind is not InstrumentKind.LINEAR:
        return False
    # A number with this `adjusted` exponent is smaller than 10 to the next power: three of them to the next three.
    places = fill.quantity.adjusted() + fill.price.adjusted() + instrument.multiplier.adjusted() + 3
    return places <= NOTIONAL_PLACES and fill.fee.adjusted() < NOTIONAL_PLACES


@exactly
def _check_size(fill: Fill, instrument: Instrument) -> None:
    if abs(value_of(instrument, fill.quantity, fill.price) * instrument.scale) >= NOTIONAL_LIMIT:
        raise NumericLimit(f"quantity x price x multiplier of fill {fill.fill_id} is 1e20 or more")
    if abs(fill.fee) >= NOTIONAL_LIMIT:
        raise NumericLimit(f"the fee of fill {fill.fill_id} is 1e20 or more")


def check_price(price: Decimal, instrument: Instrument) -> None:
    """Prices are greater than zero unless the (linear) instrument's rule is ANY. Raises `InvalidField`."""
    is_any = instrument.price_rule is PriceRule.ANY and instrument.kind is InstrumentKind.LINEAR
    if price <= 0 and not is_any:
        raise InvalidField("price", "must be greater than zero")


def check_time(at: datetime, *, field: str, now: datetime) -> None:
    """Times are from 1970 on and at most 5 minutes ahead of now. Raises `InvalidField`."""
    if at < EARLIEST:
        raise InvalidField(field, "must not be before 1970")
    if at > now + FUTURE_TOLERANCE:
        raise InvalidField(field, "lies more than 5 minutes in the future")


@exactly
def check_adjustment(adjustment: Adjustment, instrument: Instrument, *, now: datetime) -> None:
    """Refuses an adjustment that could not be applied at any place of the fold. Raises `InvalidField`."""
    check_time(adjustment.effective_at, field="effective_at", now=now)
    if adjustment.kind is AdjustmentKind.FUNDING:
        if not adjustment.amount:
            raise InvalidField("amount", "is required for FUNDING and must not be zero")
        if adjustment.quantity is not None or adjustment.average_price is not None:
            raise InvalidField("quantity", "FUNDING takes an amount only")
        return
    if adjustment.amount is not None:
        raise InvalidField("amount", "is for FUNDING only")
    _check_set_point(adjustment, instrument)


def _check_set_point(adjustment: Adjustment, instrument: Instrument) -> None:
    quantity, average = adjustment.quantity, adjustment.average_price
    if quantity is None and average is None:
        raise InvalidField("quantity", "quantity or average_price is required")
    if average is not None:
        check_price(average, instrument)
    if quantity is None:
        return
    if quantity and average is None:
        raise InvalidField("average_price", "is required with a quantity other than zero")
    if quantity == 0 and average is not None:
        raise InvalidField("average_price", "a flat position has none")
    wrong_leg = Leg.SHORT if quantity > 0 else Leg.LONG if quantity < 0 else None
    if wrong_leg is not None and adjustment.key.leg is wrong_leg:
        raise InvalidField("quantity", f"has the wrong sign for the {wrong_leg} leg")
    if average is not None and abs(value_of(instrument, quantity, average) * instrument.scale) >= NOTIONAL_LIMIT:
        raise NumericLimit("quantity x average price x multiplier is 1e20 or more")
