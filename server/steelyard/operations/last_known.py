"""The last figures known of a portfolio, for callers who would rather have old ones than none when the store is away.

Where there is a cache it keeps them; this keeps them in the process where there is none.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from steelyard.accounting.errors import StoreUnavailable
from steelyard.accounting.keys import Account, InstrumentName
from steelyard.operations.caching import heads_of, is_behind, patiently
from steelyard.operations.ports import Clock
from steelyard.operations.read_portfolio import PortfolioAnswers, PortfolioView
from steelyard.operations.reading import AS_IT_IS, Answer, Freshness, ServedFrom

KEPT_MAX = 20_000
"""Positions and groups in all answers kept, some kilobytes each; an answer counts as at least one."""

_Question = tuple[tuple[Account, ...], tuple[InstrumentName, ...], bool]


class LastKnownPortfolio:
    """Answers like what it asks, and remembers."""

    def __init__(self, answers: PortfolioAnswers, *, clock: Clock, kept_max: int = KEPT_MAX) -> None:
        self._answers = answers
        self._clock = clock
        self._kept_max = kept_max
        self._kept: OrderedDict[_Question, Answer[PortfolioView]] = OrderedDict()
        self._size = 0
        self.told = 0
        """How often figures of earlier were told since the start."""

    async def get(
        self,
        *,
        accounts: Sequence[Account] = (),
        instruments: Sequence[InstrumentName] = (),
        has_positions: bool = False,
        freshness: Freshness = AS_IT_IS,
        max_staleness: timedelta | None = None,
    ) -> Answer[PortfolioView]:
        """The portfolio from the store; with `max_staleness` the last known one, up to that age, when it is away."""
        question = (tuple(sorted(set(accounts))), tuple(sorted(set(instruments))), has_positions)
        try:
            read = self._answers.get(
                accounts=accounts, instruments=instruments, has_positions=has_positions, freshness=freshness
            )
            answer = await patiently(read, max_staleness=max_staleness, freshness=freshness)
        except StoreUnavailable:
            known = None if max_staleness is None else self._known(question, max_staleness)
            if known is None or is_behind(heads_of(known), freshness.min_commit):
                raise
            self.told += 1
            return replace(known, seen=replace(known.seen, served_from=ServedFrom.LAST_KNOWN))
        self._keep(question, answer)
        return answer

    def _known(self, question: _Question, max_staleness: timedelta) -> Answer[PortfolioView] | None:
        known = self._kept.get(question)
        return known if known is not None and self._clock() - known.seen.read_at <= max_staleness else None

    def _keep(self, question: _Question, answer: Answer[PortfolioView]) -> None:
        self._drop(question)
        self._kept[question] = answer
        self._size += _size(answer)
        while self._size > self._kept_max:
            self._drop(next(iter(self._kept)))

    def _drop(self, question: _Question) -> None:
        dropped = self._kept.pop(question, None)
        if dropped is not None:
            self._size -= _size(dropped)


def _size(answer: Answer[PortfolioView]) -> int:
    currencies = answer.value.portfolio.currencies.values()
    groups = sum(len(each.by_instrument) + len(each.by_book) for each in currencies)
    return 1 + len(answer.value.positions) + groups
