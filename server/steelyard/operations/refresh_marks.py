"""Fresh prices for instruments whose mark a read found stale or missing.

A read never waits for a price: it says STALE and tells `met`, which returns at once; the price source is asked behind
its back, with one call in flight for each instrument, and a failure only leaves the last known price where it is. Who
demands fresh prices waits for the same calls, up to his own deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import Protocol

from steelyard.accounting.errors import InvalidField, PricesNotFresh, SteelyardError
from steelyard.accounting.keys import InstrumentName
from steelyard.accounting.marks import STALE_AFTER, Mark, MarkState, check_mark, mark_state
from steelyard.operations.apply_marks import MarkStore
from steelyard.operations.ports import Clock
from steelyard.operations.single_flight import SingleFlight

UNDER_WAY_MAX = 256
"""Refreshes that have begun; beyond that a read's finding is dropped, and the next read finds it again."""
AGAIN_AFTER_S = 5.0
"""How long after a price was had its instrument is left alone, even if the price was an old one."""
AGAIN_AFTER_FAILURE_S = 30.0
AGAIN_AFTER_UNKNOWN_S = 600.0
"""The source does not know the instrument; it may list it one day."""
REMEMBERED_MAX = 10_000


class PriceFailureReason(StrEnum):
    """Why there is no new price."""

    TIMEOUT = "TIMEOUT"
    UNREACHABLE = "UNREACHABLE"
    """No connection, one that was cut, or an error of the source's own."""
    RATE_LIMITED = "RATE_LIMITED"
    UNKNOWN_INSTRUMENT = "UNKNOWN_INSTRUMENT"
    """To the source, or to us."""
    REFUSED = "REFUSED"
    """The source refused the question, or we its price."""
    GARBLED = "GARBLED"
    """The answer is not what the source documents."""
    STORE = "STORE"
    """The price could not be kept."""
    BUG = "BUG"


@dataclass(frozen=True, slots=True)
class PriceFailure:
    """Why a source has no price for us."""

    reason: PriceFailureReason
    text: str


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What became of one refresh, for logs and counters."""

    instrument: InstrumentName
    outcome: Mark | PriceFailure
    took_s: float

    @property
    def failure(self) -> PriceFailure | None:
        """None where a price was had and kept, unless a newer one was known by then."""
        return self.outcome if isinstance(self.outcome, PriceFailure) else None


class PriceSource(Protocol):
    """Somebody who knows prices."""

    def knows(self, instrument: InstrumentName) -> bool:
        """Whether it makes sense to ask for this instrument."""
        ...

    async def latest(self, instrument: InstrumentName) -> Mark | PriceFailure:
        """The latest price with its own time, or why there is none; tries as often as it thinks right."""
        ...


class NoPriceSource:
    """Fulfils `PriceSource` where there is none: prices are only those that are reported."""

    def knows(self, instrument: InstrumentName) -> bool:
        """Nothing."""
        return False

    async def latest(self, instrument: InstrumentName) -> Mark | PriceFailure:
        """None."""
        return PriceFailure(PriceFailureReason.UNKNOWN_INSTRUMENT, "there is no price source")


def _say_nothing(refreshed: Refreshed) -> None:
    pass


class RefreshMarks:
    """Asks a price source for what reads found stale."""

    def __init__(
        self,
        source: PriceSource,
        store: MarkStore,
        *,
        clock: Clock,
        stale_after: timedelta = STALE_AFTER,
        report: Callable[[Refreshed], None] = _say_nothing,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`report` is told what became of every refresh."""
        self.refreshed = 0
        """Prices had since the start."""
        self.failures: Counter[PriceFailureReason] = Counter()
        self._source = source
        self._store = store
        self._clock = clock
        self._stale_after = stale_after
        self._report = report
        self._now_s = now_s
        self._flights: SingleFlight[Mark | PriceFailure] = SingleFlight()
        self._leave_until_s: OrderedDict[InstrumentName, float] = OrderedDict()

    def met(self, stale: Iterable[InstrumentName]) -> None:
        """Begins to refresh instruments whose mark is stale or missing; never waits, never fails."""
        for name in stale:
            if name in self._flights or len(self._flights) >= UNDER_WAY_MAX:
                continue
            if self._now_s() >= self._leave_until_s.get(name, 0.0) and self._source.knows(name):
                self._flights.begin(name, partial(self._refresh, name))

    async def demand(self, names: Collection[InstrumentName], *, wait_s: float) -> None:
        """Returns once the marks of all these are fresh; raises `PricesNotFresh` when they are not within `wait_s`."""
        stale = await self._stale(names)
        hopeless: Sequence[InstrumentName] = [name for name in stale if not self._source.knows(name)]
        if stale and not hopeless:
            calls = [self._flights.run(name, partial(self._refresh, name)) for name in stale]
            try:
                async with asyncio.timeout(wait_s):
                    await asyncio.gather(*calls)
            except TimeoutError:
                pass
            hopeless = await self._stale(stale)
        if hopeless:
            raise PricesNotFresh(f"no fresh price of {', '.join(sorted(hopeless)[:10])}")

    async def close(self) -> None:
        """Ends refreshes under way."""
        await self._flights.close()

    async def _stale(self, names: Collection[InstrumentName]) -> Sequence[InstrumentName]:
        if not names:
            return []
        page = await self._store.page(sorted(set(names)), size=len(names), after=None)
        now = self._clock()
        states = {name: mark_state(mark, now=now, stale_after=self._stale_after) for name, mark in page.rows}
        return [name for name, state in states.items() if state is not MarkState.FRESH]

    async def _refresh(self, name: InstrumentName) -> Mark | PriceFailure:
        begun_s = self._now_s()
        try:
            outcome = await self._source.latest(name)
            if isinstance(outcome, Mark):
                outcome = await self._keep(name, outcome)
        except SteelyardError as error:
            outcome = PriceFailure(PriceFailureReason.STORE, error.message)
        except Exception as error:  # noqa: BLE001 - nobody waits for this: it is told, and the last price stays
            outcome = PriceFailure(PriceFailureReason.BUG, f"{type(error).__name__}: {error}")
        if isinstance(outcome, PriceFailure):
            self.failures[outcome.reason] += 1
        else:
            self.refreshed += 1
        self._leave(name, outcome)
        self._report(Refreshed(name, outcome, self._now_s() - begun_s))
        return outcome

    async def _keep(self, name: InstrumentName, mark: Mark) -> Mark | PriceFailure:
        record = (await self._store.instruments([name])).get(name)
        if record is None:
            return PriceFailure(PriceFailureReason.UNKNOWN_INSTRUMENT, "it has no record here")
        try:
            check_mark(mark, record, now=self._clock())
        except InvalidField as error:
            return PriceFailure(PriceFailureReason.REFUSED, error.message)
        await self._store.keep({name: mark})
        return mark

    def _leave(self, name: InstrumentName, outcome: Mark | PriceFailure) -> None:
        pause_s = AGAIN_AFTER_S
        if isinstance(outcome, PriceFailure):
            is_unknown = outcome.reason is PriceFailureReason.UNKNOWN_INSTRUMENT
            pause_s = AGAIN_AFTER_UNKNOWN_S if is_unknown else AGAIN_AFTER_FAILURE_S
        self._leave_until_s[name] = self._now_s() + pause_s
        self._leave_until_s.move_to_end(name)
        while len(self._leave_until_s) > REMEMBERED_MAX:
            self._leave_until_s.popitem(last=False)
