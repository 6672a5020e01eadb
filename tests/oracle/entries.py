"""What the oracle is given: instruments, fills, adjustments, funding, revisions; and what survives of them.

All numbers are decimal text. Times are aware datetimes or microseconds since 1970.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

from .exact import INVERSE_PLACES, RATIO_PLACES, Instant, half_even, microseconds, number


class OracleKey(NamedTuple):
    """Where a position lives."""

    account: str
    book: str
    instrument: str
    leg: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleInstrument:
    """Kind `linear` or `inverse`, money (or coin) per point and contract, and the currency of its results."""

    name: str
    kind: str = "linear"
    multiplier: str = "1"
    settle_currency: str = "USDT"


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleFill:
    """One execution. `recorded_at` is when it was learned of; None means it was always known."""

    fill_id: str
    account: str
    instrument: str
    side: str
    quantity: str
    price: str
    executed_at: Instant
    book: str = "main"
    leg: str = "NET"
    fee: str = "0"
    fee_currency: str | None = None
    fee_rate: str | None = None
    source_sequence: int = 0
    recorded_at: Instant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleAdjustment:
    """Sets quantity and/or average at its time. Kinds: OPENING TRANSFER SETTLEMENT CORRECTION VENUE."""

    adjustment_id: str
    account: str
    instrument: str
    kind: str
    executed_at: Instant
    quantity: str | None = None
    average: str | None = None
    book: str = "main"
    leg: str = "NET"
    source_sequence: int = 0
    recorded_at: Instant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleFunding:
    """An amount in the settle currency; positive is received, negative is paid."""

    funding_id: str
    account: str
    instrument: str
    amount: str
    executed_at: Instant
    book: str = "main"
    leg: str = "NET"
    source_sequence: int = 0
    recorded_at: Instant | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleRevision:
    """A correction of a fill: new content, or None for a bust."""

    account: str
    fill_id: str
    revision: int
    content: OracleFill | None
    recorded_at: Instant | None = None


OracleEntry = OracleFill | OracleAdjustment | OracleFunding


@dataclass(frozen=True, slots=True)
class Terms:
    """The arithmetic of an instrument: linear counts money, inverse counts coin."""

    inverse: bool
    multiplier: Fraction
    settle_currency: str

    @property
    def cash_sign(self) -> int:
        """Buying costs money (linear, -1) or is counted as coin gained (inverse, +1)."""
        return 1 if self.inverse else -1

    def value(self, quantity: Fraction, price: Fraction) -> Fraction:
        """Signed quantity times multiplier at a price: q*m*p exactly, or q*m/p to 40 places."""
        if self.inverse:
            return half_even(quantity * self.multiplier / price, INVERSE_PLACES)
        return quantity * self.multiplier * price

    def mean_price(self, quantity: Fraction, value: Fraction) -> Fraction:
        """The unrounded price at which this quantity has this value (harmonic when inverse)."""
        if self.inverse:
            return quantity * self.multiplier / value
        return value / (quantity * self.multiplier)

    def unrealized(self, quantity: Fraction, cost: Fraction, mark: Fraction) -> Fraction:
        """q*m*mark - cost, or c - q*m/mark; zero when flat."""
        if quantity == 0:
            return Fraction(0)
        return self.cash_sign * (cost - self.value(quantity, mark))


def terms_of(instrument: OracleInstrument) -> Terms:
    """The parsed instrument; ValueError for an unknown kind."""
    if instrument.kind not in ("linear", "inverse"):
        raise ValueError(f"unknown kind {instrument.kind!r}")
    return Terms(instrument.kind == "inverse", number(instrument.multiplier), instrument.settle_currency)


def key_of(entry: OracleEntry) -> OracleKey:
    """The key an entry is folded under."""
    return OracleKey(entry.account, entry.book, entry.instrument, entry.leg)


def id_of(entry: OracleEntry) -> str:
    """The entry's own id, whatever its kind."""
    if isinstance(entry, OracleFill):
        return entry.fill_id
    return entry.adjustment_id if isinstance(entry, OracleAdjustment) else entry.funding_id


def fold_order(entry: OracleEntry) -> tuple[int, int, bytes]:
    """Executed at, then source sequence, then the bytes of the id: never the order of arrival."""
    return microseconds(entry.executed_at), entry.source_sequence, id_of(entry).encode()


def fee_value(fill: OracleFill, settle_currency: str) -> tuple[Fraction, dict[str, Fraction]]:
    """The fee in the settle currency and, apart, what could not be valued by its currency."""
    fee = number(fill.fee)
    if fee == 0 or fill.fee_currency in (None, settle_currency):
        return fee, {}
    if fill.fee_rate is not None:
        return half_even(fee * number(fill.fee_rate), RATIO_PLACES), {}
    return Fraction(0), {str(fill.fee_currency): fee}


def surviving(
    entries: Iterable[OracleEntry],
    *,
    revisions: Iterable[OracleRevision] = (),
    known_at: Instant | None = None,
) -> list[OracleEntry]:
    """The entries that stand after repeats, conflicts, amendments and busts, in no particular order.

    `entries` is in order of arrival: the first content of an id stands, an equal repeat can only lower
    its source sequence, another content under the same id changes nothing.
    """
    corrections: dict[tuple[str, str], list[OracleRevision]] = {}
    for revision in revisions:
        if _is_known(revision.recorded_at, known_at):
            corrections.setdefault((revision.account, revision.fill_id), []).append(revision)
    fills: dict[tuple[str, str], OracleFill] = {}
    others: dict[tuple[str, str, str], OracleEntry] = {}
    for entry in entries:
        if not _is_known(entry.recorded_at, known_at):
            continue
        if not isinstance(entry, OracleFill):
            others.setdefault((type(entry).__name__, entry.account, id_of(entry)), entry)
            continue
        identity = entry.account, entry.fill_id
        first = fills.setdefault(identity, entry)
        if _repeats(entry, first=first, corrections=corrections.get(identity, [])):
            lower = min(first.source_sequence, entry.source_sequence)
            fills[identity] = replace(first, source_sequence=lower)
    corrected = [_corrected(fill, corrections) for fill in fills.values()]
    return [fill for fill in corrected if fill is not None] + list(others.values())


def _is_known(recorded_at: Instant | None, known_at: Instant | None) -> bool:
    if recorded_at is None or known_at is None:
        return True
    return microseconds(recorded_at) <= microseconds(known_at)


def _content(fill: OracleFill) -> tuple[object, ...]:
    numbers = number(fill.quantity), number(fill.price), number(fill.fee)
    when = microseconds(fill.executed_at)
    return fill.book, fill.instrument, fill.leg, fill.side, *numbers, fill.fee_currency, when


def _repeats(fill: OracleFill, *, first: OracleFill, corrections: list[OracleRevision]) -> bool:
    known = [first, *(each.content for each in corrections if each.content is not None)]
    return _content(fill) in [_content(each) for each in known]


def _corrected(fill: OracleFill, corrections: Mapping[tuple[str, str], list[OracleRevision]]) -> OracleFill | None:
    """The content of the highest revision; it keeps account, id and source sequence of the fill."""
    own = corrections.get((fill.account, fill.fill_id))
    if not own:
        return fill
    content = max(own, key=lambda each: each.revision).content
    if content is None:
        return None
    return replace(content, account=fill.account, fill_id=fill.fill_id, source_sequence=fill.source_sequence)
