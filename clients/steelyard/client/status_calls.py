"""GetServiceStatus of AdminService: how the service is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import cached_property

from steelyard.client.caller import Caller
from steelyard.client.translation import record_of
from steelyard.client.work_records import BuildState
from steelyard.v1 import admin_service_pb2, admin_service_pb2_grpc


class ServiceState(StrEnum):
    """Whether the service can be relied on."""

    SERVING = "SERVING"
    DEGRADED = "DEGRADED"
    NOT_SERVING = "NOT_SERVING"


class PartState(StrEnum):
    """How one part of it is."""

    UP = "UP"
    DEGRADED = "DEGRADED"
    DOWN = "DOWN"
    OFF = "OFF"
    UNKNOWN = "UNKNOWN"


class StatusReason(StrEnum):
    """Why it is not simply SERVING."""

    DATABASE_AWAY = "DATABASE_AWAY"
    CACHE_AWAY = "CACHE_AWAY"
    BROKER_AWAY = "BROKER_AWAY"
    NO_WORKER = "NO_WORKER"
    EVENTS_LATE = "EVENTS_LATE"
    POSITIONS_STALE = "POSITIONS_STALE"
    DRAINING = "DRAINING"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseStatus:
    """The store."""

    state: PartState
    latency: timedelta | None
    schema_revision: str | None
    schema_needed: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerPart:
    """One consumed queue, or the relay."""

    name: str
    state: PartState
    waiting: int | None
    active_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerStatus:
    """The exchange with RabbitMQ."""

    state: PartState
    parts: tuple[BrokerPart, ...]
    event_lag: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStatus:
    """The cache in Redis."""

    state: PartState
    hit_rate: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersStatus:
    """Who builds positions, and what waits for him."""

    state: PartState
    beating: int | None
    last_beat_age: timedelta | None
    oldest_waiting_build: timedelta | None
    oldest_waiting_job: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BookStatus:
    """What is kept, and how new it is."""

    positions_estimate: int
    stale_positions: int
    newest_mark_age: timedelta | None
    stale_key_age: timedelta
    stale_keys: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationStatus:
    """What validating positions came to in the last 24 hours."""

    runs: int
    runs_failed: int
    positions_checked: int
    positions_fixed: int
    discrepancies_new: int
    discrepancies_open: int
    last_run_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStateCount:
    """How many builds of the last 24 hours are in a state."""

    state: BuildState
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """How the service is; counts, ages, version and times are None unless `is_detailed`."""

    state: ServiceState
    reasons: tuple[StatusReason, ...]
    needs_keys: bool
    is_detailed: bool
    database: DatabaseStatus
    broker: BrokerStatus
    cache: CacheStatus
    workers: WorkersStatus
    book: BookStatus | None
    validation: ValidationStatus | None
    builds: tuple[BuildStateCount, ...]
    version: str | None
    started_at: datetime | None
    uptime: timedelta | None


class StatusCalls(Caller):
    """The call that asks how the service is."""

    @cached_property
    def _status(self) -> admin_service_pb2_grpc.AdminServiceStub:
        # A server that is NOT_SERVING is asked as well: that is when one wants to know.
        return admin_service_pb2_grpc.AdminServiceStub(self.unhealthy_channel)

    async def get_service_status(self) -> ServiceStatus:
        """How the service is. Answered also without its database, and without a key (states only, then, unless the
        caller is on the same machine)."""
        answer = await self._ask(self._status.GetServiceStatus, admin_service_pb2.GetServiceStatusRequest())
        return record_of(ServiceStatus, answer.status)
