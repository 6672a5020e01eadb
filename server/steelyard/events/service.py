"""Everything that runs on the broker in one process: a consumer per queue and the relay, each kept going by itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from steelyard.events.consumer import Consumer
from steelyard.events.handlers import ExecutionHandler, Handler, OrderEventHandler, ReportHandler
from steelyard.events.relay import Relay
from steelyard.events.supervision import Supervisor
from steelyard.events.topology import Topology
from steelyard.operations.apply_venue_report import ApplyVenueReport
from steelyard.operations.feed_ports import FeedLedger, FeedRules
from steelyard.operations.order_events import ApplyOrderEvents
from steelyard.operations.outbox_ports import Outbox
from steelyard.operations.ports import Clock
from steelyard.operations.read_portfolio import PortfolioAnswers
from steelyard.operations.record_executions import RecordExecutions
from steelyard.telemetry.logs import Log

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
            )
            for name, handler in _handlers(settings, ledger=ledger, clock=clock, jitter=jitter).items()
        ]
        self._supervisors = [Supervisor(consumer.queue, consumer.work, log=log) for consumer in self._consumers]
        if outbox is not None:
            relay = Relay(
                outbox,
                portfolios,
                url=settings.url,
                topology=names,
                clock=clock,
                log=log,
                counts=self.counts[RELAY],
            )
            self._supervisors.append(Supervisor(RELAY, relay.work, log=log))
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to consume and to publish, now or as soon as the broker is there. Needs a running event loop."""
        self._tasks = [
            asyncio.create_task(supervisor.run(), name=f"events {supervisor.name}") for supervisor in self._supervisors
        ]

    async def wait(self) -> None:
        """Runs until a part dies, which raises; they never do but by a bug of ours."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def stop(self) -> None:
        """Ends; what was handed over and not acknowledged stays with the broker."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def status(self) -> Sequence[PartStatus]:
        """How each part is doing."""
        waiting = {consumer.queue: consumer.waiting for consumer in self._consumers}
        return [
            PartStatus(
                supervisor.name,
                supervisor.is_connected,
                waiting.get(supervisor.name),
                dict(self.counts[supervisor.name]),
            )
            for supervisor in self._supervisors
        ]


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
