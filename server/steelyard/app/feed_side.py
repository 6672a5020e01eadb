"""What joins the service to a broker, where settings name one: feeds followed, commits told to others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from steelyard.accounting.errors import StoreUnavailable
from steelyard.accounting.keys import Account
from steelyard.app.settings import Settings
from steelyard.operations.feed_ports import FeedRules
from steelyard.operations.ports import Clock
from steelyard.operations.read_portfolio import ReadPortfolio
from steelyard.operations.reading import Reading
from steelyard.storage.database import Database
from steelyard.storage.feed_ledger import PostgresFeedLedger
from steelyard.storage.heads import HeadReads
from steelyard.storage.outbox_reads import PostgresOutbox
from steelyard.storage.portfolio_reads import PortfolioReads
from steelyard.telemetry.logs import Log

if TYPE_CHECKING:
    from steelyard.events.service import EventsService, PartStatus

DEFAULT_PORTS = {"amqp": 5672, "amqps": 5671}


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """How the exchange with the broker is going, as health and metrics read it."""

    is_on: bool
    """Whether a broker is named."""
    is_publishing: bool
    """Whether commits of this process are put into the outbox."""
    parts: Sequence[PartStatus] = ()
    """One per consumed queue, and the relay."""
    waiting_since: datetime | None = None
    """When the oldest message that was not published yet was committed; None: none waits, or the store is away."""

    @property
    def is_connected(self) -> bool:
        """Whether every part that needs the broker has it; a queue of others that is missing counts as well."""
        return all(part.is_connected for part in self.parts)

    @property
    def last_consumed_at(self) -> datetime | None:
        """When this process settled a message last, of whichever queue; None: never."""
        return max((part.last_at for part in self.parts if part.last_at is not None and part.consumed), default=None)

    def lag_s(self, now: datetime) -> float:
        """How long the oldest message has waited to be published, seconds."""
        return 0.0 if self.waiting_since is None else max(0.0, (now - self.waiting_since).total_seconds())


class FeedSide:
    """The events service on one database; without a broker in the settings it does nothing."""

    def __init__(
        self, settings: Settings, database: Database, *, clock: Clock, jitter: Callable[[], float], log: Log
    ) -> None:
        self._outbox = PostgresOutbox(database) if settings.is_publishing else None
        self._events: EventsService | None = None
        if settings.amqp_url is None:
            return
        # Imported here: most processes are named no broker, and its driver takes long to load.
        from steelyard.events.service import EventsService, EventsSettings

        # Straight from the store: a message is told once, so it must not be told from a cache.
        portfolios = ReadPortfolio(
            PortfolioReads(database), Reading(HeadReads(database), clock), clock=clock, stale_after=settings.stale_after
        )
        self._events = EventsService(
            EventsSettings(settings.amqp_url.get_secret_value(), rules=feed_rules(settings)),
            ledger=feed_ledger(settings, database, clock=clock),
            clock=clock,
            jitter=jitter,
            log=log,
            outbox=self._outbox,
            portfolios=portfolios,
            tracer=database.telemetry.tracer,
        )

    def start(self) -> None:
        """Begins to consume and to publish, now or as soon as the broker is there."""
        if self._events is not None:
            self._events.start()

    async def wait(self) -> None:
        """Runs until a part dies by a bug of ours, which raises; for ever where there is no broker."""
        if self._events is None:
            await asyncio.Event().wait()
        else:
            await self._events.wait()

    async def stop_consuming(self) -> None:
        """Takes no more messages, before those who write are stopped."""
        if self._events is not None:
            await self._events.stop_consuming()

    async def stop(self) -> None:
        """Publishes no more; what waits is published after the next start."""
        if self._events is not None:
            await self._events.stop()

    def parts(self) -> Sequence[PartStatus]:
        """How each part that needs the broker is doing; none where there is no broker."""
        return () if self._events is None else self._events.status()

    async def status(self) -> FeedStatus:
        """How it is going. Never raises because the store or the broker is away."""
        since = None
        if self._outbox is not None:
            try:
                since = await self._outbox.waiting_since()
            except StoreUnavailable:
                since = None
        return FeedStatus(self._events is not None, self._outbox is not None, self.parts(), since)


def feed_ledger(settings: Settings, database: Database, *, clock: Clock) -> PostgresFeedLedger:
    """Where the messages of feeds take effect."""
    return PostgresFeedLedger(
        database,
        clock,
        is_publishing=settings.is_publishing,
        validates_sizes=settings.venue_validates_sizes == "on",
    )


def feed_rules(settings: Settings) -> FeedRules:
    """How feeds are followed, as settings say."""
    return FeedRules(
        account=Account(settings.events_account),
        symbols=settings.events_symbols,
        time_zone=settings.events_time_zone or settings.account_time_zone,
        time_tolerance=timedelta(seconds=settings.events_time_tolerance_s),
        size_tolerance=settings.events_size_tolerance,
    )


def broker_line(settings: Settings) -> str:
    """What the service says of its broker: where it is, without user and password."""
    if settings.amqp_url is None:
        return "none, as long as STEELYARD_AMQP_URL names none"
    parts = urlsplit(settings.amqp_url.get_secret_value())
    where = f"{parts.hostname}:{parts.port or DEFAULT_PORTS[parts.scheme]}"
    address = urlunsplit((parts.scheme, where, parts.path.rstrip("/"), "", ""))
    told = "" if settings.is_publishing else ", nothing is published"
    return f"{address}, events of account {settings.events_account}{told}"
