"""What holds positions against others: the operations behind ReconciliationService, and what a worker does of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from steelyard.accounting.keys import Account
from steelyard.app.settings import Settings
from steelyard.app.watched_parts import ReconcileMeter
from steelyard.builds.periodic import PeriodicJob
from steelyard.operations.account_look import Looking, ReconcileTerms
from steelyard.operations.fix_positions import FixPositions
from steelyard.operations.keep_discrepancies import KeepDiscrepancies
from steelyard.operations.ports import Clock
from steelyard.operations.read_positions import ReadPositions
from steelyard.operations.reading import Reading
from steelyard.operations.reconcile import Reconcile
from steelyard.operations.reconciling import RECONCILE_TASK
from steelyard.operations.sampling import SampleStore, Sampling
from steelyard.operations.venue_positions import NoVenue
from steelyard.rpc.page_tokens import PageTokens
from steelyard.rpc.reconciliation_servicer import ReconciliationServicer
from steelyard.storage.database import Database
from steelyard.storage.discrepancy_records import DiscrepancyRecords
from steelyard.storage.heads import HeadReads
from steelyard.storage.reconciliation import PostgresReconciliation
from steelyard.storage.reconciliation_runs import ReconciliationRuns

if TYPE_CHECKING:
    from steelyard.prices.bybit_positions import BybitPositions

WAITING_CRON = "* * * * *"
"""Runs that wait are taken up when they are asked for; this finds what was left, and samples."""


class ReconcileSide:
    """The operations on discrepancies, on one database."""

    def __init__(self, settings: Settings, database: Database, *, clock: Clock, jitter: Callable[[], float]) -> None:
        self._clock = clock
        self._venue = _venue(settings, clock=clock)
        self.store = PostgresReconciliation(
            database, clock, is_publishing=settings.is_publishing, build_timeout_s=settings.build_timeout_s
        )
        looking = Looking(
            store=self.store,
            venue=self._venue or NoVenue(),
            orders=self.store,
            fix=FixPositions(self.store, clock, jitter=jitter),
            clock=clock,
            terms=ReconcileTerms(
                fixes_venue=settings.reconcile_fixes_venue == "on",
                stalled_after=timedelta(seconds=settings.reconcile_stalled_s),
            ),
            observer=ReconcileMeter(database.telemetry),
        )
        self.reconcile = Reconcile(looking, ReconciliationRuns(database))
        reading = Reading(HeadReads(database), clock)
        self._records = KeepDiscrepancies(DiscrepancyRecords(database), reading, clock=clock, jitter=jitter)

    def servicer(self, tokens: PageTokens, *, positions: ReadPositions) -> ReconciliationServicer:
        """What answers ReconciliationService."""
        return ReconciliationServicer(
            reconcile=self.reconcile, records=self._records, positions=positions, tokens=tokens, clock=self._clock
        )

    async def close(self) -> None:
        """Gives up connections to the venue."""
        if self._venue is not None:
            await self._venue.close()


def reconcile_jobs(settings: Settings, side: ReconcileSide) -> Sequence[PeriodicJob]:
    """What a worker reconciles by the clock."""
    is_fixing = settings.reconcile_fixes == "on"
    store: SampleStore = side.store
    sampling = Sampling(side.reconcile, store, size=settings.reconcile_sample, is_fixing=is_fixing)

    async def everything(_tick: datetime) -> dict[str, Any]:
        run = await side.reconcile.run_all(is_fixing=is_fixing)
        await side.reconcile.tidy()
        tally = run.tally
        return {"checked": tally.keys_checked, "found": tally.found, "fixed": tally.keys_fixed}

    async def waiting(_tick: datetime) -> dict[str, Any]:
        return {"runs": await side.reconcile.take_up(), "sampled": await sampling.next()}

    jobs = [PeriodicJob(RECONCILE_TASK, WAITING_CRON, waiting)]
    if settings.reconcile_schedule != "off":
        jobs.append(PeriodicJob("reconcile", settings.reconcile_schedule, everything))
    return jobs


def _venue(settings: Settings, *, clock: Clock) -> BybitPositions | None:
    key, secret = settings.venue_api_key, settings.venue_api_secret
    if settings.venue == "none" or key is None or secret is None:
        return None
    # Imported here: most processes ask no venue, and what asks takes long to load.
    from steelyard.prices.bybit_calls import BYBIT_URL
    from steelyard.prices.bybit_positions import BybitKey, BybitPositions

    return BybitPositions(
        BybitKey(key.get_secret_value(), secret.get_secret_value()),
        account=Account(settings.venue_account),
        clock=clock,
        url=settings.venue_url or BYBIT_URL,
        settle_coins=tuple(coin.strip() for coin in settings.venue_settle_coins.split(",") if coin.strip()),
    )
