"""Everything that runs on the broker in one process: a consumer per queue and the relay, each kept going by itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from steelyard.events.consumer import Consumer
from steelyard.events.handlers import ExecutionHandler, Handler, OrderEventHandler, ReportHandler
from steelyard.events.relay import PUBLISHED, Relay
from steelyard.events.supervision import Supervisor
from steelyard.events.topology import Topology
from steelyard.operations.apply_venue_report import ApplyVenueReport
from steelyard.operations.feed_messages import FeedOutcome
from steelyard.operations.feed_ports import FeedLedger, FeedRules
from steelyard.operations.order_events import ApplyOrderEvents
from steelyard.operations.outbox_ports import Outbox
from steelyard.operations.ports import Clock
from steelyard.operations.read_portfolio import PortfolioAnswers
from steelyard.operations.record_executions import RecordExecutions
from steelyard.telemetry.logs import Log
from steelyard.telemetry.tracing import Tracer

RELAY = "relay"


@dataclass(frozen=True, slots=True)
class EventsSettings:
    """Where the broker is and how its feeds are followed."""

    url: str
    """`amqp://user:password@host:port/vhost`."""
    rules: FeedRules = field(default_factory=FeedRules)
    topology: Topology = field(default_factory=Topology)


@dataclass(frozen=True, slots=True)
class PartStatus:
    """How one part is doing."""

    name: str
    is_connected: bool
    waiting: int | None
    """Messages in its queue when it was last looked at; None: unknown."""
    counts: Mapping[str, int]
    """By outcome or reason of refusal, since the process started."""
    last_at: datetime | None = None
    """When it settled or published a message last, in this process; None: never."""
    retried: int = 0
    """How often messages had to be tried again, since the store was away or a writer was faster."""

    @property
    def published(self) -> int:
        """Messages that the broker has confirmed."""
        return self.counts.get(PUBLISHED, 0)

    @property
    def consumed(self) -> int:
        """Messages that were settled: applied, known already, or refused."""
        return sum(self.counts.values()) - self.published

    @property
    def dead_lettered(self) -> int:
        """Messages that were refused for good and put among the dead letters."""
        return self.consumed - sum(self.counts.get(outcome.value, 0) for outcome in FeedOutcome)


class EventsService:
    """Consumes and publishes from `start` to `stop`; the broker may be away at any time, also at the start."""

    def __init__(
        self,
        settings: EventsSettings,
        *,
        ledger: FeedLedger,
        clock: Clock,
        jitter: Callable[[], float],
        log: Log,
        outbox: Outbox | None,
        portfolios: PortfolioAnswers,
        tracer: Tracer | None = None,
    ) -> None:
        """`outbox` None: nothing is published (its ledgers must be made without publishing, too)."""
        names = settings.topology
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in (*names.consumed, RELAY)}
        self._consumers = [
            Consumer(
                name,
                handler,
                url=settings.url,
                is_ours=name != names.reports,
                clock=clock,
                log=log,
                counts=self.counts[name],
                tracer=tracer,
            )
            for name, handler in _handlers(settings, ledger=ledger, clock=clock, jitter=jitter).items()
        ]
        self._supervisors = [Supervisor(consumer.queue, consumer.work, log=log) for consumer in self._consumers]
        relaying = partial(Relay, url=settings.url, topology=names, clock=clock, log=log, tracer=tracer)
        self._relay = None if outbox is None else relaying(outbox, portfolios, counts=self.counts[RELAY])
        if self._relay is not None:
            self._supervisors.append(Supervisor(RELAY, self._relay.work, log=log))
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Begins to consume and to publish, now or as soon as the broker is there. Needs a running event loop."""
        self._tasks = {
            supervisor.name: asyncio.create_task(supervisor.run(), name=f"events {supervisor.name}")
            for supervisor in self._supervisors
        }

    async def wait(self) -> None:
        """Runs until a part dies, which raises; they never do but by a bug of ours."""
        done, _ = await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def stop_consuming(self) -> None:
        """Takes no more messages; what was handed over and not acknowledged stays with the broker."""
        await _ended(task for name, task in self._tasks.items() if name != RELAY)

    async def stop(self) -> None:
        """Ends; what waits in the outbox is published by whoever comes next."""
        await _ended(self._tasks.values())

    def status(self) -> Sequence[PartStatus]:
        """How each part is doing."""
        return [self._status_of(supervisor) for supervisor in self._supervisors]

    def _status_of(self, supervisor: Supervisor) -> PartStatus:
        counts = dict(self.counts[supervisor.name])
        for consumer in self._consumers:
            if consumer.queue == supervisor.name:
                return PartStatus(
                    supervisor.name,
                    supervisor.is_connected,
                    consumer.waiting,
                    counts,
                    consumer.last_at,
                    consumer.retried,
                )
        last_at = None if self._relay is None else self._relay.last_at
        return PartStatus(supervisor.name, supervisor.is_connected, None, counts, last_at)


async def _ended(tasks: Iterable[asyncio.Task[None]]) -> None:
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


def _handlers(
    settings: EventsSettings, *, ledger: FeedLedger, clock: Clock, jitter: Callable[[], float]
) -> dict[str, Handler]:
    """The handler of each consumed queue."""
    rules, names = settings.rules, settings.topology
    reports = ApplyVenueReport(ledger, clock, rules=rules, jitter=jitter)
    executions = RecordExecutions(ledger, clock, rules=rules, jitter=jitter)
    orders = ApplyOrderEvents(ledger, clock, rules=rules, jitter=jitter)
    return {
        names.reports: ReportHandler(reports, source=names.reports, account=rules.account),
        names.executions: ExecutionHandler(executions, source=names.executions, account=rules.account),
        names.orders: OrderEventHandler(orders, source=names.orders, account=rules.account),
    }
