"""Where a stored position differs from the fold of its entries, and where the book differs from what a venue says.

Pure: values in, findings out. A venue is compared with what the entries make of the position at the venue's own time,
over all books of the account.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from steelyard.accounting.instruments import Instrument, notional
from steelyard.accounting.keys import DEFAULT_BOOK, Account, Leg, PositionKey
from steelyard.accounting.position import FiguresState, FoldState, cost, unrealized_at
from steelyard.accounting.round_trips import CostMethod
from steelyard.accounting.units import ZERO, decimal_text, exactly
from steelyard.accounting.venue_report import SIZE_TOLERANCE, VenueReport, differences, replaces_average
from steelyard.operations.ports import StoredPosition
from steelyard.operations.reconciling import Compared, Finding, FindingKind
from steelyard.operations.venue_positions import VenuePosition, VenuePositions

PNL_TOLERANCE = Decimal("0.001")
"""Of the notional: where sizes and averages agree, unrealized figures that differ by more do not."""
_PNL = ("gross_average", "gross_lots", "fees", "reducing_fees", "funding", "cash_average", "cash_lots")


@dataclass(frozen=True, slots=True)
class SeenKey:
    """A key as one snapshot shows it; `stored.version` 0 means that it has no row."""

    stored: StoredPosition
    """With its lots, whatever its quantity."""
    opened_at: datetime | None
    closed_at: datetime | None
    """As the row says."""

    @property
    def key(self) -> PositionKey:
        """Which position."""
        return self.stored.key

    @property
    def is_waiting(self) -> bool:
        """Whether entries wait to be folded, so that the row need not agree with them."""
        return self.stored.stale is not None


@dataclass(frozen=True, slots=True)
class FoldedEntries:
    """What the entries of a key make of it."""

    state: FoldState
    entries: int
    trips_differ: str
    """Which stored round trip is not the one that comes out; empty: all are."""
    at: Mapping[object, FoldState]
    """The state at each moment that was asked for."""


def fold_findings(seen: SeenKey, folded: FoldedEntries) -> list[Finding]:
    """Where a stored position differs from the fold of its own entries."""
    key, stored, true = seen.key, seen.stored.state, folded.state
    if not seen.stored.version:
        if not folded.entries:
            return []
        return [Finding(key, FindingKind.MISSING, Compared.FOLD, None, true.quantity, "its entries have no position")]
    found = []
    if stored.quantity != true.quantity:
        kind = _size_kind(stored.quantity, true.quantity, entries=folded.entries)
        found.append(Finding(key, kind, Compared.FOLD, stored.quantity, true.quantity))
    elif (stored.average, stored.cost_average, stored.cost_lots) != (
        true.average,
        true.cost_average,
        true.cost_lots,
    ):
        found.append(Finding(key, FindingKind.AVERAGE, Compared.FOLD, stored.average, true.average, "average or cost"))
    wrong = [name for name in _PNL if getattr(stored.lifetime, name) != getattr(true.lifetime, name)]
    if wrong or stored.lifetime.unvalued_fees != true.lifetime.unvalued_fees:
        nets = [state.lifetime.net(CostMethod.AVERAGE) for state in (stored, true)]
        found.append(Finding(key, FindingKind.PNL, Compared.FOLD, nets[0], nets[1], ", ".join(wrong or ["fees"])))
    found += _flatness(seen)
    if detail := _history(seen, folded):
        counts = [Decimal(state.lifetime.fill_count) for state in (stored, true)]
        found.append(Finding(key, FindingKind.ROUND_TRIPS, Compared.FOLD, counts[0], counts[1], detail))
    if stored.lifetime.unmatched != true.lifetime.unmatched:
        unmatched = stored.lifetime.unmatched, true.lifetime.unmatched
        found.append(Finding(key, FindingKind.LEG, Compared.FOLD, *unmatched, "unmatched quantity"))
    return found


def rule_findings(seen: SeenKey, folded: FoldedEntries) -> list[Finding]:
    """What is wrong with a key by the book's own rules, whatever is stored."""
    excess = folded.state.lifetime.unmatched
    if not excess:
        return []
    detail = "the leg was closed beyond what it held"
    return [Finding(seen.key, FindingKind.LEG, Compared.BOOK, excess, ZERO, detail)]


def session_findings(seen: SeenKey, state: FoldState, *, close: datetime) -> list[Finding]:
    """What was held over a session's close."""
    if not state.quantity:
        return []
    detail = f"held over the close of {close.isoformat()}"
    return [Finding(seen.key, FindingKind.SESSION_NOT_FLAT, Compared.BOOK, state.quantity, ZERO, detail, at=close)]


def _size_kind(ours: Decimal, theirs: Decimal, *, entries: int) -> FindingKind:
    if ours and not theirs and not entries:
        return FindingKind.EXTRA
    return FindingKind.SIDE if ours * theirs < 0 else FindingKind.SIZE


def _flatness(seen: SeenKey) -> Iterator[Finding]:
    state = seen.stored.state
    is_open_trip = state.trip is not None and state.trip.closed_at is None
    detail = ""
    if state.quantity and seen.closed_at is not None:
        detail = "closed_at is set while it is open"
    elif not state.quantity and (is_open_trip or state.lots):
        detail = "flat with an open round trip or lots"
    if detail:
        yield Finding(seen.key, FindingKind.CLOSED_NOT_FLAT, Compared.FOLD, state.quantity, ZERO, detail)


def _history(seen: SeenKey, folded: FoldedEntries) -> str:
    """What of the history around a position is not what the entries make; empty: nothing."""
    stored, true = seen.stored.state, folded.state
    checks = (
        (folded.trips_differ, folded.trips_differ),
        (stored.trip != true.trip, "the current round trip"),
        (stored.lots != true.lots, "lots"),
        (stored.lifetime.fill_count != true.lifetime.fill_count, "fill count"),
        ((stored.last, stored.last_fill_at) != (true.last, true.last_fill_at), "last entry"),
        ((seen.opened_at, seen.closed_at) != (true.opened_at, true.closed_at), "times"),
        (seen.stored.figures_state is not FiguresState.CURRENT, "figures wait for a refold that nobody owes"),
    )
    return ", ".join(detail for is_wrong, detail in checks if is_wrong)


# -- venues ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HeldLeg:
    """What all books of an account hold of one leg of an instrument, at one moment."""

    keys: Sequence[PositionKey]
    states: Sequence[FoldState]

    @property
    def quantity(self) -> Decimal:
        """Signed, over all books."""
        return _sum(state.quantity for state in self.states)

    @property
    def alone(self) -> FoldState | None:
        """The only book that holds anything; None where several do, or none: averages are then nobody's."""
        held = [state for state in self.states if state.quantity]
        return held[0] if len(held) == 1 else None


@exactly
def _sum(values: Iterator[Decimal]) -> Decimal:
    return sum(values, ZERO)


def report_findings(
    report: VenueReport, held: HeldLeg, *, received: HeldLeg, tolerance: Decimal = SIZE_TOLERANCE
) -> list[Finding]:
    """Where the last report differs from what was held at its time.

    A report without a time of its own may stand in the row of an older one that had one, so what was held when it came
    in (`received`) will do as well.
    """
    found = [_report_differences(report, each, tolerance=tolerance) for each in (held, received)]
    return found[0] if all(found) else []


def _report_differences(report: VenueReport, held: HeldLeg, *, tolerance: Decimal) -> list[Finding]:
    average = None if held.alone is None else held.alone.average
    return [
        Finding(
            report.key,
            FindingKind(each.kind.value),
            Compared.REPORT,
            each.ours,
            each.theirs,
            source=report.source,
            at=report.reported_at,
        )
        for each in differences(report, quantity=held.quantity, average=average, size_tolerance=tolerance)
    ]


def venue_findings(
    account: Account,
    instrument: Instrument,
    *,
    held: Mapping[Leg, HeldLeg],
    told: VenuePositions,
    tolerance: Decimal = SIZE_TOLERANCE,
) -> list[Finding]:
    """Where what a venue answers differs from what was held at its time."""
    theirs = {each.leg: each for each in told.positions if each.instrument == instrument.name and each.quantity}
    ours = {leg: each for leg, each in held.items() if abs(each.quantity) > tolerance}
    if ours and theirs and (Leg.NET in ours) != (Leg.NET in theirs):
        mixed = _wrong_legs(ours, theirs)
        return [replace(finding, source=told.source, at=told.at) for finding in mixed]
    found = []
    for leg in sorted({*ours, *theirs}):
        key = _venue_key(account, instrument, leg=leg, held=held)
        found += _leg_findings(
            key, held=held.get(leg), there=theirs.get(leg), instrument=instrument, tolerance=tolerance
        )
    return [replace(finding, source=told.source, at=told.at) for finding in found]


def _wrong_legs(ours: Mapping[Leg, HeldLeg], theirs: Mapping[Leg, VenuePosition]) -> Iterator[Finding]:
    there = _sum(each.quantity for each in theirs.values())
    for leg, held in sorted(ours.items()):
        detail = f"held on {leg}, at the venue on {', '.join(sorted(theirs))}"
        yield Finding(held.keys[0], FindingKind.LEG, Compared.VENUE, held.quantity, there, detail)


def _venue_key(account: Account, instrument: Instrument, *, leg: Leg, held: Mapping[Leg, HeldLeg]) -> PositionKey:
    """The book that answers for a leg: the only one there is, else the main one."""
    if leg in held and len(held[leg].keys) == 1:
        return held[leg].keys[0]
    return PositionKey(account, DEFAULT_BOOK, instrument.name, leg)


def _leg_findings(
    key: PositionKey, *, held: HeldLeg | None, there: VenuePosition | None, instrument: Instrument, tolerance: Decimal
) -> list[Finding]:
    ours = None if held is None else held.quantity
    if there is None:
        return [Finding(key, FindingKind.EXTRA, Compared.VENUE, ours, ZERO)]
    if held is None or not ours:
        return [Finding(key, FindingKind.MISSING, Compared.VENUE, ours, there.quantity)]
    if ours * there.quantity < 0:
        return [Finding(key, FindingKind.SIDE, Compared.VENUE, ours, there.quantity)]
    if abs(ours - there.quantity) > tolerance:
        return [Finding(key, FindingKind.SIZE, Compared.VENUE, ours, there.quantity)]
    if held.alone is None or held.alone.average is None:
        return []
    if there.average_price is not None and replaces_average(stored=held.alone.average, reported=there.average_price):
        return [Finding(key, FindingKind.AVERAGE, Compared.VENUE, held.alone.average, there.average_price)]
    return _pnl_findings(key, state=held.alone, there=there, instrument=instrument)


def _pnl_findings(key: PositionKey, *, state: FoldState, there: VenuePosition, instrument: Instrument) -> list[Finding]:
    """Unrealized figures at the venue's own mark, where it tells both."""
    mark, theirs = there.mark_price, there.unrealized_pnl
    if mark is None or theirs is None or mark <= 0:
        return []
    spent = cost(state, instrument, CostMethod.AVERAGE)
    ours = unrealized_at(instrument, quantity=state.quantity, cost=spent, mark=mark)
    assert ours is not None
    # Averages may differ a little by the rule above, and the venue rounds: as much may the result.
    if abs(ours - theirs) <= 2 * PNL_TOLERANCE * abs(notional(instrument, state.quantity, mark)):
        return []
    return [Finding(key, FindingKind.PNL, Compared.VENUE, ours, theirs, f"unrealized at {decimal_text(mark)}")]
