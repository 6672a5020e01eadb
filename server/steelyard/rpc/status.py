"""From domain errors to statuses: the only table, and the only place that makes a google.rpc.Status.

Clients branch on the reason in the one ErrorInfo; the text promises nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from steelyard.accounting import errors
from steelyard.v1 import errors_pb2

DOMAIN = "steelyard"
DETAILS_TRAILER = "grpc-status-details-bin"
TEXT_MAX = 1_000
METADATA_VALUE_MAX = 256
RETRY_AFTER_S = {"QUEUE_FULL": 0.5, "STREAM_LIMIT": 5.0, "STORE_UNAVAILABLE": 1.0, "NOT_YET_VISIBLE": 0.2}
FINAL_REASONS = frozenset({"NOT_YET_VISIBLE"})
"""Reasons with a code that clients repeat by themselves, where that would be wrong: the caller's time is used up."""
PUSHBACK_TRAILER = "grpc-retry-pushback-ms"

_Code = grpc.StatusCode
CODES: Mapping[type[errors.SteelyardError], grpc.StatusCode] = {
    errors.SteelyardError: _Code.INTERNAL,
    errors.InvalidField: _Code.INVALID_ARGUMENT,
    errors.PageTokenInvalid: _Code.INVALID_ARGUMENT,
    errors.ResumeTokenExpired: _Code.OUT_OF_RANGE,
    errors.RequestIdReused: _Code.INVALID_ARGUMENT,
    errors.ApiKeyInvalid: _Code.UNAUTHENTICATED,
    errors.ScopeMissing: _Code.PERMISSION_DENIED,
    errors.AccountDenied: _Code.PERMISSION_DENIED,
    errors.NotFound: _Code.NOT_FOUND,
    errors.FillConflict: _Code.ALREADY_EXISTS,
    errors.VersionMismatch: _Code.ABORTED,
    errors.PreconditionError: _Code.FAILED_PRECONDITION,
    errors.UnknownInstrument: _Code.FAILED_PRECONDITION,
    errors.FillBusted: _Code.FAILED_PRECONDITION,
    errors.LegOverrun: _Code.FAILED_PRECONDITION,
    errors.PeriodSealed: _Code.FAILED_PRECONDITION,
    errors.NumericLimit: _Code.FAILED_PRECONDITION,
    errors.BuildAlreadyDone: _Code.FAILED_PRECONDITION,
    errors.PricesNotFresh: _Code.FAILED_PRECONDITION,
    errors.InstrumentInUse: _Code.FAILED_PRECONDITION,
    errors.KeysExhausted: _Code.FAILED_PRECONDITION,
    errors.KeysNotKept: _Code.FAILED_PRECONDITION,
    errors.RateLimited: _Code.RESOURCE_EXHAUSTED,
    errors.StreamLimit: _Code.RESOURCE_EXHAUSTED,
    errors.QueueFull: _Code.RESOURCE_EXHAUSTED,
    errors.StoreUnavailable: _Code.UNAVAILABLE,
    errors.NotYetVisible: _Code.UNAVAILABLE,
    # A worker's own affair; where it reaches a caller, it is a bug.
    errors.FenceLost: _Code.INTERNAL,
    errors.InvariantBroken: _Code.INTERNAL,
}


_REASONS = frozenset(errors_pb2.ErrorReason.keys())


def code_of(error: errors.SteelyardError) -> grpc.StatusCode:
    """The gRPC code of a domain error; an unlisted class is a bug, and a test finds it."""
    return CODES.get(type(error), _Code.INTERNAL)


def reason_of(error: errors.SteelyardError) -> str:
    """The reason clients branch on: a name of `ErrorReason` without its prefix."""
    is_ours = code_of(error) is not _Code.INTERNAL and f"ERROR_REASON_{error.reason}" in _REASONS
    return error.reason if is_ours else "INTERNAL"


def reason_number(error: errors.SteelyardError) -> errors_pb2.ErrorReason.ValueType:
    """The same as a value of the enum, for items of a batch."""
    return errors_pb2.ErrorReason.Value(f"ERROR_REASON_{reason_of(error)}")


def is_bug(error: BaseException) -> bool:
    """Whether the text of this error is withheld from callers."""
    return not isinstance(error, errors.SteelyardError) or code_of(error) is _Code.INTERNAL


def public_text(error: BaseException, *, trace_id: str) -> str:
    """What the caller may read."""
    if isinstance(error, errors.SteelyardError) and not is_bug(error):
        return error.message[:TEXT_MAX]
    return f"internal error, trace id {trace_id}"


def status_of(error: BaseException, *, trace_id: str) -> status_pb2.Status:
    """The status of an error: code, text, exactly one ErrorInfo, and further details where they fit.

    What is none of our errors is INTERNAL; its text stays here and the trace id goes out.
    """
    if not isinstance(error, errors.SteelyardError) or is_bug(error):
        info = _info("INTERNAL", {"trace_id": trace_id})
        return _status(_Code.INTERNAL, text=public_text(error, trace_id=trace_id), details=[info])
    reason = reason_of(error)
    details: list[Message] = [_info(reason, error.details)]
    if isinstance(error, errors.InvalidField):
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.why)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, errors.PreconditionError):
        details.append(_precondition(error, reason))
    if isinstance(error, errors.NotFound):
        details.append(error_details_pb2.ResourceInfo(resource_type=error.kind, resource_name=error.name))
    if isinstance(error, errors.RateLimited):
        violation_of_quota = error_details_pb2.QuotaFailure.Violation(subject=error.subject, description=error.message)
        details.append(error_details_pb2.QuotaFailure(violations=[violation_of_quota]))
        details.append(_retry_after(error.retry_after_s))
    if reason in RETRY_AFTER_S:
        details.append(_retry_after(RETRY_AFTER_S[reason]))
    return _status(code_of(error), text=public_text(error, trace_id=trace_id), details=details)


def interrupted() -> status_pb2.Status:
    """The status of a call whose work was cancelled by something other than its caller: it may be repeated."""
    details: list[Message] = [_info("STORE_UNAVAILABLE", {}), _retry_after(RETRY_AFTER_S["STORE_UNAVAILABLE"])]
    return _status(_Code.UNAVAILABLE, text="the work was interrupted; repeat it with the same id", details=details)


def trailers_of(status: status_pb2.Status, *, reason: str) -> tuple[tuple[str, str | bytes], ...]:
    """The trailers that carry a status with its details, and forbid gRPC to repeat what is final."""
    details = (DETAILS_TRAILER, status.SerializeToString())
    return (details, (PUSHBACK_TRAILER, "-1")) if reason in FINAL_REASONS else (details,)


_CODES_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


def grpc_code(status: status_pb2.Status) -> grpc.StatusCode:
    """The gRPC code that a status names."""
    return _CODES_BY_NUMBER[status.code]


def _status(code: grpc.StatusCode, *, text: str, details: list[Message]) -> status_pb2.Status:
    status = status_pb2.Status(code=code.value[0], message=text)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _info(reason: str, metadata: Mapping[str, str]) -> error_details_pb2.ErrorInfo:
    bounded = {name: str(value)[:METADATA_VALUE_MAX] for name, value in metadata.items()}
    return error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=bounded)


def _precondition(error: errors.PreconditionError, reason: str) -> error_details_pb2.PreconditionFailure:
    subject = next(iter(error.details.values()), "")[:METADATA_VALUE_MAX]
    violation = error_details_pb2.PreconditionFailure.Violation(
        type=reason, subject=subject, description=error.message[:METADATA_VALUE_MAX]
    )
    return error_details_pb2.PreconditionFailure(violations=[violation])


def _retry_after(seconds: float) -> error_details_pb2.RetryInfo:
    delay = duration_pb2.Duration()
    delay.FromNanoseconds(int(seconds * 1_000_000_000))
    return error_details_pb2.RetryInfo(retry_delay=delay)
