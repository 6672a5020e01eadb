"""Takes prices as they come and tells the latest ones.

The newer price time of an instrument wins, whatever the order of arrival; marks never touch a position. A stream writes
at most ten times a second; prices that arrive meanwhile are conflated: only the newest of each instrument is written
next. So however many come, what waits is at most one price of each instrument, and so is what is written at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from steelyard.accounting.errors import InvalidField
from steelyard.accounting.instruments import Instrument
from steelyard.accounting.keys import InstrumentName
from steelyard.accounting.marks import STALE_AFTER, Mark, MarkState, check_mark, mark_state
from steelyard.operations.ports import Clock
from steelyard.operations.reading import Cursor, Page

WRITE_INTERVAL_S = 0.1
"""The least time between two writes of one stream."""
REJECTIONS_TOLD_MAX = 100
"""Refused prices that an answer names."""


@dataclass(frozen=True, slots=True)
class ReportedMark:
    """A price as it was reported, at its place in the stream."""

    index: int
    instrument: InstrumentName
    mark: Mark


@dataclass(frozen=True, slots=True)
class MarkRejection:
    """Why a price could not be taken."""

    index: int
    """Its place in the stream, from 0."""
    instrument: str
    field: str
    """instrument, price, at or source."""
    message: str


Reported = ReportedMark | MarkRejection


@dataclass(slots=True)
class MarkTally:
    """What became of the prices of one stream."""

    accepted: int = 0
    superseded: int = 0
    """Not newer than the one known."""
    rejected: int = 0
    rejections: list[MarkRejection] = field(default_factory=list)
    """The first 100."""

    def reject(self, rejection: MarkRejection) -> None:
        """Counts a price that cannot be taken."""
        self.rejected += 1
        if len(self.rejections) < REJECTIONS_TOLD_MAX:
            self.rejections.append(rejection)


@dataclass(frozen=True, slots=True)
class MarkView:
    """The latest price of an instrument and how fresh it is; None where none was ever known."""

    instrument: InstrumentName
    mark: Mark | None
    state: MarkState


class MarkStore(Protocol):
    """Keeps the latest price of each instrument."""

    async def instruments(self, names: Collection[InstrumentName]) -> Mapping[InstrumentName, Instrument]:
        """Records of instruments; a contract without one has its root's. Unknown ones are left out."""
        ...

    async def keep(self, marks: Mapping[InstrumentName, Mark]) -> int:
        """Keeps those that are newer than what is known; says how many."""
        ...

    async def page(
        self, names: Sequence[InstrumentName], *, size: int, after: Cursor | None
    ) -> Page[tuple[InstrumentName, Mark | None]]:
        """Prices by instrument: those of `names`, also where there is none; without names all there are."""
        ...


class ApplyMarks:
    """Takes prices and answers questions about them."""

    def __init__(self, store: MarkStore, *, clock: Clock, stale_after: timedelta = STALE_AFTER) -> None:
        self._store = store
        self._clock = clock
        self._stale_after = stale_after

    async def report(self, messages: AsyncIterator[Sequence[Reported]]) -> MarkTally:
        """Takes a stream of prices to its end. What cannot be taken is counted and named; the others are kept."""
        intake = _Intake(self._store, self._clock)
        writing: asyncio.Task[None] | None = None
        try:
            async for message in messages:
                await intake.take(message)
                if writing is not None and writing.done():
                    await writing
                    writing = None
                if writing is None:
                    writing = asyncio.create_task(intake.write_on(), name="write_marks")
        finally:
            intake.end()
            if writing is not None:
                await writing
            await intake.write()
        return intake.tally

    async def page(
        self, names: Sequence[InstrumentName] = (), *, size: int, after: Cursor | None = None
    ) -> Page[MarkView]:
        """A page of the latest prices by instrument; of `names` also those that have none."""
        page = await self._store.page(names, size=size, after=after)
        now = self._clock()
        views = [
            MarkView(name, mark, mark_state(mark, now=now, stale_after=self._stale_after)) for name, mark in page.rows
        ]
        return Page(views, page.next_after)


class _Intake:
    """The prices of one stream that are not written yet: the newest of each instrument."""

    def __init__(self, store: MarkStore, clock: Clock) -> None:
        self.tally = MarkTally()
        self._store = store
        self._clock = clock
        self._known: dict[InstrumentName, Instrument] = {}
        self._waiting: dict[InstrumentName, Mark] = {}
        self._ended = asyncio.Event()

    async def take(self, message: Sequence[Reported]) -> None:
        """Checks prices and keeps the newest of each instrument waiting."""
        names = {each.instrument for each in message if isinstance(each, ReportedMark)} - self._known.keys()
        if names:
            self._known.update(await self._store.instruments(names))
        now = self._clock()
        for each in message:
            if isinstance(each, MarkRejection):
                self.tally.reject(each)
                continue
            record = self._known.get(each.instrument)
            if record is None:
                self.tally.reject(MarkRejection(each.index, each.instrument, "instrument", "has no record"))
                continue
            try:
                check_mark(each.mark, record, now=now)
            except InvalidField as error:
                self.tally.reject(MarkRejection(each.index, each.instrument, error.field, error.why))
                continue
            self._wait(each.instrument, each.mark)

    def _wait(self, name: InstrumentName, mark: Mark) -> None:
        waiting = self._waiting.get(name)
        if waiting is not None:
            self.tally.superseded += 1
            if mark.at <= waiting.at:
                return
        self._waiting[name] = mark

    def end(self) -> None:
        """No more prices come: what waits need not wait for its turn."""
        self._ended.set()

    async def write_on(self) -> None:
        """Writes what waits, and what has come by the next turn, until nothing has."""
        while self._waiting and not self._ended.is_set():
            await self.write()
            try:
                async with asyncio.timeout(WRITE_INTERVAL_S):
                    await self._ended.wait()
            except TimeoutError:
                pass

    async def write(self) -> None:
        """Writes what waits."""
        marks, self._waiting = self._waiting, {}
        if marks:
            kept = await self._store.keep(marks)
            self.tally.accepted += kept
            self.tally.superseded += len(marks) - kept
