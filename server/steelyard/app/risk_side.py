"""What holds accounts against their limits: the limits, orders before they are sent, the record of breaches."""

from __future__ import annotations

from collections.abc import Callable

from steelyard.app.settings import Settings
from steelyard.operations.check_order import CheckOrder
from steelyard.operations.day_results import DayResults
from steelyard.operations.keep_limits import KeepLimits
from steelyard.operations.ports import Clock
from steelyard.operations.reading import Reading
from steelyard.operations.risk import ReadRisk, RiskTerms
from steelyard.operations.watch_limits import WatchLimits
from steelyard.storage.database import Database
from steelyard.storage.limits import LimitRecords


class RiskSide:
    """The operations on limits, on one database."""

    def __init__(
        self, settings: Settings, database: Database, *, reading: Reading, clock: Clock, jitter: Callable[[], float]
    ) -> None:
        records = LimitRecords(database, clock, is_publishing=settings.is_publishing)
        terms = RiskTerms(DayResults(), clock, settings.stale_after)
        self.read = ReadRisk(records, reading, terms=terms)
        self.keep_limits = KeepLimits(records, reading, risk=self.read, jitter=jitter)
        self.check_order = CheckOrder(records, reading, terms=terms)
        self.watch = WatchLimits(records, terms=terms)
