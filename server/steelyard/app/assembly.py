"""The composition root: the only place that knows concrete classes and their order, and that reads the clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime

from steelyard.accounting.keys import Account
from steelyard.app.access_side import AccessSide
from steelyard.app.bounds import database_limits, import_limits, page_token_key, server_settings
from steelyard.app.feed_side import FeedSide, feed_ledger, feed_rules
from steelyard.app.history_side import HistorySide, snapshot_jobs
from steelyard.app.live_side import CachedAnswers, LivePrices, Watches
from steelyard.app.reconcile_side import ReconcileSide, reconcile_jobs
from steelyard.app.risk_side import RiskSide
from steelyard.app.settings import Settings
from steelyard.app.status_side import StatusSide
from steelyard.app.supervision import until_one_ends
from steelyard.app.telemetry_side import TelemetrySide, WatchedBuilder
from steelyard.app.watched_parts import watch_events
from steelyard.builds.progress_feed import ProgressFeed
from steelyard.builds.worker import WorkerSettings, run_worker
from steelyard.imports.reading import ParsedFiles
from steelyard.imports.spool import SpoolFolder
from steelyard.operations.annotate_positions import AnnotatePositions
from steelyard.operations.apply_marks import ApplyMarks
from steelyard.operations.batched_reads import BatchedPositions
from steelyard.operations.build_positions import BuildPositions
from steelyard.operations.correct_fills import CorrectFills
from steelyard.operations.create_builds import CreateBuilds
from steelyard.operations.import_trades import AccountPatterns, ImportTrades
from steelyard.operations.keep_accounts import KeepAccounts
from steelyard.operations.keep_instruments import KeepInstruments
from steelyard.operations.late_entries import RefoldLimits
from steelyard.operations.ports import AccountRules
from steelyard.operations.read_builds import ReadBuilds
from steelyard.operations.read_events import ReadEvents
from steelyard.operations.read_fills import ReadFills
from steelyard.operations.read_performance import ReadPerformance
from steelyard.operations.read_portfolio import ReadPortfolio
from steelyard.operations.read_positions import ReadPositions
from steelyard.operations.read_trips import ReadTrips
from steelyard.operations.reading import Reading
from steelyard.operations.record_fills import RecordFills
from steelyard.operations.report_venue_position import ReportVenuePosition
from steelyard.operations.roll_back_import import RollBackImport
from steelyard.operations.watch_performance import WatchPerformance
from steelyard.rpc.admin_servicer import AdminServicer
from steelyard.rpc.build_servicer import BuildServicer
from steelyard.rpc.fill_servicer import FillServicer
from steelyard.rpc.market_servicer import MarketServicer
from steelyard.rpc.page_tokens import PageTokens
from steelyard.rpc.performance_servicer import PerformanceServicer
from steelyard.rpc.portfolio_servicer import PortfolioServicer
from steelyard.rpc.position_servicer import PositionServicer
from steelyard.rpc.server import GrpcServer, Services
from steelyard.rpc.tell_status import TellStatus
from steelyard.storage.accounts_admin import AccountRecords
from steelyard.storage.annotations import PositionAnnotations
from steelyard.storage.build_chunks import PostgresChunkWork
from steelyard.storage.build_sweep import PostgresSweep
from steelyard.storage.builds import PostgresBuilds
from steelyard.storage.database import Database
from steelyard.storage.event_reads import EventReads
from steelyard.storage.fill_reads import FillReads
from steelyard.storage.heads import HeadReads
from steelyard.storage.import_rollback import PostgresRollback
from steelyard.storage.imports import PostgresImports
from steelyard.storage.instruments_admin import InstrumentRecords
from steelyard.storage.known_positions import KnownPositions
from steelyard.storage.ledger import PostgresLedger
from steelyard.storage.marks import MarkTable
from steelyard.storage.performance_reads import PerformanceReads
from steelyard.storage.portfolio_reads import PortfolioReads
from steelyard.storage.trip_reads import TripReads
from steelyard.telemetry.logs import Log


def system_clock() -> datetime:
    """The current time, aware UTC: what everything else is handed as `now` or `clock`."""
    return datetime.now(UTC)


class Operations:
    """Every operation of the service on one database."""

    def __init__(self, settings: Settings, database: Database) -> None:
        reading = Reading(HeadReads(database), system_clock)
        self._jitter = random.random  # noqa: S311 - spreads retries, no secret
        self._record(settings, database, reading=reading)
        self.risk = RiskSide(settings, database, reading=reading, clock=system_clock, jitter=self._jitter)
        self.history = HistorySide(settings, database, reading=reading, clock=system_clock, jitter=self._jitter)
        self.access = AccessSide(settings, database, clock=system_clock, jitter=self._jitter)
        self.reconciling = ReconcileSide(settings, database, clock=system_clock, jitter=self._jitter)
        self._answer(settings, database, reading=reading)
        self._build(settings, database)

    def _record(self, settings: Settings, database: Database, *, reading: Reading) -> None:
        """What changes the book and its records."""
        jitter = self._jitter
        ledger = PostgresLedger(database, system_clock, is_publishing=settings.is_publishing)
        self.record_fills = RecordFills(ledger, system_clock, new_accounts=new_accounts(settings), jitter=jitter)
        self.correct_fills = CorrectFills(ledger, system_clock, jitter=jitter, limits=RefoldLimits())
        self.apply_marks = ApplyMarks(MarkTable(database), clock=system_clock, stale_after=settings.stale_after)
        self.report_venue_position = ReportVenuePosition(
            feed_ledger(settings, database, clock=system_clock),
            system_clock,
            rules=feed_rules(settings),
            new_accounts=new_accounts(settings),
            jitter=jitter,
        )
        self.annotate_positions = AnnotatePositions(PositionAnnotations(database), jitter=jitter)
        self.keep_accounts = KeepAccounts(AccountRecords(database), reading, jitter=jitter)
        self.keep_instruments = KeepInstruments(InstrumentRecords(database), jitter=jitter)

    def _answer(self, settings: Settings, database: Database, *, reading: Reading) -> None:
        """What reads and watches it."""
        stale_after = settings.stale_after
        self.read_fills = ReadFills(FillReads(database), reading)
        self.prices = LivePrices(settings, database, clock=system_clock)
        known = KnownPositions(database)
        self.read_positions = ReadPositions(
            BatchedPositions(known, known),
            reading,
            clock=system_clock,
            stale_after=stale_after,
            met_stale=self.prices.met_stale,
        )
        self.read_trips = ReadTrips(TripReads(database), reading)
        self.read_events = ReadEvents(EventReads(database), reading)
        portfolio = ReadPortfolio(
            PortfolioReads(database), reading, clock=system_clock, stale_after=stale_after, limits=self.risk.read
        )
        self.fresh_prices = self.prices.fresh(self.read_positions, portfolio)
        self.watches = Watches(settings, database, portfolio=portfolio, clock=system_clock)
        self.answers = CachedAnswers(
            settings,
            database,
            portfolio=portfolio,
            performance=ReadPerformance(PerformanceReads(database), reading, clock=system_clock),
            prices=self.prices,
            clock=system_clock,
        )
        self.watch_performance = WatchPerformance(
            self.answers.performance, self.watches.account_tail, clock=system_clock
        )

    def _build(self, settings: Settings, database: Database) -> None:
        """What imports files and builds positions."""
        imports, builds = PostgresImports(database), PostgresBuilds(database)
        self.import_trades = ImportTrades(
            store=imports,
            reader=ParsedFiles(),
            spool=SpoolFolder(),
            clock=system_clock,
            limits=import_limits(settings),
            patterns=AccountPatterns(time_zone=settings.account_time_zone),
            venue_symbols=settings.events_symbols,
        )
        timeout_s = settings.build_timeout_s
        self.roll_back_import = RollBackImport(PostgresRollback(database), system_clock, build_timeout_s=timeout_s)
        self.create_builds = CreateBuilds(builds, build_timeout_s=timeout_s)
        self.read_builds = ReadBuilds(builds=builds, imports=imports, feed=ProgressFeed(builds))

    def start(self) -> None:
        """Begins to commit what is recorded and to follow what is watched."""
        self.record_fills.start()
        self.watches.start()
        self.answers.start()
        self.risk.watch.start()
        self.access.start()

    @property
    def background(self) -> Sequence[asyncio.Task[None] | None]:
        """What runs as long as the service does: when one of them ends, the process has to."""
        return (self.record_fills.task, self.risk.watch.task, *self.watches.tasks, *self.access.tasks)

    async def close(self) -> None:
        """Commits what still waits; follows no more."""
        await self.record_fills.close()
        await self.risk.watch.close()
        await self.watches.close()
        await self.answers.close()
        await self.prices.close()
        await self.access.close()
        await self.reconciling.close()


def servicers(operations: Operations, tokens: PageTokens, *, status: TellStatus) -> Services:
    """What answers each service of the contract."""
    positions = PositionServicer(
        positions=operations.read_positions,
        trips=operations.read_trips,
        events=operations.read_events,
        fresh=operations.fresh_prices,
        watch=operations.watches.positions,
        annotate=operations.annotate_positions,
        report=operations.report_venue_position,
        tokens=tokens,
        clock=system_clock,
    )
    return Services(
        fills=FillServicer(
            record=operations.record_fills,
            correct=operations.correct_fills,
            read=operations.read_fills,
            tell_position=positions.tell,
            tokens=tokens,
            clock=system_clock,
        ),
        positions=positions,
        builds=_build_servicer(operations, tokens),
        portfolio=_portfolio_servicer(operations, tokens),
        performance=PerformanceServicer(
            read=operations.answers.performance, watch=operations.watch_performance, clock=system_clock
        ),
        snapshots=operations.history.servicer(tokens),
        reconciliation=operations.reconciling.servicer(tokens, positions=operations.read_positions),
        market=MarketServicer(
            instruments=operations.keep_instruments, marks=operations.apply_marks, tokens=tokens, clock=system_clock
        ),
        admin=_admin_servicer(operations, tokens, status=status),
    )


def _build_servicer(operations: Operations, tokens: PageTokens) -> BuildServicer:
    return BuildServicer(
        imports=operations.import_trades,
        rollback=operations.roll_back_import,
        create=operations.create_builds,
        read=operations.read_builds,
        tokens=tokens,
        clock=system_clock,
    )


def _admin_servicer(operations: Operations, tokens: PageTokens, *, status: TellStatus) -> AdminServicer:
    return AdminServicer(
        accounts=operations.keep_accounts,
        keys=operations.access.keep_keys,
        status=status,
        tokens=tokens,
        clock=system_clock,
    )


def _portfolio_servicer(operations: Operations, tokens: PageTokens) -> PortfolioServicer:
    return PortfolioServicer(
        read=operations.answers.portfolio,
        fresh=operations.fresh_prices,
        watch=operations.watches.portfolio,
        limits=operations.risk.keep_limits,
        orders=operations.risk.check_order,
        tokens=tokens,
        clock=system_clock,
    )


class Service:
    """The gRPC service of one process on one database."""

    def __init__(self, settings: Settings, *, url: str, log: Log, is_held: bool = False) -> None:
        """Raises `OSError` when the port cannot be had. Needs a running event loop. `is_held`: the store counts as away
        until `admit`."""
        self._log = log
        told = TelemetrySide(settings, log=log, clock=system_clock, service="steelyard", port=settings.metrics_port)
        self.telemetry = told
        self._database = Database(url, database_limits(settings), telemetry=told.store)
        self._database.is_held = is_held
        self._operations = Operations(settings, self._database)
        jitter = random.random  # noqa: S311 - spreads retries, no secret
        self.feeds = FeedSide(settings, self._database, clock=system_clock, jitter=jitter, log=log)
        status = StatusSide(
            settings,
            self._database,
            cache=self._operations.answers,
            access=self._operations.access,
            feeds=self.feeds,
            clock=system_clock,
        )
        self.server = GrpcServer(
            servicers(self._operations, PageTokens(page_token_key(settings)), status=status.tell),
            settings=server_settings(settings),
            ping=self._database.ping,
            needs=status.needs,
            log=log,
            refusals=self._operations.access.layers(log),
            meters=told.meters,
            tracer=told.tracer,
            credentials=self._operations.access.credentials(log),
        )
        self.server.on_drain(self._operations.watches.say_goodbye)
        self.server.on_drain(status.read.drain)

    @property
    def address(self) -> str:
        """`host:port`, as a client takes it."""
        return self.server.address

    def admit(self) -> None:
        """Lets the store be used: it is there, and of a schema that we know."""
        self._database.is_held = False

    async def start(self) -> None:
        """Answers calls from now on."""
        self.telemetry.start(self._database)
        watch_events(self.telemetry.meters, self.feeds.parts)
        self._operations.start()
        self.feeds.start()
        await self.server.start()

    async def wait(self) -> None:
        """Runs until the server ends, or one of its background tasks dies, which raises."""
        following = asyncio.create_task(self.feeds.wait(), name="following")
        background = (following, *self._operations.background)
        serving = asyncio.create_task(self.server.wait(), name="serving")
        watching = asyncio.create_task(until_one_ends(background, log=self._log), name="watching the background")
        try:
            await asyncio.wait((serving, watching), return_when=asyncio.FIRST_COMPLETED)
            await (serving if serving.done() else watching)
        finally:
            for task in (serving, watching, following):
                task.cancel()

    async def stop(self) -> bool:
        """Takes no more calls, ends those under way, commits what was handed in, lets the store go; False when calls
        were cut off."""
        is_drained = await self.server.stop()
        await self.feeds.stop_consuming()
        await self._operations.close()
        await self.feeds.stop()
        await self.telemetry.close()
        await self._database.close()
        return is_drained


class Worker:
    """The worker of one process: builds positions, and sees to what others left undone."""

    def __init__(self, settings: Settings, *, url: str, log: Log) -> None:
        self._settings = settings
        self._log = log
        port = settings.worker_metrics_port
        self.telemetry = TelemetrySide(settings, log=log, clock=system_clock, service="steelyard-worker", port=port)
        self._database = Database(url, database_limits(settings), telemetry=self.telemetry.store)
        chunks = PostgresChunkWork(self._database, system_clock, is_publishing=settings.is_publishing)
        self._builder = WatchedBuilder(BuildPositions(chunks, system_clock), self.telemetry)
        self._sweep = PostgresSweep(
            self._database, build_timeout_s=settings.build_timeout_s, inbox_kept_days=settings.inbox_kept_days
        )
        self._reconciling = ReconcileSide(settings, self._database, clock=system_clock, jitter=random.random)  # noqa: S311 - no secret

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set; raises what made one of its parts end."""
        self.telemetry.start(self._database)
        await run_worker(
            self._database.url,
            builder=self._builder,
            sweep=self._sweep,
            periodic=[
                *snapshot_jobs(self._settings, self._database, clock=system_clock),
                *reconcile_jobs(self._settings, self._reconciling),
            ],
            settings=WorkerSettings(bulk_slots=self._settings.worker_bulk_jobs),
            stop=stop,
            log=self._log,
        )

    async def close(self) -> None:
        """Lets the store go."""
        await self._reconciling.close()
        await self.telemetry.close()
        await self._database.close()


def new_accounts(settings: Settings) -> AccountRules:
    """The pattern after which accounts are made that do not exist before their first fill."""
    return AccountRules(Account(""), time_zone=settings.account_time_zone)
