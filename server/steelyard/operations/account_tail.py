"""The tail of the account log: one task per process follows it and feeds every watcher.

Problem: a thousand watchers must learn of each change without asking the store a thousand times, and a slow one must
not hold anything up. Choice: poll the heads of the watched accounts in one statement (the truth; a head that moved
means commits in order and without gaps), read what lies between, and hand it to each subscription, which keeps only the
latest change of a key, or, where every version is wanted, a bounded queue that overflows into a reset.
Rejected: LISTEN/NOTIFY as the source (lost on reconnect, no history), and tailing events by an id that is given before
COMMIT (loses commits that overtake each other).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from steelyard.accounting.errors import SteelyardError
from steelyard.accounting.keys import Account, PositionKey
from steelyard.operations.position_view import PositionRow
from steelyard.operations.read_events import PositionEvent
from steelyard.operations.reading import Heads

POLL_INTERVAL_S = 0.1
RETRY_INTERVAL_S = 1.0
CHANGES_AT_ONCE = 1_000
EVERY_VERSION_MAX = 10_000
"""Versions that wait for one slow reader of every version before its stream is reset."""


class Place(NamedTuple):
    """A place in an account's log: after this change of this commit; names are empty after a whole commit."""

    seq: int
    book: str = "\uffff"
    instrument: str = "\uffff"
    leg: str = "\uffff"


def place_of(event: PositionEvent) -> Place:
    """The place right after an event."""
    return Place(event.seq, event.key.book, event.key.instrument, event.key.leg.value)


@dataclass(frozen=True, slots=True)
class HeldNow:
    """All positions of an account in one snapshot, and how far the log had come in it."""

    rows: Sequence[PositionRow]
    seq: int


class ChangeStore(Protocol):
    """Reads the account log."""

    async def epoch(self) -> str:
        """Names this database; another one (restored, emptied) has another name."""
        ...

    async def heads(self, accounts: Collection[Account]) -> Heads:
        """The newest seq of accounts."""
        ...

    async def changes(self, after: Mapping[Account, Place], *, limit: int) -> Mapping[Account, Sequence[PositionEvent]]:
        """Position events of accounts behind a place in the log of each, in its order, at most `limit` of each."""
        ...

    async def held_now(self, account: Account) -> HeldNow:
        """All positions of an account and the head of its log, in one snapshot."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """The newest change of a key that a watcher has not been told, and whether it was open before the first of them."""

    event: PositionEvent
    was_open: bool


class Subscription:
    """What one watcher still has to be told."""

    def __init__(self, *, wants: Callable[[PositionKey], bool], is_every_version: bool) -> None:
        self._wants = wants
        self._is_every_version = is_every_version
        self._latest: dict[PositionKey, Change] = {}
        self._queue: deque[Change] = deque()
        self._arrived = asyncio.Event()
        self.is_overrun = False
        """Whether a reader of every version was too slow: its stream has to be reset."""
        self.is_closing = False
        """Whether the service is about to go."""

    def offer(self, event: PositionEvent) -> None:
        """Takes an event in, if it is one of the watcher's."""
        if not self._wants(event.key):
            return
        was_open = event.change in ("UPDATED", "CLOSED") and _was_open(event)
        if self._is_every_version:
            self.is_overrun = self.is_overrun or len(self._queue) >= EVERY_VERSION_MAX
            if not self.is_overrun:
                self._queue.append(Change(event, was_open))
        else:
            known = self._latest.pop(event.key, None)
            self._latest[event.key] = Change(event, was_open if known is None else known.was_open)
        self._arrived.set()

    def beside(self) -> Subscription:
        """An empty one of the same kind, to gather what comes before all that this one is offered."""
        return Subscription(wants=self._wants, is_every_version=self._is_every_version)

    def put_first(self, missed: Subscription) -> None:
        """Takes in what another one has gathered, as if it had been offered before everything else."""
        self.is_overrun = self.is_overrun or missed.is_overrun
        self._queue.extendleft(reversed(missed._queue))
        latest = dict(missed._latest)
        for key, change in self._latest.items():
            known = latest.pop(key, None)
            latest[key] = change if known is None else Change(change.event, known.was_open)
        self._latest = latest
        if not self.is_empty:
            self._arrived.set()

    @property
    def is_empty(self) -> bool:
        """Whether everything offered has been taken."""
        return not self._latest and not self._queue

    def wake(self) -> None:
        """Makes a waiting watcher look."""
        self._arrived.set()

    async def wait(self, timeout_s: float) -> bool:
        """Waits until something arrived; False when nothing did."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._arrived.wait()
        except TimeoutError:
            return False
        return True

    def take(self) -> list[Change]:
        """Everything to be told, in the order of the log; it is forgotten here."""
        self._arrived.clear()
        if self._is_every_version:
            taken = list(self._queue)
            self._queue.clear()
        else:
            # A key is put in again at its newest change, so this is the order of the log.
            taken = list(self._latest.values())
            self._latest.clear()
        return taken


def _was_open(event: PositionEvent) -> bool:
    """An UPDATED flat position was flat before."""
    return event.change == "CLOSED" or bool(event.row.quantity)


@dataclass(slots=True)
class _Followed:
    place: Place
    subscriptions: set[Subscription]

    def take(self, events: Sequence[PositionEvent], *, head: int) -> None:
        """Offers events to everybody; fewer than were asked for are all there are up to the head."""
        for event in events:
            for subscription in self.subscriptions:
                subscription.offer(event)
        if len(events) < CHANGES_AT_ONCE:
            self.place = Place(max(events[-1].seq if events else head, head))
        else:
            self.place = place_of(events[-1])


class AccountTail:
    """Follows the logs of the accounts that somebody watches."""

    def __init__(self, store: ChangeStore, *, interval_s: float = POLL_INTERVAL_S) -> None:
        self._store = store
        self._interval_s = interval_s
        self._followed: dict[Account, _Followed] = {}
        self.task: asyncio.Task[None] | None = None
        """Runs until `close`; when it ends by itself, the process has to end with what it raises."""

    def start(self) -> None:
        """Begins to follow."""
        self.task = asyncio.create_task(self._run(), name="account_tail")

    def say_goodbye(self) -> None:
        """Tells every watcher that the service goes; their streams end."""
        for followed in self._followed.values():
            for subscription in followed.subscriptions:
                subscription.is_closing = True
                subscription.wake()

    async def close(self) -> None:
        """Follows no more."""
        self.say_goodbye()
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def subscribe(self, account: Account, subscription: Subscription) -> Place:
        """Feeds a subscription from here on; gives the place behind which everything will be offered."""
        followed = self._followed.get(account)
        if followed is None:
            seq = (await self._store.heads([account])).get(account, 0)
            followed = self._followed.setdefault(account, _Followed(Place(seq), set()))
        followed.subscriptions.add(subscription)
        return followed.place

    def unsubscribe(self, account: Account, subscription: Subscription) -> None:
        """Feeds it no more."""
        followed = self._followed.get(account)
        if followed is not None:
            followed.subscriptions.discard(subscription)
            if not followed.subscriptions:
                del self._followed[account]

    def place(self, account: Account) -> Place:
        """Everything up to here has been offered to the subscriptions of a followed account."""
        followed = self._followed.get(account)
        return Place(0) if followed is None else followed.place

    async def catch_up(self, account: Account, subscription: Subscription, *, after: Place, until: Place) -> None:
        """Offers what lies between two places of the log, for a watcher who comes back.

        The tail goes on meanwhile, and offers him what is newer: what he missed is put before that.
        """
        missed = subscription.beside()
        while after < until:
            found = await self._store.changes({account: after}, limit=CHANGES_AT_ONCE)
            events = found.get(account, ())
            for event in events:
                if place_of(event) <= until:
                    missed.offer(event)
            if len(events) < CHANGES_AT_ONCE:
                break
            after = place_of(events[-1])
        subscription.put_first(missed)

    async def _run(self) -> None:
        while True:
            try:
                await self._look()
            except SteelyardError:
                # The store is away: watchers keep waiting (their heartbeats go on), and nothing is lost.
                await asyncio.sleep(RETRY_INTERVAL_S)
            await asyncio.sleep(self._interval_s)

    async def _look(self) -> None:
        accounts = list(self._followed)
        if not accounts:
            return
        heads: Mapping[Account, int] = await self._store.heads(accounts)
        moved = {
            account: followed
            for account, followed in self._followed.items()
            if heads.get(account, 0) > followed.place.seq
        }
        while moved:
            places = {account: followed.place for account, followed in moved.items()}
            found = await self._store.changes(places, limit=CHANGES_AT_ONCE)
            for account, followed in list(moved.items()):
                events = found.get(account, ())
                followed.take(events, head=heads[account])
                if len(events) < CHANGES_AT_ONCE:
                    del moved[account]
