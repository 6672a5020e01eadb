"""Parts that keep figures of their own, joined to the metrics: Redis, kept answers, price sources, the broker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from steelyard.operations.cached_answers import CachedAnswersFigures
from steelyard.operations.observing import origin
from steelyard.operations.reconciling import Run
from steelyard.operations.refresh_marks import Refreshed
from steelyard.telemetry import metrics
from steelyard.telemetry.metrics import Meters
from steelyard.telemetry.store import StoreTelemetry

if TYPE_CHECKING:
    from steelyard.cache.redis_cache import RedisCache
    from steelyard.events.service import PartStatus

Series = Iterable[tuple[tuple[str, ...], float]]


def redis_calls(telemetry: StoreTelemetry) -> Callable[[str, float], None]:
    """What is told how long each call of Redis took."""
    seconds = {call: telemetry.meters.histogram(metrics.CACHE_SECONDS, call) for call in ("get", "put", "add", "ping")}

    def called(call: str, took_s: float) -> None:
        seconds[call].observe(took_s)
        telemetry.tracer.past(f"redis.{call}", origin.get().traceparent, took_s=took_s)

    return called


def watch_redis(meters: Meters, cache: RedisCache) -> None:
    """Counts what Redis did not answer well."""

    def failures() -> Series:
        figures = cache.figures
        for reason in ("timeouts", "errors", "skipped", "busy", "garbled", "puts_lost"):
            yield (reason,), getattr(figures, reason)

    meters.ask(metrics.CACHE_FAILURES, failures)


def watch_answers(meters: Meters, kind: str, *, figures: Callable[[], Sequence[CachedAnswersFigures]]) -> None:
    """Counts where answers of one kind came from."""

    def found() -> Iterator[tuple[tuple[str, ...], float]]:
        for place in ("from_memory", "from_cache", "joined", "from_store", "uncached", "last_known", "unreadable"):
            yield (kind, place), sum(getattr(each, place) for each in figures())

    meters.ask(metrics.CACHE_ANSWERS, found)


def price_calls(telemetry: StoreTelemetry, source: str) -> Callable[[Refreshed], None]:
    """What is told what became of each refresh of a price."""

    def refreshed(told: Refreshed) -> None:
        outcome = "OK" if told.failure is None else told.failure.reason.value
        telemetry.meters.histogram(metrics.EXTERNAL_SECONDS, source, outcome).observe(told.took_s)
        telemetry.tracer.past("price.refresh", origin.get().traceparent, took_s=told.took_s, outcome=outcome)

    return refreshed


def watch_events(meters: Meters, parts: Callable[[], Sequence[PartStatus]]) -> None:
    """Counts the messages of each part that needs the broker."""

    def handled() -> Series:
        for part in parts():
            meters.gauge(metrics.EVENTS_CONNECTED, part.name).set(part.is_connected)
            if part.waiting is not None:
                meters.gauge(metrics.EVENTS_WAITING, part.name).set(part.waiting)
            for outcome, count in part.counts.items():
                yield (part.name, outcome), count
            yield (part.name, "retried"), part.retried

    meters.ask(metrics.EVENTS_HANDLED, handled)


class ReconcileMeter:
    """Fulfils `reconciling.ReconcileObserver`: counts what reconciling comes to."""

    def __init__(self, telemetry: StoreTelemetry) -> None:
        self._telemetry = telemetry

    def reconciled(self, run: Run, *, mismatches: int) -> None:
        """A run has ended; `mismatches` positions were not what their own entries make of them."""
        self._telemetry.reconciled("entries", positions=run.tally.keys_checked, mismatches=mismatches)

    def venue_failed(self, why: str) -> None:
        """A venue could not be asked."""
        self._telemetry.meters.counter(metrics.VENUE_FAILURES, why).inc()
