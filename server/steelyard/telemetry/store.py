"""What the store tells of itself: commits and conflicts on the book, statements, connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from steelyard.telemetry import metrics
from steelyard.telemetry.logs import Log, silent_log
from steelyard.telemetry.metrics import Meters
from steelyard.telemetry.positions import PositionChange, PositionLog
from steelyard.telemetry.tracing import Tracer

if TYPE_CHECKING:
    from opentelemetry.trace import Span

SLOW_QUERY_S = 0.5
STATEMENT_MAX = 300
"""Characters of a statement that are told."""
VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "BEGIN", "COMMIT", "ROLLBACK", "COPY", "SET")
HEADS = "INSERT INTO account_heads"
"""What the statement says that steps the accounts' heads: the wait for their locks has a metric of its own."""
RECONCILED_WITH = ("entries",)
"""What positions are compared with; told from the start, so that the first mismatch is a step and not a beginning."""
KNOWN_MAX = 2_000
"""Statements whose verb is remembered; they are constants, so there are fewer."""


class StoreTelemetry:
    """Counts, times and logs for the store; made without arguments, it tells nobody."""

    def __init__(
        self,
        meters: Meters | None = None,
        *,
        log: Log | None = None,
        positions: PositionLog | None = None,
        tracer: Tracer | None = None,
        slow_query_s: float = SLOW_QUERY_S,
    ) -> None:
        """Statements that take `slow_query_s` or longer are logged, without their arguments."""
        self.meters = self._meters = meters or Meters()
        self._log = log or silent_log()
        self._positions = positions or PositionLog(None)
        self.tracer = self._tracer = tracer or Tracer()
        self._slow_query_s = slow_query_s
        self._verbs = {verb: self._meters.histogram(metrics.SQL_SECONDS, verb) for verb in (*VERBS, "OTHER")}
        self._by_statement: dict[str, Any] = {}
        self._pool_wait = self._meters.histogram(metrics.POOL_WAIT)
        self._head_lock = self._meters.histogram(metrics.HEAD_LOCK_WAIT)
        self._slow = self._meters.counter(metrics.SLOW_SQL)
        for source in RECONCILED_WITH:
            self._meters.counter(metrics.MISMATCHES, source)
        self.pool_in_use = self._meters.gauge(metrics.POOL_IN_USE)

    @property
    def logs_positions(self) -> bool:
        """Whether every change of a position is logged, so that its line must be made."""
        return self._positions.is_on

    def span(self, name: str, traceparent: str) -> AbstractContextManager[Span | None]:
        """A span of a transaction, where its caller is sampled."""
        return self._tracer.span(name, traceparent)

    def pool_waited(self, seconds: float) -> None:
        """How long it took to get a connection."""
        self._pool_wait.observe(seconds)

    def statement_ran(self, statement: str, *, took_s: float, origin: tuple[str, str]) -> None:
        """A statement has ended; `origin` is the trace id and the traceparent it worked for."""
        histogram = self._by_statement.get(statement)
        if histogram is None:
            histogram = self._histogram(statement)
        histogram.observe(took_s)
        if took_s >= self._slow_query_s:
            self._slow.inc()
            self._log.warning(
                "slow_query",
                statement=_told(statement),
                duration_ms=round(took_s * 1_000, 1),
                trace_id=origin[0],
            )
        if origin[1]:
            self._tracer.past("sql.statement", origin[1], took_s=took_s, **{"db.query.text": _told(statement)})

    def conflicted(self, cause: str, *, is_retried: bool) -> None:
        """A write met a newer version: it begins again, or its caller has to look anew."""
        self._meters.counter(metrics.CONFLICTS, cause, "retried" if is_retried else "refused").inc()

    def committed(self, cause: str, *, changed: Mapping[str, tuple[int, int]], positions: int, tries: int) -> None:
        """A transaction on the book: per cause the versions it made and the fills they apply."""
        for name, (versions, fills) in changed.items():
            self._meters.counter(metrics.POSITIONS_CHANGED, name).inc(versions)
            self._meters.counter(metrics.FILLS_APPLIED, name).inc(fills)
        if positions:
            self._meters.histogram(metrics.ROUND_KEYS, cause).observe(positions)
        if tries:
            self._meters.counter(metrics.RETRIES, str(tries)).inc()

    def refolded(self, cause: str, *, entries: int | None, fills: int) -> None:
        """The past of a position changed; `entries` None: its refold is deferred to a build."""
        if cause == "fill":
            self._meters.counter(metrics.LATE_FILLS, "deferred" if entries is None else "done").inc(fills)
        if entries is not None:
            self._meters.histogram(metrics.REFOLD_ENTRIES, cause).observe(entries)

    def positions_changed(self, changes: Sequence[PositionChange], *, at: datetime) -> None:
        """The line of every change."""
        self._positions.write(changes, at=at)

    def discrepancy_found(self, kind: str) -> None:
        """A position and its venue do not agree."""
        self._meters.counter(metrics.DISCREPANCIES, kind).inc()

    def reconciled(self, source: str, *, positions: int, mismatches: int) -> None:
        """Positions were compared with what `source` says of them."""
        self._meters.counter(metrics.RECONCILED, source).inc(positions)
        self._meters.counter(metrics.MISMATCHES, source).inc(mismatches)

    def _histogram(self, statement: str) -> Any:
        if HEADS in statement:
            self._by_statement[statement] = self._head_lock
            return self._head_lock
        verb = statement.lstrip()[:8].split(None, 1)[0].rstrip(";").upper() if statement.strip() else ""
        found = self._verbs.get(verb) or self._verbs["OTHER"]
        if len(self._by_statement) < KNOWN_MAX:
            self._by_statement[statement] = found
        return found


def _told(statement: str) -> str:
    return " ".join(statement.split())[:STATEMENT_MAX]
