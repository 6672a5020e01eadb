"""Answers read once and told often: memory of this process, then the cache, then one consistent read for all who ask.

A question's answer is looked for under the newest commits known, or demanded by the caller, of every account that it
is about. What is found there is as new as a read would have been when those commits were looked up; what is read is
kept under the commits that its own snapshot saw, which may be newer. An answer lives `ttl_s` from the moment it was
read, wherever it is kept.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Generic, TypeVar

from steelyard.accounting.errors import NotYetVisible, StoreUnavailable
from steelyard.operations.caching import Cache, Form, Question, heads_of, is_behind, patiently
from steelyard.operations.newest_heads import NewestHeads
from steelyard.operations.ports import Clock
from steelyard.operations.reading import AS_IT_IS, Answer, Freshness, Heads, ServedFrom
from steelyard.operations.single_flight import SingleFlight

MEMORY_BYTES = 2 << 20
"""What one kind of answers may fill of this process's memory, measured as written text; as objects they take several
times that."""
LAST_KNOWN_S = 3_600.0
"""How long the newest answer known is kept for the time when the store is away."""
LAST_KNOWN_EVERY_S = 5.0
"""How often the newest answer known of one question is put into the cache."""

T = TypeVar("T")
Read = Callable[[Freshness], Awaitable[Answer[T]]]
"""Asks the store; the answer is as fresh as demanded."""


@dataclass(slots=True)
class CachedAnswersFigures:
    """What became of questions since the start, as plain counts and seconds."""

    from_memory: int = 0
    from_cache: int = 0
    from_store: int = 0
    joined: int = 0
    """Answered by somebody else's read of the same question."""
    uncached: int = 0
    """Asked of the store alone: what was demanded was not visible yet, or a joined read did not show it."""
    last_known: int = 0
    unreadable: int = 0
    """Found in the cache but not understood, or too old: counted as misses."""
    warmed: int = 0
    hit_s: float = 0.0
    """Seconds spent on answers from memory or cache, in all."""
    store_s: float = 0.0
    """Seconds spent on reads of the store, in all."""

    @property
    def hits(self) -> int:
        """Answers that cost no read of their own."""
        return self.from_memory + self.from_cache + self.joined

    @property
    def hit_rate(self) -> float:
        """The part of all questions that cost no read of their own, 0 to 1."""
        asked = self.hits + self.from_store + self.uncached + self.last_known
        return self.hits / asked if asked else 0.0


@dataclass(frozen=True, slots=True)
class _Kept(Generic[T]):
    answer: Answer[T]
    until_s: float
    size: int


@dataclass(slots=True)
class _Memory(Generic[T]):
    """The answers used last, up to a number of bytes."""

    bytes_max: int
    kept: OrderedDict[Hashable, _Kept[T]] = field(default_factory=OrderedDict)
    size: int = 0

    def get(self, name: Hashable, *, now_s: float) -> Answer[T] | None:
        found = self.kept.get(name)
        if found is None:
            return None
        if found.until_s <= now_s:
            self._drop(name)
            return None
        self.kept.move_to_end(name)
        return found.answer

    def put(self, name: Hashable, kept: _Kept[T]) -> None:
        if name in self.kept:
            self._drop(name)
        if kept.size > self.bytes_max:
            return
        self.kept[name] = kept
        self.size += kept.size
        while self.size > self.bytes_max:
            self._drop(next(iter(self.kept)))

    def _drop(self, name: Hashable) -> None:
        self.size -= self.kept.pop(name).size


class CachedAnswers(Generic[T]):
    """Answers of one kind of question."""

    def __init__(
        self,
        cache: Cache,
        heads: NewestHeads,
        *,
        form: Form[T],
        ttl_s: float,
        clock: Clock,
        memory_bytes: int = MEMORY_BYTES,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.figures = CachedAnswersFigures()
        self._cache = cache
        self._heads = heads
        self._form = form
        self._ttl_s = ttl_s
        self._clock = clock
        self._now_s = now_s
        self._memory: _Memory[T] = _Memory(memory_bytes)
        self._last: _Memory[T] = _Memory(memory_bytes)
        self._last_put_s: OrderedDict[str, float] = OrderedDict()
        self._flights: SingleFlight[Answer[T]] = SingleFlight()

    async def answer(
        self,
        question: Question,
        *,
        read: Read[T],
        freshness: Freshness = AS_IT_IS,
        max_staleness: timedelta | None = None,
        newest: Sequence[int] | None = None,
    ) -> Answer[T]:
        """The answer, as fresh as demanded; `seen` says of which commits and from where.

        `newest` are the commits of the question's accounts, and what is demanded of them, where the caller has looked
        them up for this question already. With `max_staleness` the last known figures answer, up to that age, when the
        store is away. Raises what `read` raises.
        """
        answering = self._answer(question, read=read, freshness=freshness, newest=newest)
        if max_staleness is None:
            return await answering
        try:
            return await patiently(answering, max_staleness=max_staleness, freshness=freshness)
        except StoreUnavailable:
            known = await self._last_known(question, max_staleness)
            if known is None or is_behind(heads_of(known), freshness.min_commit):
                raise
            self.figures.last_known += 1
            return known

    async def warm(self, question: Question, *, read: Read[T]) -> None:
        """Reads an answer so that whoever asks first finds it; one that is kept already is left alone."""
        await self._answer(question, read=read, freshness=AS_IT_IS)
        self.figures.warmed += 1

    async def close(self) -> None:
        """Ends reads that nobody may be waiting for any more."""
        await self._flights.close()

    async def _answer(
        self, question: Question, *, read: Read[T], freshness: Freshness, newest: Sequence[int] | None = None
    ) -> Answer[T]:
        begun_s = self._now_s()
        wanted = _concerning(question, freshness.min_commit)
        seqs = newest or await self._seqs(question, wanted)
        if seqs is None:
            return await self._read_alone(read, freshness)
        kept = self._memory.get((question, *seqs), now_s=begun_s)
        if kept is not None:
            self.figures.from_memory += 1
            self.figures.hit_s += self._now_s() - begun_s
            return kept
        name = question.name(seqs, fingerprint=self._form.fingerprint)
        return await self._find_together(question, name, seqs=seqs, read=read, freshness=freshness)

    async def _seqs(self, question: Question, wanted: Heads) -> Sequence[int] | None:
        """The newest commits that name the answer; None where what is demanded cannot be seen yet."""
        if question.accounts:
            return await self._heads.of(question.accounts, at_least=wanted)
        total = await self._heads.of_all(at_least=wanted)
        return None if total is None else [total]

    async def _find_together(
        self, question: Question, name: str, *, seqs: Sequence[int], read: Read[T], freshness: Freshness
    ) -> Answer[T]:
        """The answer found or read by whoever asked first, unless that does not do for us."""
        is_joining = name in self._flights
        try:
            answer, _ = await self._flights.run(
                name, lambda: self._find(question, name, seqs=seqs, read=read, freshness=freshness)
            )
        except NotYetVisible:
            if not is_joining:
                raise
            return await self._read_alone(read, freshness)  # whoever began may have had less time than we do
        if not is_joining:
            return answer
        # About everybody there is nothing to compare: the sum in the name was read after what we demand was visible.
        if question.accounts and is_behind(heads_of(answer), _concerning(question, freshness.min_commit)):
            return await self._read_alone(read, freshness)
        self.figures.joined += 1
        return answer

    async def _find(
        self, question: Question, name: str, *, seqs: Sequence[int], read: Read[T], freshness: Freshness
    ) -> Answer[T]:
        begun_s = self._now_s()
        written = await self._cache.get(name)
        if written is not None and (found := self._understood(written)) is not None:
            self._remember((question, *seqs), found, size=len(written))
            self.figures.from_cache += 1
            self.figures.hit_s += self._now_s() - begun_s
            return found
        begun_s = self._now_s()
        total = None if question.accounts else await self._heads.of_all(at_least=freshness.min_commit)
        answer = await read(freshness)
        self.figures.from_store += 1
        self.figures.store_s += self._now_s() - begun_s
        self._heads.saw(answer.seen.commits)
        self._keep(question, answer, total=total)
        return answer

    async def _read_alone(self, read: Read[T], freshness: Freshness) -> Answer[T]:
        begun_s = self._now_s()
        answer = await read(freshness)
        self.figures.uncached += 1
        self.figures.store_s += self._now_s() - begun_s
        self._heads.saw(answer.seen.commits)
        return answer

    def _keep(self, question: Question, answer: Answer[T], *, total: int | None) -> None:
        fingerprint = self._form.fingerprint
        seen = heads_of(answer)
        # An answer about everybody was read after the sum: it is at least that new.
        seqs = [seen.get(account, 0) for account in question.accounts] or [total or 0]
        written = self._form.write(answer)
        kept = replace(answer, seen=replace(answer.seen, served_from=ServedFrom.CACHE))
        name = question.name(seqs, fingerprint=fingerprint)
        self._remember((question, *seqs), kept, size=len(written))
        self._cache.put(name, written, ttl_s=self._ttl_s)
        self._keep_last(question.last_name(fingerprint=fingerprint), kept, written=written)

    def _remember(self, name: Hashable, answer: Answer[T], *, size: int) -> None:
        left_s = self._ttl_s - self._age_s(answer)
        if left_s > 0:
            self._memory.put(name, _Kept(answer, self._now_s() + left_s, size))

    def _understood(self, written: bytes) -> Answer[T] | None:
        """The answer in what the cache holds, unless it cannot be read or is older than answers may be."""
        try:
            answer = self._form.read(written)
        except ValueError:
            self.figures.unreadable += 1
            return None
        if self._age_s(answer) >= self._ttl_s:
            self.figures.unreadable += 1
            return None
        return replace(answer, seen=replace(answer.seen, served_from=ServedFrom.CACHE))

    def _age_s(self, answer: Answer[T]) -> float:
        # Clocks of machines differ: an answer from the future is new.
        return max(0.0, (self._clock() - answer.seen.read_at).total_seconds())

    def _keep_last(self, name: str, answer: Answer[T], *, written: bytes) -> None:
        now_s = self._now_s()
        self._last.put(name, _Kept(answer, now_s + LAST_KNOWN_S, len(written)))
        if now_s - self._last_put_s.get(name, -LAST_KNOWN_EVERY_S) < LAST_KNOWN_EVERY_S:
            return
        self._cache.put(name, written, ttl_s=LAST_KNOWN_S)
        self._last_put_s[name] = now_s
        self._last_put_s.move_to_end(name)
        while len(self._last_put_s) > len(self._last.kept) + 1:
            self._last_put_s.popitem(last=False)

    async def _last_known(self, question: Question, max_staleness: timedelta) -> Answer[T] | None:
        name = question.last_name(fingerprint=self._form.fingerprint)
        known = self._last.get(name, now_s=self._now_s())
        if known is None or self._clock() - known.seen.read_at > max_staleness:
            written = await self._cache.get(name)
            try:
                known = None if written is None else self._form.read(written)
            except ValueError:
                self.figures.unreadable += 1
                return None
        if known is None or self._clock() - known.seen.read_at > max_staleness:
            return None
        return replace(known, seen=replace(known.seen, served_from=ServedFrom.LAST_KNOWN))


def _concerning(question: Question, wanted: Heads) -> Heads:
    """What is demanded of the accounts that the question is about: the others' commits cannot change its answer."""
    if not question.accounts:
        return wanted
    return {account: seq for account, seq in wanted.items() if account in question.accounts}
