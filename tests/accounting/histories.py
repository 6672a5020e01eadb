"""Random histories of one key, as the product folds them and as the oracle replays them.

A `Step` is one entry in neutral form. Prices, quantities and times come from small grids, so that closings, flips,
equal times and equal prices are frequent; some quantities and fees have many places, so that roundings happen.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from steelyard.accounting.checkpoints import RefoldStart
from steelyard.accounting.entries import (
    Adjustment,
    AdjustmentKind,
    Entry,
    Fill,
    Side,
    check_adjustment,
    check_fill,
    entry_of_adjustment,
    entry_of_fill,
)
from steelyard.accounting.fold import Checkpoint, Fold, FoldRules
from steelyard.accounting.instruments import Instrument, InstrumentKind
from steelyard.accounting.keys import Account, Book, FillId, InstrumentName, Leg, PositionKey
from steelyard.accounting.lots import LotMethod
from steelyard.accounting.position import FoldState
from steelyard.accounting.round_trips import RoundTrip
from tests.oracle import (
    OracleAdjustment,
    OracleEntry,
    OracleFill,
    OracleFunding,
    OracleInstrument,
    OracleKey,
    OraclePosition,
    fold_key,
)

NINE = datetime(2025, 6, 20, 9, tzinfo=UTC)
LATER = NINE + timedelta(days=1)
ACCOUNT = Account("acc")
NAME = InstrumentName("MNQ SEP25")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a history is folded under."""

    kind: InstrumentKind = InstrumentKind.LINEAR
    multiplier: str = "2"
    leg: Leg = Leg.NET

    @property
    def key(self) -> PositionKey:
        return PositionKey(ACCOUNT, Book("main"), NAME, self.leg)

    @property
    def instrument(self) -> Instrument:
        return Instrument(NAME, self.kind, Decimal(self.multiplier), "USD", "USD")

    def rules(self, lot_method: LotMethod = LotMethod.FIFO) -> FoldRules:
        return FoldRules(self.instrument, self.leg, lot_method)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A fill (BUY, SELL), funding (FUND) or an adjustment (SET)."""

    what: str
    name: str
    minute: int = 0
    sequence: int = 0
    quantity: str | None = None
    price: str | None = None
    fee: str = "0"
    fee_currency: str | None = None
    fee_rate: str | None = None

    @property
    def at(self) -> datetime:
        return NINE + timedelta(minutes=self.minute)

    def entry(self, terms: Terms) -> Entry:
        """As the product folds it, through the records that callers give and the checks they pass."""
        if self.what in ("BUY", "SELL"):
            fill = Fill(
                terms.key,
                FillId(self.name),
                Side(self.what),
                Decimal(self.quantity or "0"),
                Decimal(self.price or "0"),
                self.at,
                Decimal(self.fee),
                self.fee_currency,
                None if self.fee_rate is None else Decimal(self.fee_rate),
                self.sequence,
            )
            check_fill(fill, terms.instrument, now=LATER)
            return entry_of_fill(fill, terms.instrument)
        adjustment = Adjustment(
            terms.key,
            FillId(self.name),
            AdjustmentKind.FUNDING if self.what == "FUND" else AdjustmentKind.CORRECTION,
            self.at,
            None if self.quantity is None else Decimal(self.quantity),
            None if self.price is None else Decimal(self.price),
            Decimal(self.fee) if self.what == "FUND" else None,
            self.sequence,
        )
        check_adjustment(adjustment, terms.instrument, now=LATER)
        return entry_of_adjustment(adjustment)

    def opinion(self, terms: Terms) -> OracleEntry:
        """As the oracle replays it."""
        where: dict[str, Any] = {"account": ACCOUNT, "instrument": NAME, "leg": terms.leg.value}
        if self.what == "FUND":
            return OracleFunding(
                funding_id=self.name, amount=self.fee, executed_at=self.at, source_sequence=self.sequence, **where
            )
        if self.what == "SET":
            return OracleAdjustment(
                adjustment_id=self.name,
                kind="CORRECTION",
                executed_at=self.at,
                quantity=self.quantity,
                average=self.price,
                source_sequence=self.sequence,
                **where,
            )
        return OracleFill(
            fill_id=self.name,
            side=self.what,
            quantity=self.quantity or "0",
            price=self.price or "0",
            executed_at=self.at,
            fee=self.fee,
            fee_currency=self.fee_currency,
            fee_rate=self.fee_rate,
            source_sequence=self.sequence,
            **where,
        )


def steps(*texts: str) -> list[Step]:
    """`BUY 2 @100 fee 1`, `FUND 5`, `SET 3 @90`, `SET 0`, one a minute, named f0, f1, ..."""
    return [_step(text.split(), minute) for minute, text in enumerate(texts)]


def _step(words: list[str], minute: int) -> Step:
    what, amount, *rest = words
    if what == "FUND":
        return Step(what=what, name=f"f{minute}", minute=minute, fee=amount)
    price = rest[0].removeprefix("@") if rest else None
    quantity = None if amount == "-" else amount
    fee = rest[2] if len(rest) > 2 else "0"
    return Step(what=what, name=f"f{minute}", minute=minute, quantity=quantity, price=price, fee=fee)


PRICES = st.sampled_from(["1", "3", "7", "21000.25", "0.333333333333333333", "99.999"])
SIZES = st.one_of(st.sampled_from(["1", "2", "3", "5"]), st.sampled_from(["0.1", "0.5", "2.000000000000000001"]))
FEES = st.sampled_from(["0", "0.52", "1.1", "-0.3", "0.000000000000000007"])
MINUTES = st.integers(0, 8)
TERMS = st.builds(
    Terms,
    kind=st.sampled_from(InstrumentKind),
    multiplier=st.sampled_from(["1", "2", "0.5"]),
    leg=st.sampled_from([Leg.NET, Leg.NET, Leg.LONG, Leg.SHORT]),
)


def fill_steps() -> st.SearchStrategy[Step]:
    """A fill, sometimes with a fee in another currency, valued or not."""
    currency = st.sampled_from(
        [(None, None), (None, None), ("USD", None), ("BNB", "600.5"), ("BNB", None), ("X", None)]
    )
    return st.builds(
        lambda what, minute, sequence, quantity, price, fee, other: Step(
            what=what,
            name="",
            minute=minute,
            sequence=sequence,
            quantity=quantity,
            price=price,
            fee=fee.removeprefix("-") if other[1] is None and other[0] in ("BNB", "X") else fee,
            fee_currency=other[0],
            fee_rate=other[1],
        ),
        st.sampled_from(["BUY", "SELL"]),
        MINUTES,
        st.integers(0, 1),
        SIZES,
        PRICES,
        FEES,
        currency,
    )


def other_steps(leg: Leg) -> st.SearchStrategy[Step]:
    """Funding, or an adjustment that is legal for the leg wherever it falls."""
    funding = st.builds(
        lambda minute, amount: Step(what="FUND", name="", minute=minute, fee=amount),
        MINUTES,
        st.sampled_from(["1.25", "-0.75"]),
    )
    signs = {Leg.NET: ["", "-"], Leg.LONG: [""], Leg.SHORT: ["-"]}[leg]
    held = st.tuples(st.builds(lambda sign, size: sign + size, st.sampled_from(signs), SIZES), PRICES)
    targets = st.one_of(held, st.just(("0", None)), st.tuples(st.none(), PRICES))
    adjustment = st.builds(
        lambda minute, target: Step(what="SET", name="", minute=minute, quantity=target[0], price=target[1]),
        MINUTES,
        targets,
    )
    return st.one_of(funding, adjustment)


@st.composite
def histories(
    draw: st.DrawFn, *, terms: st.SearchStrategy[Terms] = TERMS, only_fills: bool = False, longest: int = 14
) -> tuple[Terms, list[Step]]:
    """Terms and steps with names of their own, in any order."""
    under = draw(terms)
    step = fill_steps()
    if not only_fills and draw(st.booleans()):
        step = st.one_of(step, step, step, other_steps(under.leg))
    steps = draw(st.lists(step, max_size=longest))
    return under, [rename(each, f"f{place}") for place, each in enumerate(steps)]


def rename(step: Step, name: str) -> Step:
    """The same step under another name."""
    fields = {field: getattr(step, field) for field in Step.__slots__}
    return Step(**fields | {"name": name})


def in_order(steps: Iterable[Step], terms: Terms) -> list[Entry]:
    """The entries in fold order."""
    return sorted((step.entry(terms) for step in steps), key=lambda entry: entry.order)


@dataclass(frozen=True, slots=True)
class Folded:
    """What a fold leaves: the state, all trips, all checkpoints."""

    state: FoldState
    trips: list[RoundTrip]
    checkpoints: list[Checkpoint]


def folded(fold: Fold, entries: Sequence[Entry]) -> Folded:
    """Feeds the entries one batch after the other, sizes 1, 2, 3, ..., which must not matter."""
    start, size = 0, 1
    while start < len(entries) and not fold.feed(entries[start : start + size]):
        start, size = start + size, size + 1
    trips, checkpoints = fold.drain()
    state = fold.state()
    current = [] if state.trip is None else [state.trip]
    return Folded(state, trips + current, checkpoints)


def fold_all(
    steps: Iterable[Step], terms: Terms, *, lot_method: LotMethod = LotMethod.FIFO, checkpoint_every: int = 4_000
) -> Folded:
    """The fold from the start."""
    fold = Fold(terms.rules(lot_method), checkpoint_every=checkpoint_every)
    return folded(fold, in_order(steps, terms))


def entries_from(start: RefoldStart, entries: Sequence[Entry]) -> list[Entry]:
    """The entries that a refold has to fold."""
    place = start.from_order
    if place is None:
        return list(entries)
    return [entry for entry in entries if entry.order > place or (start.inclusive and entry.order == place)]


def opinion_on(steps: Iterable[Step], terms: Terms) -> OraclePosition:
    """The oracle's replay."""
    key = OracleKey(*terms.key)
    kind = terms.kind.value.lower()
    instrument = OracleInstrument(name=NAME, kind=kind, multiplier=terms.multiplier, settle_currency="USD")
    return fold_key(key, [step.opinion(terms) for step in steps], instrument=instrument)
