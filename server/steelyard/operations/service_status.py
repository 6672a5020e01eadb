"""How the service is: what it needs, what waits, for how long, and what that comes to.

Asked by probes, screens and people, so it is cheap (at most one read a second, whoever asks), and it is told also while
the store is away: then with what is known without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from steelyard.accounting.errors import SteelyardError

FRESH_S = 1.0
"""How old a status that is told may be."""
STORE_WAIT_S = 2.0
"""A store that takes longer is away."""
LATE = timedelta(seconds=60)
"""What has waited for longer than this is late."""


class ServiceState(StrEnum):
    """Whether the service can be relied on."""

    SERVING = "SERVING"
    DEGRADED = "DEGRADED"
    NOT_SERVING = "NOT_SERVING"


class PartState(StrEnum):
    """How one part is."""

    UP = "UP"
    DEGRADED = "DEGRADED"
    DOWN = "DOWN"
    OFF = "OFF"
    """Settings name none."""
    UNKNOWN = "UNKNOWN"
    """It cannot be told while the store is away."""


class StatusReason(StrEnum):
    """Why the service is not simply SERVING."""

    DATABASE_AWAY = "DATABASE_AWAY"
    CACHE_AWAY = "CACHE_AWAY"
    BROKER_AWAY = "BROKER_AWAY"
    NO_WORKER = "NO_WORKER"
    EVENTS_LATE = "EVENTS_LATE"
    POSITIONS_STALE = "POSITIONS_STALE"
    DRAINING = "DRAINING"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSigns:
    """Who builds positions, and what waits for him."""

    beating: int
    """Queues with a worker; a worker process has two."""
    last_beat_age: timedelta | None
    oldest_waiting_build: timedelta
    oldest_waiting_job: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class BookSigns:
    """What is kept, and how new it is."""

    positions_estimate: int
    stale_positions: int
    newest_mark_age: timedelta | None
    stale_key_age: timedelta
    stale_keys: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationSigns:
    """What validating positions came to of late."""

    runs: int
    runs_failed: int
    positions_checked: int
    positions_fixed: int
    discrepancies_new: int
    discrepancies_open: int
    last_run_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSigns:
    """What the store says."""

    schema_revision: str | None
    event_lag: timedelta
    workers: WorkerSigns
    book: BookSigns
    validation: ValidationSigns
    builds: Mapping[str, int]
    """By state."""


@dataclass(frozen=True, slots=True)
class BrokerPart:
    """One consumed queue, or the relay."""

    name: str
    is_connected: bool
    waiting: int | None
    active_at: datetime | None


@dataclass(frozen=True, slots=True)
class CacheSigns:
    """How the cache is doing."""

    is_reachable: bool
    hit_rate: float | None
    """None: nobody has asked it yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """How the service is."""

    state: ServiceState
    reasons: Sequence[StatusReason]
    at: datetime
    signs: StoreSigns | None
    """None: the store is away."""
    latency: timedelta | None
    broker: PartState
    broker_parts: Sequence[BrokerPart]
    cache: PartState
    cache_signs: CacheSigns | None
    workers: PartState


class SignReads(Protocol):
    """Where the signs of the store are read."""

    async def read(self) -> StoreSigns:
        """All of them. Raises `StoreUnavailable`."""
        ...


class CacheProbe(Protocol):
    """Looks at the cache."""

    async def __call__(self) -> CacheSigns | None:
        """How it is doing; None: there is none. Raises nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the service uses beside its store."""

    broker_parts: Callable[[], Sequence[BrokerPart] | None]
    """None: no broker is named."""
    cache: CacheProbe
    silence_max_s: float = 30.0
    """A worker that has not beaten for this long is none."""


@dataclass(slots=True)
class _Told:
    """The last status, and until when it is fresh."""

    status: ServiceStatus | None = None
    until_s: float = field(default=float("-inf"))


class ReadServiceStatus:
    """Tells how the service is."""

    def __init__(
        self,
        reads: SignReads,
        around: Surroundings,
        *,
        clock: Callable[[], datetime],
        now_s: Callable[[], float],
        store_wait_s: float = STORE_WAIT_S,
    ) -> None:
        """`now_s` is a monotonic clock, in seconds."""
        self._reads = reads
        self._around = around
        self._clock = clock
        self._now_s = now_s
        self._store_wait_s = store_wait_s
        self._told = _Told()
        self._reading = asyncio.Lock()
        self._is_draining = False

    def drain(self) -> None:
        """Says from now on that the server ends."""
        self._is_draining = True
        self._told = _Told()

    async def get(self) -> ServiceStatus:
        """The status, at most `FRESH_S` old. Never fails because something is away."""
        async with self._reading:
            if self._told.status is None or self._now_s() >= self._told.until_s:
                status = await self._look()
                self._told = _Told(status, self._now_s() + FRESH_S)
                return status
            return self._told.status

    async def _look(self) -> ServiceStatus:
        begun_s = self._now_s()
        signs = await self._signs()
        latency = None if signs is None else timedelta(seconds=self._now_s() - begun_s)
        parts = self._around.broker_parts()
        cached = await self._around.cache()
        broker = _broker_state(parts)
        cache = PartState.OFF if cached is None else PartState.UP if cached.is_reachable else PartState.DOWN
        workers = _worker_state(signs, silence_max_s=self._around.silence_max_s)
        reasons = _reasons(signs, broker=broker, cache=cache, workers=workers)
        if self._is_draining:
            reasons = (*reasons, StatusReason.DRAINING)
        return ServiceStatus(
            state=_state(reasons),
            reasons=reasons,
            at=self._clock(),
            signs=signs,
            latency=latency,
            broker=broker,
            broker_parts=parts or (),
            cache=cache,
            cache_signs=cached,
            workers=workers,
        )

    async def _signs(self) -> StoreSigns | None:
        try:
            async with asyncio.timeout(self._store_wait_s):
                return await self._reads.read()
        except (SteelyardError, TimeoutError):
            return None


def _broker_state(parts: Sequence[BrokerPart] | None) -> PartState:
    if parts is None:
        return PartState.OFF
    connected = sum(part.is_connected for part in parts)
    return PartState.UP if connected == len(parts) else PartState.DEGRADED if connected else PartState.DOWN


def _worker_state(signs: StoreSigns | None, *, silence_max_s: float) -> PartState:
    if signs is None:
        return PartState.UNKNOWN
    age = signs.workers.last_beat_age
    return PartState.UP if age is not None and age.total_seconds() <= silence_max_s else PartState.DOWN


def _reasons(
    signs: StoreSigns | None, *, broker: PartState, cache: PartState, workers: PartState
) -> Sequence[StatusReason]:
    missing = {
        StatusReason.DATABASE_AWAY: signs is None,
        StatusReason.CACHE_AWAY: cache is PartState.DOWN,
        StatusReason.BROKER_AWAY: broker in (PartState.DEGRADED, PartState.DOWN),
        StatusReason.NO_WORKER: workers is PartState.DOWN,
        StatusReason.EVENTS_LATE: signs is not None and signs.event_lag > LATE,
        StatusReason.POSITIONS_STALE: signs is not None and signs.book.stale_key_age > LATE,
    }
    return tuple(reason for reason, is_so in missing.items() if is_so)


def _state(reasons: Sequence[StatusReason]) -> ServiceState:
    if StatusReason.DATABASE_AWAY in reasons or StatusReason.DRAINING in reasons:
        return ServiceState.NOT_SERVING
    return ServiceState.DEGRADED if reasons else ServiceState.SERVING
