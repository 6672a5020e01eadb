"""Discrepancies, runs and what they add up to, as the contract tells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steelyard.operations.reconciling import Compared, Discrepancy, Finding, FindingKind, ReconciliationStats, Run
from steelyard.rpc import decode_reconciliation, encode
from steelyard.v1 import reconciliation_pb2

KINDS: Mapping[FindingKind, Any] = {kind: number for number, kind in decode_reconciliation.KINDS.items()}
COMPARED: Mapping[Compared, Any] = {each: number for number, each in decode_reconciliation.COMPARED.items()}
SEVERITIES: Mapping[Any, Any] = {each: number for number, each in decode_reconciliation.SEVERITIES.items()}
STATES: Mapping[Any, Any] = {state: number for number, state in decode_reconciliation.STATES.items()}
RUN_STATES: Mapping[Any, Any] = {state: number for number, state in decode_reconciliation.RUN_STATES.items()}
CAUSES: Mapping[Any, Any] = {cause: number for number, cause in decode_reconciliation.CAUSES.items()}


def finding(found: Finding) -> reconciliation_pb2.Discrepancy:
    """What was found just now, whether it is on record or not."""
    return reconciliation_pb2.Discrepancy(**_fields(found), severity=SEVERITIES[found.severity])


def discrepancy(record: Discrepancy) -> reconciliation_pb2.Discrepancy:
    """A record."""
    return reconciliation_pb2.Discrepancy(
        **_fields(record.finding),
        discrepancy_id=str(record.discrepancy_id),
        severity=SEVERITIES[record.severity],
        state=STATES[record.state],
        occurrences=record.occurrences,
        found_at=encode.timestamp(record.found_at),
        last_seen_at=encode.timestamp(record.last_seen_at),
        run_id=None if record.run_id is None else str(record.run_id),
        resolved_at=encode.optional_timestamp(record.resolved_at),
        resolved_by=record.resolved_by,
        resolution=record.resolution,
        fixed_version=record.fixed_version,
        version=record.version,
        etag=encode.etag(record.version),
    )


def _fields(found: Finding) -> dict[str, Any]:
    return {
        "key": encode.position_key(found.key),
        "kind": KINDS[found.kind],
        "compared_with": COMPARED[found.compared],
        "ours": encode.optional_money(found.ours),
        "theirs": encode.optional_money(found.theirs),
        "detail": found.detail,
        "source": found.source,
        "compared_at": encode.optional_timestamp(found.at),
    }


def run(told: Run, *, is_trial: bool = False) -> reconciliation_pb2.ReconciliationRun:
    """A run as it is."""
    tally = told.tally
    return reconciliation_pb2.ReconciliationRun(
        run_id=str(told.run_id),
        cause=CAUSES[told.cause],
        state=RUN_STATES[told.state],
        accounts=told.scope.accounts,
        instruments=told.scope.instruments,
        fix_discrepancies=told.is_fixing,
        keys_total=tally.keys_total,
        keys_checked=tally.keys_checked,
        keys_waiting=tally.keys_waiting,
        keys_fixed=tally.keys_fixed,
        found=tally.found,
        found_new=tally.found_new,
        resolved=tally.resolved,
        found_by_kind=counts(tally.by_kind),
        venue_error=tally.venue_error,
        error=told.error,
        created_at=encode.timestamp(told.created_at),
        started_at=encode.optional_timestamp(told.started_at),
        finished_at=encode.optional_timestamp(told.finished_at),
        validate_only=is_trial,
    )


def counts(by_kind: Mapping[str, int]) -> list[reconciliation_pb2.DiscrepancyCount]:
    """Counts by kind, in the order of their names."""
    return [
        reconciliation_pb2.DiscrepancyCount(kind=KINDS[FindingKind(kind)], count=count)
        for kind, count in sorted(by_kind.items())
    ]


def stats(told: ReconciliationStats) -> dict[str, Any]:
    """The fields of an answer about everything."""
    return {
        "runs": told.runs,
        "runs_failed": told.runs_failed,
        "keys_checked": told.keys_checked,
        "keys_fixed": told.keys_fixed,
        "found": told.found,
        "found_new": told.found_new,
        "resolved": told.resolved,
        "found_by_kind": counts(told.found_by_kind),
        "open": told.open_count,
        "open_by_kind": counts(told.open_by_kind),
        "last_run": None if told.last_run is None else run(told.last_run),
    }
