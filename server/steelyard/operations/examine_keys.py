"""Looking at positions: every key of an instrument is folded from its entries, streamed, and held against what is
stored, against the venue, and against the book's rules.

All of it is read in one snapshot, so writers at work make no false finding. A key is folded once; on the way the state
is taken at each moment that somebody else speaks of. Keys whose entries wait to be folded are left for later.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from steelyard.accounting.entries import Entry
from steelyard.accounting.errors import InvalidField, InvariantBroken
from steelyard.accounting.fold import Fold, FoldRules
from steelyard.accounting.instruments import Instrument
from steelyard.accounting.keys import DEFAULT_BOOK, Account, InstrumentName, Leg, OrderKey, PositionKey
from steelyard.accounting.position import FoldState
from steelyard.accounting.round_trips import RoundTrip
from steelyard.accounting.trading_calendar import Session, day_interval, day_of
from steelyard.accounting.units import decimal_text
from steelyard.accounting.venue_report import SIZE_TOLERANCE, VenueReport
from steelyard.operations.apply_venue_report import LAST_ID, LAST_SEQUENCE
from steelyard.operations.compare_positions import (
    FoldedEntries,
    HeldLeg,
    SeenKey,
    fold_findings,
    report_findings,
    rule_findings,
    session_findings,
    venue_findings,
)
from steelyard.operations.day_rules import rule_of_texts
from steelyard.operations.ports import AccountRules
from steelyard.operations.reconciling import Compared, Finding, FindingKind
from steelyard.operations.venue_positions import VenuePositions


@dataclass(frozen=True, slots=True)
class KnownReport:
    """The last report of a key."""

    report: VenueReport
    received_at: datetime


class ReconcileBook(Protocol):
    """The book as reconciling reads it: in one snapshot."""

    async def seen(self, account: Account, instruments: Sequence[InstrumentName]) -> Sequence[SeenKey]:
        """Every key of these instruments that has a row or live entries, in key order."""
        ...

    def entries(
        self, key: PositionKey, *, start: OrderKey | None, inclusive: bool, end: OrderKey | None = None
    ) -> AsyncIterator[Sequence[Entry]]:
        """Live entries of a key in fold order, in batches that need not fit in memory together."""
        ...

    def stored_trips(self, key: PositionKey) -> AsyncIterator[Sequence[RoundTrip]]:
        """The stored round trips of a key in fold order, in batches."""
        ...

    async def reports(self, account: Account, instruments: Sequence[InstrumentName]) -> Sequence[KnownReport]:
        """The last reports that say a signed quantity."""
        ...

    async def accounts(self, names: Iterable[Account], *, make: AccountRules | None) -> Mapping[Account, AccountRules]:
        """The rules of accounts; unknown ones are left out."""
        ...

    async def instruments(self, names: Iterable[InstrumentName]) -> Mapping[InstrumentName, Instrument]:
        """Records of instruments; unknown ones are left out."""
        ...


@dataclass(slots=True)
class Examined:
    """What looking at keys came to."""

    findings: list[Finding] = field(default_factory=list)
    keys: list[PositionKey] = field(default_factory=list)
    """Those that were compared."""
    waiting: list[PositionKey] = field(default_factory=list)
    """Those that were not: entries wait to be folded."""


def at_moment(at: datetime) -> OrderKey:
    """The place after every entry of a moment."""
    return OrderKey(at, LAST_SEQUENCE, LAST_ID)


def before_moment(at: datetime) -> OrderKey:
    """The place before every entry of a moment."""
    return OrderKey(at, -(2**31), "")


async def fold_entries(
    book: ReconcileBook, seen: SeenKey, *, rules: FoldRules, moments: Iterable[OrderKey] = ()
) -> FoldedEntries:
    """Folds all entries of a key, and holds its round trips against the stored ones as they come.

    Raises `InvariantBroken` where the entries cannot be folded.
    """
    fold, waiting = Fold(rules), sorted(set(moments))
    trips = _TripCheck(book.stored_trips(seen.key))
    at: dict[object, FoldState] = {}
    entries = 0
    async for batch in book.entries(seen.key, start=None, inclusive=False):
        entries += len(batch)
        rest: Sequence[Entry] = batch
        while rest and waiting and rest[-1].order >= waiting[0]:
            cut = bisect_left(rest, waiting[0], key=_place)
            fold.feed(rest[:cut])
            at[waiting.pop(0)] = fold.state()
            rest = rest[cut:]
        fold.feed(rest)
        finished, _ = fold.drain()
        await trips.compare(finished)
    state = fold.state()
    at |= dict.fromkeys(waiting, state)
    await trips.compare([] if state.trip is None else [state.trip])
    return FoldedEntries(state, entries, await trips.verdict(), at)


def _place(entry: Entry) -> OrderKey:
    return entry.order


class _TripCheck:
    """Stored round trips, read as far as they are needed."""

    def __init__(self, batches: AsyncIterator[Sequence[RoundTrip]]) -> None:
        self._batches = batches
        self._here: list[RoundTrip] = []
        self._wrong = ""

    async def compare(self, trips: Sequence[RoundTrip]) -> None:
        """These come next."""
        for trip in trips:
            stored = await self._next()
            if not self._wrong and stored != trip:
                self._wrong = f"the round trip opened by {trip.opened.entry_id}"

    async def verdict(self) -> str:
        """The first that differs; empty: none does, and nothing is left over."""
        if not self._wrong and await self._next() is not None:
            self._wrong = "more round trips than the entries make"
        return self._wrong

    async def _next(self) -> RoundTrip | None:
        if not self._here:
            try:
                self._here = list(reversed(await anext(self._batches)))
            except StopAsyncIteration:
                return None
        return self._here.pop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What positions are held against."""

    now: datetime
    venue: VenuePositions | None = None
    """What the account's venue answered; None: there is none, or it did not."""
    covers: Callable[[Instrument], bool] = lambda _: True
    """Whether the venue would name a position in an instrument."""
    size_tolerance: Decimal = SIZE_TOLERANCE

    async def look(self, book: ReconcileBook, account: Account, *, instruments: Sequence[InstrumentName]) -> Examined:
        """Looks at all keys of these instruments of an account."""
        examined = Examined()
        rules = (await book.accounts([account], make=None)).get(account)
        records = await book.instruments(instruments)
        groups: dict[InstrumentName, list[SeenKey]] = {name: [] for name in instruments}
        for seen in await book.seen(account, instruments):
            groups[seen.key.instrument].append(seen)
        reports: dict[InstrumentName, list[KnownReport]] = {}
        for known in await book.reports(account, instruments):
            reports.setdefault(known.report.key.instrument, []).append(known)
        for name, keys in groups.items():
            record = records.get(name)
            if record is None or rules is None:
                _without_record(examined, keys, has_account=rules is not None)
                examined.findings += _unknown_here(account, name, venue=self.venue)
                continue
            group = _Group(self, rules=rules, record=record, keys=keys, reports=reports.get(name, []))
            await group.look(book, examined)
        return examined


def _without_record(examined: Examined, keys: Sequence[SeenKey], *, has_account: bool) -> None:
    detail = f"the {'instrument' if has_account else 'account'} has no record"
    for seen in keys:
        examined.keys.append(seen.key)
        count = Decimal(seen.stored.state.lifetime.fill_count)
        examined.findings.append(Finding(seen.key, FindingKind.ORPHAN_FILLS, Compared.BOOK, count, None, detail))


def _unknown_here(account: Account, name: InstrumentName, *, venue: VenuePositions | None) -> Iterator[Finding]:
    """What a venue holds of an instrument that has no record here."""
    if venue is None:
        return
    for each in venue.positions:
        if each.instrument == name and each.quantity:
            key = PositionKey(account, DEFAULT_BOOK, name, each.leg)
            detail = "the instrument has no record"
            yield Finding(
                key, FindingKind.MISSING, Compared.VENUE, None, each.quantity, detail, source=venue.source, at=venue.at
            )


class _Group:
    """All books and legs of one instrument of an account."""

    def __init__(
        self,
        terms: Examination,
        *,
        rules: AccountRules,
        record: Instrument,
        keys: Sequence[SeenKey],
        reports: Sequence[KnownReport],
    ) -> None:
        self._terms = terms
        self._rules = rules
        self._record = record
        self._keys = keys
        self._reports = reports
        self._folded: dict[PositionKey, FoldedEntries] = {}
        self._close = session_close(rules, now=terms.now)

    async def look(self, book: ReconcileBook, examined: Examined) -> None:
        for seen in self._keys:
            if seen.is_waiting:
                examined.waiting.append(seen.key)
            else:
                examined.keys.append(seen.key)
                examined.findings += await self._look_at(book, seen)
        if all(seen.key in self._folded for seen in self._keys):
            examined.findings += self._compare_venue()

    async def _look_at(self, book: ReconcileBook, seen: SeenKey) -> list[Finding]:
        rules = FoldRules(self._record, seen.key.leg, self._rules.lot_method)
        try:
            folded = await fold_entries(book, seen, rules=rules, moments=self._moments())
        except (InvariantBroken, InvalidField, ArithmeticError) as error:
            detail = f"the entries cannot be folded: {error}"
            return [Finding(seen.key, FindingKind.ROUND_TRIPS, Compared.FOLD, detail=detail)]
        self._folded[seen.key] = folded
        found = fold_findings(seen, folded) + rule_findings(seen, folded)
        if not seen.stored.version and folded.entries:
            count, detail = Decimal(folded.entries), "entries of a key without a position"
            found.append(Finding(seen.key, FindingKind.ORPHAN_FILLS, Compared.BOOK, count, None, detail))
        if self._close is not None:
            found += session_findings(seen, folded.at[before_moment(self._close)], close=self._close)
        return found

    def _moments(self) -> list[OrderKey]:
        moments = [at_moment(at) for known in self._reports for at in _times(known)]
        if self._close is not None:
            moments.append(before_moment(self._close))
        if self._terms.venue is not None:
            moments.append(at_moment(self._terms.venue.at))
        return moments

    def _compare_venue(self) -> list[Finding]:
        found = []
        for known in self._reports:
            first, *_, last = (self._held(known.report.key.leg, at_moment(at)) for at in _times(known))
            found += report_findings(known.report, first, received=last, tolerance=self._terms.size_tolerance)
        venue = self._terms.venue
        if venue is not None and self._terms.covers(self._record):
            held = {leg: self._held(leg, at_moment(venue.at)) for leg in Leg}
            found += venue_findings(
                self._rules.account,
                self._record,
                held={leg: each for leg, each in held.items() if each.keys},
                told=venue,
                tolerance=self._terms.size_tolerance,
            )
        return found

    def _held(self, leg: Leg, place: OrderKey) -> HeldLeg:
        keys = [seen.key for seen in self._keys if seen.key.leg is leg]
        return HeldLeg(keys, [self._folded[key].at[place] for key in keys])


def _times(known: KnownReport) -> tuple[datetime, datetime]:
    return known.report.reported_at or known.received_at, known.received_at


def session_close(rules: AccountRules, *, now: datetime) -> datetime | None:
    """The last close of an account's session; None where its days are the calendar's."""
    rule = rule_of_texts(rules.day_rule)
    return day_interval(day_of(now, rule), rule)[0] if isinstance(rule, Session) else None


def told(finding: Finding) -> str:
    """A finding on one line."""
    sides = " and ".join("nothing" if side is None else decimal_text(side) for side in (finding.ours, finding.theirs))
    detail = f" ({finding.detail})" if finding.detail else ""
    return f"{finding.kind} against {finding.compared}: {sides}{detail}"
