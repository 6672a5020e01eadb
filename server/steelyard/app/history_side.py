"""What positions were: snapshots taken and kept, and answers about the past."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from steelyard.app.settings import Settings
from steelyard.builds.periodic import PeriodicJob
from steelyard.operations.keep_snapshots import KeepSnapshots
from steelyard.operations.ports import Clock
from steelyard.operations.read_as_of import ReadAsOf
from steelyard.operations.read_snapshots import ReadSnapshots
from steelyard.operations.reading import Reading
from steelyard.operations.take_snapshots import TakeSnapshots
from steelyard.rpc.encode_snapshot import shown_position
from steelyard.rpc.page_tokens import PageTokens
from steelyard.rpc.snapshot_servicer import SnapshotServicer
from steelyard.storage.database import Database
from steelyard.storage.history_reads import HistoryReads
from steelyard.storage.snapshot_months import SnapshotMonths
from steelyard.storage.snapshots import PositionSnapshots

KEEP_SNAPSHOTS_CRON = "7 * * * *"
"""Every hour, seven minutes past: retention holds all the time, and not only when a process starts."""


class HistorySide:
    """The operations on the past, on one database."""

    def __init__(
        self, settings: Settings, database: Database, *, reading: Reading, clock: Clock, jitter: Callable[[], float]
    ) -> None:
        self._clock = clock
        self.take = take_snapshots(settings, database, clock=clock, jitter=jitter)
        self.read = ReadSnapshots(PositionSnapshots(database), reading)
        self.as_of = ReadAsOf(HistoryReads(database), reading, clock=clock)

    def servicer(self, tokens: PageTokens) -> SnapshotServicer:
        """What answers SnapshotService."""
        return SnapshotServicer(take=self.take, read=self.read, as_of=self.as_of, tokens=tokens, clock=self._clock)


def take_snapshots(
    settings: Settings, database: Database, *, clock: Clock, jitter: Callable[[], float]
) -> TakeSnapshots:
    """What takes snapshots, as they are shown over the wire."""
    return TakeSnapshots(
        PositionSnapshots(database, is_publishing=settings.is_publishing),
        show=shown_position,
        clock=clock,
        jitter=jitter,
        stale_after=settings.stale_after,
    )


def snapshot_jobs(settings: Settings, database: Database, *, clock: Clock) -> Sequence[PeriodicJob]:
    """What a worker does about snapshots by the clock."""
    take = take_snapshots(settings, database, clock=clock, jitter=_steady)
    keep = KeepSnapshots(SnapshotMonths(database), kept=timedelta(days=settings.snapshots_kept_days))

    async def take_due(_tick: datetime) -> dict[str, Any]:
        run = await take.take_due()
        return {"taken": run.taken, "failed": run.failed}

    async def look_after(_tick: datetime) -> dict[str, Any]:
        run = await keep.run(clock())
        return {"made": run.made, "dropped": run.dropped, "deleted": run.deleted}

    jobs = [PeriodicJob("keep_snapshots", KEEP_SNAPSHOTS_CRON, look_after)]
    if settings.snapshot_schedule != "off":
        jobs.append(PeriodicJob("take_snapshots", settings.snapshot_schedule, take_due))
    return jobs


def _steady() -> float:
    return 0.5
