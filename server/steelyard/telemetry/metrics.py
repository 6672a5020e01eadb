"""Every metric of the service, declared once: its name, kind, unit, labels and what it says.

Names end in their unit (`_seconds`, `_entries`, ...), counters in `_total`. `Meters` makes the instruments of one
process from this table; nothing else may make any. Prometheus' own client is used: an observation costs 0.7 us, that of
OpenTelemetry's 7 us, and a call makes several. `otlp.py` hands the same figures to an OTLP collector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics import MetricWrapperBase


class Kind(StrEnum):
    """How figures of a metric behave."""

    COUNTER = "counter"
    """Only grows, since the process started."""
    GAUGE = "gauge"
    """As it is now."""
    HISTOGRAM = "histogram"
    """How values are spread."""


FAST_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SLOW_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0)
COUNTS = (1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 2_000.0, 10_000.0, 50_000.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; `name` is that of Prometheus."""

    name: str
    kind: Kind
    unit: str
    """As UCUM writes it: s, By, 1 or {thing}."""
    says: str
    labels: tuple[str, ...] = ()
    buckets: Sequence[float] = ()
    is_asked_for: bool = False
    """A counter that another part keeps, read when somebody asks."""


Counted = Callable[[], Iterable[tuple[tuple[str, ...], float]]]
"""Gives the label values and the count of each series of a counter."""


def _counter(name: str, unit: str, says: str, *labels: str) -> Metric:  # noqa: PLR0917 - columns of a table
    return Metric(name, Kind.COUNTER, unit, says, labels)


def _asked(name: str, unit: str, says: str, *labels: str) -> Metric:  # noqa: PLR0917 - columns of a table
    return Metric(name, Kind.COUNTER, unit, says, labels, is_asked_for=True)


def _gauge(name: str, unit: str, says: str, *labels: str) -> Metric:  # noqa: PLR0917 - columns of a table
    return Metric(name, Kind.GAUGE, unit, says, labels)


def _times(name: str, says: str, *labels: str, buckets: Sequence[float] = FAST_S) -> Metric:
    return Metric(name, Kind.HISTOGRAM, "s", says, labels, buckets)


def _sizes(name: str, unit: str, says: str, *labels: str) -> Metric:  # noqa: PLR0917 - columns of a table
    return Metric(name, Kind.HISTOGRAM, unit, says, labels, COUNTS)


# Calls
RPC_SECONDS = _times("steelyard_rpc_seconds", "How long calls took, streams until their end.", "method", "code")
RPC_IN_FLIGHT = _gauge("steelyard_rpc_in_flight", "{call}", "Calls being handled.")
WATCHERS = _gauge("steelyard_watchers", "{stream}", "Streams that watch, by method.", "method")
RATE_REFUSED = _counter("steelyard_rate_refused_total", "{call}", "Calls refused by a limit.", "key_id", "limit")
KEY_USED = _counter("steelyard_key_used_total", "{call}", "Calls made with a key.", "key_id")
DENIED = _counter("steelyard_denied_total", "{call}", "Calls without a good key or the right to it.", "reason")

# The book
POSITIONS_CHANGED = _counter("steelyard_positions_changed_total", "{version}", "New versions of positions.", "cause")
FILLS_APPLIED = _counter("steelyard_fills_applied_total", "{fill}", "Fills folded into positions.", "cause")
ROUND_KEYS = _sizes("steelyard_commit_positions", "{position}", "Positions that one commit changed.", "cause")
CONFLICTS = _counter("steelyard_conflicts_total", "{write}", "Writes that met a newer version.", "cause", "resolution")
RETRIES = _counter("steelyard_retries_total", "{write}", "Writes committed at a later try, by the tries.", "tries")
LATE_FILLS = _counter("steelyard_late_fills_total", "{fill}", "Fills put into the past of a position.", "refold")
REFOLD_ENTRIES = _sizes("steelyard_refold_entries", "{entry}", "Entries folded again for one change.", "cause")
HEAD_LOCK_WAIT = _times(
    "steelyard_head_lock_seconds", "How long the step of the accounts' heads took, waiting for them included."
)
DISCREPANCIES = _counter("steelyard_discrepancies_total", "{discrepancy}", "Discrepancies found.", "kind")
RECONCILED = _counter("steelyard_reconciled_total", "{position}", "Positions compared with their source.", "source")
MISMATCHES = _counter("steelyard_reconcile_mismatch_total", "{position}", "Positions that did not agree.", "source")
VENUE_FAILURES = _counter("steelyard_venue_failures_total", "{call}", "Venues that could not be asked.", "reason")

# The store and the outside
SQL_SECONDS = _times("steelyard_sql_seconds", "How long statements took, as the client saw it.", "verb")
SLOW_SQL = _counter("steelyard_sql_slow_total", "{statement}", "Statements beyond the slow-query threshold.")
POOL_WAIT = _times("steelyard_pool_wait_seconds", "Wait for a connection of the pool.")
POOL_IN_USE = _gauge("steelyard_pool_in_use", "{connection}", "Connections of the pool in use.")
CACHE_SECONDS = _times("steelyard_cache_seconds", "How long Redis took.", "call")
CACHE_ANSWERS = _asked("steelyard_cache_answers_total", "{answer}", "Answers by where they came from.", "kind", "found")
CACHE_FAILURES = _asked("steelyard_cache_failures_total", "{call}", "Calls of Redis without a good answer.", "reason")
EXTERNAL_SECONDS = _times(
    "steelyard_external_seconds", "How long outside services took.", "service", "outcome", buckets=SLOW_S
)
EVENTS_HANDLED = _asked(
    "steelyard_events_handled_total", "{message}", "Messages by part and outcome.", "part", "outcome"
)
EVENTS_CONNECTED = _gauge("steelyard_events_connected", "1", "Whether a part is connected to the broker.", "part")
EVENTS_WAITING = _gauge("steelyard_events_waiting", "{message}", "Messages in a consumed queue.", "part")

# What the store says of itself, read every few seconds
EVENT_LAG = _gauge("steelyard_event_lag_seconds", "s", "Age of the oldest event not published.")
OUTBOX_ROWS = _gauge("steelyard_outbox_events", "{event}", "Events not published, counted up to 10,000.")
BUILDS = _gauge("steelyard_builds", "{build}", "Builds kept, by trigger and state.", "trigger", "state")
QUEUE_AGE = _gauge("steelyard_build_queue_age_seconds", "s", "Age of the oldest build that waits to begin.")
BUILD_IDLE = _gauge("steelyard_build_idle_seconds", "s", "Longest time that a build under way got no further.")
STALE_KEY_AGE = _gauge("steelyard_stale_key_age_seconds", "s", "Longest time that a key waits to be folded.")
STALE_KEYS = _gauge("steelyard_stale_keys", "{position}", "Keys with entries not folded, held ones left out.")
WORKERS = _gauge("steelyard_workers", "{worker}", "Queues' workers that beat within 30 s.")
OPEN_DISCREPANCIES = _gauge("steelyard_discrepancies_open", "{discrepancy}", "Discrepancies not resolved.", "kind")
OPEN_BREACHES = _gauge("steelyard_limit_breaches_open", "{breach}", "Limits broken now.", "kind")
STALE_PRICES = _gauge("steelyard_stale_prices", "{instrument}", "Instruments held at a stale or missing price.")
VITALS_FAILED = _gauge("steelyard_vitals_failed", "1", "1 while the store does not say how it is.")

# The process
LOOP_LAG = _times("steelyard_loop_lag_seconds", "How much later than asked the event loop came back.")
LOOP_LAG_WORST = _gauge("steelyard_loop_lag_worst_seconds", "s", "The longest such delay of the last ten seconds.")
BUILD_CHUNKS = _times("steelyard_chunk_seconds", "How long chunks of builds took.", "outcome", buckets=SLOW_S)

METRICS: tuple[Metric, ...] = tuple(value for value in tuple(globals().values()) if isinstance(value, Metric))


class Meters:
    """The instruments of one process."""

    def __init__(self) -> None:
        # When a series began is told to OTLP; in Prometheus it would double their number.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=False)
        self._instruments = {metric.name: _made(metric, self.registry) for metric in METRICS if not metric.is_asked_for}
        self._asked = {metric.name: _Asked(metric) for metric in METRICS if metric.is_asked_for}
        for asked in self._asked.values():
            self.registry.register(asked)

    def counter(self, metric: Metric, *labels: str) -> Counter:
        """The counter of a metric at these labels; keep it where it is used often."""
        found = self._of(metric, labels)
        assert isinstance(found, Counter)
        return found

    def gauge(self, metric: Metric, *labels: str) -> Gauge:
        """The gauge of a metric at these labels."""
        found = self._of(metric, labels)
        assert isinstance(found, Gauge)
        return found

    def histogram(self, metric: Metric, *labels: str) -> Histogram:
        """The histogram of a metric at these labels."""
        found = self._of(metric, labels)
        assert isinstance(found, Histogram)
        return found

    def ask(self, metric: Metric, counted: Counted) -> None:
        """Takes the counts of a metric from a part that keeps them, whenever somebody asks; parts add up."""
        self._asked[metric.name].sources.append(counted)

    def forget(self, metric: Metric) -> None:
        """Drops what was said at all labels, before they are all said anew."""
        self._instruments[metric.name].clear()

    def _of(self, metric: Metric, labels: tuple[str, ...]) -> MetricWrapperBase:
        instrument = self._instruments[metric.name]
        return instrument.labels(*labels) if metric.labels else instrument


class _Asked:
    """Fulfils Prometheus' `Collector`."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self.sources: list[Counted] = []

    def collect(self) -> Iterable[CounterMetricFamily]:
        """The counts as they are now."""
        metric = self._metric
        family = CounterMetricFamily(metric.name, _help(metric), labels=metric.labels)
        sums: dict[tuple[str, ...], float] = {}
        for source in self.sources:
            for labels, count in source():
                sums[labels] = sums.get(labels, 0.0) + count
        for labels, count in sums.items():
            family.add_metric(labels, count)
        yield family


def _help(metric: Metric) -> str:
    return f"{metric.says} Unit: {metric.unit}."


def _made(metric: Metric, registry: CollectorRegistry) -> MetricWrapperBase:
    says = _help(metric)
    if metric.kind is Kind.COUNTER:
        return Counter(metric.name, says, metric.labels, registry=registry)
    if metric.kind is Kind.GAUGE:
        return Gauge(metric.name, says, metric.labels, registry=registry)
    return Histogram(metric.name, says, metric.labels, registry=registry, buckets=metric.buckets)
