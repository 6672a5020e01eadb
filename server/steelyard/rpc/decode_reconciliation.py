"""Questions about discrepancies and runs, out of the contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from steelyard.accounting.errors import InvalidField
from steelyard.accounting.keys import PositionKey
from steelyard.operations.keep_discrepancies import REASON_MAX, Verdict
from steelyard.operations.reconciling import (
    Compared,
    DiscrepancyFilter,
    DiscrepancyState,
    FindingKind,
    RunCause,
    RunState,
    Scope,
    Severity,
)
from steelyard.rpc import decode
from steelyard.v1 import reconciliation_pb2, reconciliation_service_pb2

T = TypeVar("T")

KINDS: Mapping[int, FindingKind] = {
    number: FindingKind(name.removeprefix("DISCREPANCY_KIND_"))
    for name, number in reconciliation_pb2.DiscrepancyKind.items()
    if number
}
COMPARED: Mapping[int, Compared] = {
    number: Compared(name.removeprefix("COMPARED_WITH_"))
    for name, number in reconciliation_pb2.ComparedWith.items()
    if number
}
SEVERITIES: Mapping[int, Severity] = {
    number: Severity(name.removeprefix("DISCREPANCY_SEVERITY_"))
    for name, number in reconciliation_pb2.DiscrepancySeverity.items()
    if number
}
STATES: Mapping[int, DiscrepancyState] = {
    number: DiscrepancyState(name.removeprefix("DISCREPANCY_STATE_"))
    for name, number in reconciliation_pb2.DiscrepancyState.items()
    if number
}
RUN_STATES: Mapping[int, RunState] = {
    number: RunState(name.removeprefix("RECONCILIATION_STATE_"))
    for name, number in reconciliation_pb2.ReconciliationState.items()
    if number
}
CAUSES: Mapping[int, RunCause] = {
    number: RunCause(name.removeprefix("RECONCILIATION_CAUSE_"))
    for name, number in reconciliation_pb2.ReconciliationCause.items()
    if number
}
VERDICTS: Mapping[int, DiscrepancyState] = {
    reconciliation_pb2.DISCREPANCY_STATE_RESOLVED: DiscrepancyState.RESOLVED,
    reconciliation_pb2.DISCREPANCY_STATE_IGNORED: DiscrepancyState.IGNORED,
}


def key(request: reconciliation_service_pb2.ValidatePositionRequest) -> PositionKey:
    """Which position is to be looked at. Raises `InvalidField`."""
    return PositionKey(
        decode.account(request.account),
        decode.book(request.book),
        decode.instrument(request.instrument),
        decode.leg(request.leg),
    )


def is_fixing(
    request: reconciliation_service_pb2.ValidatePositionRequest | reconciliation_service_pb2.RunReconciliationRequest,
) -> bool:
    """Whether what may be fixed is to be fixed: unless told otherwise."""
    return request.fix_discrepancies if request.HasField("fix_discrepancies") else True


def scope(request: reconciliation_service_pb2.RunReconciliationRequest) -> Scope:
    """Which positions a run is about. Raises `InvalidField`."""
    if request.validate_only and request.in_background:
        raise InvalidField("in_background", "a trial is answered at once")
    return Scope(decode.accounts(request.accounts), decode.instruments(request.instruments))


def discrepancy_filter(request: reconciliation_service_pb2.ListDiscrepanciesRequest) -> DiscrepancyFilter:
    """Which records are meant. Raises `InvalidField`."""
    found_from = decode.optional_timestamp(request, "found_from")
    found_before = decode.optional_timestamp(request, "found_before")
    decode.interval(found_from, found_before, field="found_before")
    return DiscrepancyFilter(
        accounts=decode.accounts(request.accounts),
        instruments=decode.instruments(request.instruments),
        kinds=_choices(request.kinds, KINDS, field="kinds"),
        compared=_choices(request.compared_with, COMPARED, field="compared_with"),
        severities=_choices(request.severities, SEVERITIES, field="severities"),
        states=_choices(request.states, STATES, field="states"),
        found_from=found_from,
        found_before=found_before,
        run_id=decode.uuid(request.run_id, field="run_id") if request.run_id else None,
    )


def _choices(values: Iterable[int], table: Mapping[int, T], *, field: str) -> tuple[T, ...]:
    found = [decode.choice(value, table, field=f"{field}[{index}]") for index, value in enumerate(values)]
    return tuple(dict.fromkeys(found))


def verdict(request: reconciliation_service_pb2.ResolveDiscrepancyRequest, *, by: str) -> Verdict:
    """How somebody settles a record. Raises `InvalidField`."""
    expected = decode.version(request.expected_version) if request.HasField("expected_version") else None
    if request.etag:
        if expected is not None:
            raise InvalidField("etag", "must not be given beside expected_version")
        expected = decode.version_of_etag(request.etag)
    return Verdict(
        account=decode.account(request.account),
        discrepancy_id=decode.uuid(request.discrepancy_id, field="discrepancy_id"),
        state=decode.choice(request.state, VERDICTS, field="state"),
        reason=decode.printable(request.reason, REASON_MAX, field="reason"),
        by=by,
        expected_version=expected,
    )
