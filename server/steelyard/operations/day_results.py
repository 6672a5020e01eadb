"""What the fills executed in an account's day came to: exact, and cheap enough to be asked before every order.

Problem: the net realized of a day's fills is a difference, a position's lifetime now less that at the day's start, but
what stood at the day's start is not stored, and folding a day anew before each order would take as long as the day is
busy. Choice: what a key had at the day's start is folded once, from the last start before it (a flat point or a
checkpoint, so at most some thousand entries), and kept in the process. It stays right until something changes the past:
the account log says which keys moved since, and whether by nothing but new fills of this day. Only the others are
worked out anew.
Rejected: folding the day's entries on every question; sums of round trips (a trip held over night lies in two days).

A kept opening is right for every snapshot from the step at which it was read to the step up to which the log was seen.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from steelyard.accounting.fold import FoldRules
from steelyard.accounting.instruments import Instrument
from steelyard.accounting.keys import Account, OrderKey, PositionKey
from steelyard.accounting.limits import NO_RESULT, DayResult, RiskRow, results_since
from steelyard.accounting.lots import LotMethod
from steelyard.accounting.round_trips import CostMethod, Sums
from steelyard.accounting.trading_calendar import Interval
from steelyard.operations.ports import AccountRules, BookTransaction, StoredPosition
from steelyard.operations.refold import state_before

ACCOUNTS_MAX = 1_000
"""Accounts whose openings are kept; the one not asked about for longest goes."""
CATCH_UP_MAX = 5_000
"""Steps of an account's log that are looked through; after more, openings are folded anew."""


@dataclass(frozen=True, slots=True)
class KeyMoves:
    """What the log says about a key since some step."""

    fills: int
    """Fills that its versions applied."""
    fill_count: int
    """Of its newest version, lifetime."""
    is_doubtful: bool
    """Whether anything but new fills of the day may have changed it."""


class DaySnapshot(Protocol):
    """What working out a day reads, in one snapshot."""

    @property
    def book(self) -> BookTransaction:
        """The book, for folding."""
        ...

    async def moves(self, account: Account, *, after_seq: int, day_start: datetime) -> Mapping[PositionKey, KeyMoves]:
        """What the log says about the keys of an account behind a step."""
        ...


@dataclass(frozen=True, slots=True)
class _Opening:
    """What a key had come to at the day's start."""

    sums: Sums
    since: int
    """The step of the log at which this was read."""
    fill_count: int
    """Lifetime, at the step up to which the log was seen."""
    instrument: Instrument


@dataclass(slots=True)
class _Day:
    start: datetime
    lot_method: LotMethod
    seq: int
    """The step up to which the log was seen."""
    openings: dict[PositionKey, _Opening] = field(default_factory=dict)


class DayResults:
    """Works out days; one per process, shared by all who ask."""

    def __init__(self) -> None:
        self._days: OrderedDict[Account, _Day] = OrderedDict()

    async def of(
        self,
        snapshot: DaySnapshot,
        rows: Sequence[RiskRow],
        *,
        seq: int,
        rules: AccountRules,
        day: Interval,
        unfolded: Mapping[PositionKey, str],
    ) -> Mapping[str, DayResult]:
        """The results of a day per settle currency. `rows` has every position with a fill executed since its start, as
        the snapshot at `seq` shows it; keys in `unfolded` make their currency's result incomplete."""
        begins, ends = day
        moved = [row for row in rows if row.last_fill_at is not None and row.last_fill_at >= begins]
        known = [row for row in moved if row.key not in unfolded]
        openings = await self._openings(snapshot, known, seq=seq, rules=rules, begins=begins)
        closings = await self._closings(snapshot, known, rules=rules, ends=ends)
        results = results_since(openings, [closings.get(row.key, row) for row in known], method=rules.cost_method)
        for currency in unfolded.values():
            results[currency] = replace(results.get(currency, NO_RESULT), is_complete=False)
        return results

    async def _openings(
        self,
        snapshot: DaySnapshot,
        rows: Sequence[RiskRow],
        *,
        seq: int,
        rules: AccountRules,
        begins: datetime,
    ) -> Mapping[PositionKey, Sums]:
        kept = self._day_of(rules, begins=begins, seq=seq)
        await _catch_up(snapshot, kept, account=rules.account, seq=seq)
        found, missing = {}, []
        for row in rows:
            opening = kept.openings.get(row.key)
            if opening is None or not opening.since <= seq <= kept.seq or opening.instrument != row.instrument:
                missing.append(row)
            else:
                found[row.key] = opening.sums
        if missing:
            folded = await _sums_before(snapshot.book, missing, lot_method=rules.lot_method, at=begins)
            found.update(folded)
            if kept.seq == seq:
                for row in missing:
                    kept.openings[row.key] = _Opening(folded[row.key], seq, row.fill_count, row.instrument)
        return found

    @staticmethod
    async def _closings(
        snapshot: DaySnapshot, rows: Sequence[RiskRow], *, rules: AccountRules, ends: datetime
    ) -> Mapping[PositionKey, RiskRow]:
        """What stood at the day's end, of keys with fills behind it: a clock may run minutes ahead."""
        beyond = [row for row in rows if row.last_fill_at is not None and row.last_fill_at >= ends]
        if not beyond:
            return {}
        sums = await _sums_before(snapshot.book, beyond, lot_method=rules.lot_method, at=ends)
        return {row.key: _at_end(row, sums[row.key], method=rules.cost_method) for row in beyond}

    def _day_of(self, rules: AccountRules, *, begins: datetime, seq: int) -> _Day:
        kept = self._days.get(rules.account)
        if kept is None or kept.start != begins or kept.lot_method is not rules.lot_method:
            kept = self._days[rules.account] = _Day(begins, rules.lot_method, seq)
        self._days.move_to_end(rules.account)
        while len(self._days) > ACCOUNTS_MAX:
            self._days.popitem(last=False)
        return kept


def _at_end(row: RiskRow, sums: Sums, *, method: CostMethod) -> RiskRow:
    return row._replace(gross_realized=sums.gross(method), fees=sums.fees, unvalued_fees=sums.unvalued_fees)


async def _catch_up(snapshot: DaySnapshot, kept: _Day, *, account: Account, seq: int) -> None:
    """Looks through the log up to the snapshot's step and forgets what may have changed."""
    while kept.seq < seq:
        seen = kept.seq
        if not kept.openings or seq - seen > CATCH_UP_MAX:
            kept.openings.clear()
            kept.seq = seq
            return
        moves = await snapshot.moves(account, after_seq=seen, day_start=kept.start)
        if kept.seq != seen:
            continue  # somebody else went on meanwhile
        for key, moved in moves.items():
            opening = kept.openings.get(key)
            if opening is None:
                continue
            if moved.is_doubtful or opening.fill_count + moved.fills != moved.fill_count:
                del kept.openings[key]
            else:
                kept.openings[key] = _Opening(opening.sums, opening.since, moved.fill_count, opening.instrument)
        kept.seq = seq


async def _sums_before(
    book: BookTransaction, rows: Collection[RiskRow], *, lot_method: LotMethod, at: datetime
) -> Mapping[PositionKey, Sums]:
    """What keys had come to before an instant."""
    place = OrderKey(at, -(2**31), "")
    stored: Mapping[PositionKey, StoredPosition] = await book.peek_positions([row.key for row in rows])
    found = {}
    for row in rows:
        rules = FoldRules(row.instrument, row.key.leg, lot_method)
        state = await state_before(book, stored=stored[row.key], rules=rules, place=place)
        found[row.key] = state.lifetime
    return found
