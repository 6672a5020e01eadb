"""The service's status into the contract's fields; counts and ages only where the caller may have them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from google.protobuf.duration_pb2 import Duration

from steelyard.operations.building import BuildState
from steelyard.operations.service_status import (
    BookSigns,
    BrokerPart,
    PartState,
    ServiceStatus,
    StoreSigns,
    ValidationSigns,
)
from steelyard.rpc import encode
from steelyard.rpc.encode_build import STATES
from steelyard.v1 import status_pb2

HIT_RATE_STEP = Decimal("0.0001")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What a server knows of itself."""

    version: str
    started_at: datetime
    schema_needed: str
    needs_keys: bool


def service_status(status: ServiceStatus, facts: ServerFacts, *, is_detailed: bool) -> status_pb2.ServiceStatus:
    """The status; without any count, age, version or time unless `is_detailed`."""
    told = status_pb2.ServiceStatus(
        state=status_pb2.ServiceState.Value(f"SERVICE_STATE_{status.state}"),
        reasons=[status_pb2.StatusReason.Value(f"STATUS_REASON_{reason}") for reason in status.reasons],
        needs_keys=facts.needs_keys,
        is_detailed=is_detailed,
        database=status_pb2.DatabaseStatus(state=_part(PartState.DOWN if status.signs is None else PartState.UP)),
        broker=status_pb2.BrokerStatus(
            state=_part(status.broker),
            parts=[_broker_part(part, is_detailed=is_detailed) for part in status.broker_parts],
        ),
        cache=status_pb2.CacheStatus(state=_part(status.cache)),
        workers=status_pb2.WorkersStatus(state=_part(status.workers)),
    )
    if is_detailed:
        _add_details(told, status, facts=facts)
    return told


def _add_details(told: status_pb2.ServiceStatus, status: ServiceStatus, *, facts: ServerFacts) -> None:
    told.version = facts.version
    told.started_at.CopyFrom(encode.timestamp(facts.started_at))
    told.uptime.CopyFrom(_span(status.at - facts.started_at))
    told.database.schema_needed = facts.schema_needed
    if status.latency is not None:
        told.database.latency.CopyFrom(_span(status.latency))
    if status.cache_signs is not None and status.cache_signs.hit_rate is not None:
        told.cache.hit_rate = encode.decimal(Decimal(status.cache_signs.hit_rate).quantize(HIT_RATE_STEP))
    if status.signs is not None:
        _add_signs(told, status.signs)


def _add_signs(told: status_pb2.ServiceStatus, signs: StoreSigns) -> None:
    if signs.schema_revision is not None:
        told.database.schema_revision = signs.schema_revision
    told.broker.event_lag.CopyFrom(_span(signs.event_lag))
    workers = signs.workers
    told.workers.beating = workers.beating
    if workers.last_beat_age is not None:
        told.workers.last_beat_age.CopyFrom(_span(workers.last_beat_age))
    told.workers.oldest_waiting_build.CopyFrom(_span(workers.oldest_waiting_build))
    told.workers.oldest_waiting_job.CopyFrom(_span(workers.oldest_waiting_job))
    told.book.CopyFrom(_book(signs.book))
    told.validation.CopyFrom(_validation(signs.validation))
    told.builds.extend(_builds(signs))


def _broker_part(part: BrokerPart, *, is_detailed: bool) -> status_pb2.BrokerPart:
    state = _part(PartState.UP if part.is_connected else PartState.DOWN)
    if not is_detailed:
        return status_pb2.BrokerPart(name=part.name, state=state)
    active_at = encode.optional_timestamp(part.active_at)
    return status_pb2.BrokerPart(name=part.name, state=state, waiting=part.waiting, active_at=active_at)


def _book(signs: BookSigns) -> status_pb2.BookStatus:
    age = signs.newest_mark_age
    return status_pb2.BookStatus(
        positions_estimate=signs.positions_estimate,
        stale_positions=signs.stale_positions,
        newest_mark_age=None if age is None else _span(age),
        stale_key_age=_span(signs.stale_key_age),
        stale_keys=signs.stale_keys,
    )


def _validation(signs: ValidationSigns) -> status_pb2.ValidationStatus:
    return status_pb2.ValidationStatus(
        runs=signs.runs,
        runs_failed=signs.runs_failed,
        positions_checked=signs.positions_checked,
        positions_fixed=signs.positions_fixed,
        discrepancies_new=signs.discrepancies_new,
        discrepancies_open=signs.discrepancies_open,
        last_run_at=encode.optional_timestamp(signs.last_run_at),
    )


def _builds(signs: StoreSigns) -> Iterator[status_pb2.BuildStateCount]:
    for state, count in sorted(signs.builds.items()):
        yield status_pb2.BuildStateCount(state=STATES[BuildState(state)], count=count)


def _part(state: PartState) -> status_pb2.PartState.ValueType:
    return status_pb2.PartState.Value(f"PART_STATE_{state}")


def _span(span: timedelta) -> Duration:
    told = Duration()
    # A mark may be of a clock that is ahead of ours.
    told.FromTimedelta(max(span, timedelta()))
    return told
