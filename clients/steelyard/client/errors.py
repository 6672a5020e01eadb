"""Errors by reason: what a call failed with, as a class to catch.

The service names a reason in each failed call; callers branch on the class (or on `reason`), never on the text. A
reason this client does not know yet comes out as `SteelyardCallError` itself, to be treated by its `code`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

REQUEST_ID = "x-request-id"
_DETAILS = "grpc-status-details-bin"

D = TypeVar("D", bound=Message)


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field of the request that is not acceptable."""

    field: str
    """Its path in the request, such as `fill.quantity`."""
    why: str


class SteelyardCallError(Exception):
    """A call failed; `reason` says why, in a word that stays."""

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode,
        reason: str = "",
        details: Mapping[str, str] | None = None,
        violations: tuple[FieldViolation, ...] = (),
        retry_after_s: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.details: Mapping[str, str] = details or {}
        self.violations = violations
        self.retry_after_s = retry_after_s
        self.request_id = request_id


class InvalidField(SteelyardCallError):
    """A field of the request is not acceptable; `violations` name it."""


class PageTokenInvalid(SteelyardCallError):
    """The page token belongs to another question."""


class ResumeTokenExpired(SteelyardCallError):
    """The watch was left for more than 24 hours: begin it anew."""


class RequestIdReused(SteelyardCallError):
    """The request id was used before with another body."""


class AccessDenied(SteelyardCallError):
    """The key is missing, unknown, or not allowed to do this."""


class NotFound(SteelyardCallError):
    """There is no such thing."""


class FillConflict(SteelyardCallError):
    """The fill id is known with other content; nothing was changed."""


class VersionMismatch(SteelyardCallError):
    """The expected version is not the current one."""

    @property
    def current_version(self) -> int | None:
        """The version that is current, where the service named it."""
        text = self.details.get("current_version", "")
        return int(text) if text.isdecimal() else None


class PreconditionFailed(SteelyardCallError):
    """The state does not allow this."""


class UnknownInstrument(PreconditionFailed):
    """The instrument has no record and none can be derived."""


class FillBusted(PreconditionFailed):
    """The fill was busted, which is final."""


class LegOverrun(PreconditionFailed):
    """The fill closes more than its leg holds."""


class PeriodSealed(PreconditionFailed):
    """The account is sealed for the time of this entry."""


class NumericLimit(PreconditionFailed):
    """The amount is beyond what is kept exactly."""


class BuildAlreadyDone(PreconditionFailed):
    """The build has already reached its end."""


class PricesNotFresh(PreconditionFailed):
    """Fresh prices were demanded and could not be had."""


class InstrumentInUse(PreconditionFailed):
    """The instrument has fills; only an update that rebuilds its keys may change it."""


class KeysExhausted(PreconditionFailed):
    """The owner has as many live keys as one may have: take one back first."""


class KeysNotKept(PreconditionFailed):
    """The service runs without API keys."""


class TryLater(SteelyardCallError):
    """Too much is waiting or asked for; `retry_after_s` says when to try again."""


class Unavailable(SteelyardCallError):
    """The service or its store is away; the outcome of a write is unknown: repeat it with the same id."""


class NotYetVisible(Unavailable):
    """A commit asked for was not visible before the deadline."""


class DeadlineExceeded(SteelyardCallError):
    """The answer took too long; the outcome of a write is unknown: repeat it with the same id."""


BY_REASON: Mapping[str, type[SteelyardCallError]] = {
    "INVALID_FIELD": InvalidField,
    "PAGE_TOKEN_INVALID": PageTokenInvalid,
    "REQUEST_ID_REUSED": RequestIdReused,
    "RESUME_TOKEN_EXPIRED": ResumeTokenExpired,
    "API_KEY_INVALID": AccessDenied,
    "SCOPE_MISSING": AccessDenied,
    "ACCOUNT_DENIED": AccessDenied,
    "NOT_FOUND": NotFound,
    "FILL_CONFLICT": FillConflict,
    "VERSION_MISMATCH": VersionMismatch,
    "UNKNOWN_INSTRUMENT": UnknownInstrument,
    "FILL_BUSTED": FillBusted,
    "LEG_OVERRUN": LegOverrun,
    "PERIOD_SEALED": PeriodSealed,
    "NUMERIC_LIMIT": NumericLimit,
    "BUILD_ALREADY_DONE": BuildAlreadyDone,
    "PRICES_NOT_FRESH": PricesNotFresh,
    "INSTRUMENT_IN_USE": InstrumentInUse,
    "KEYS_EXHAUSTED": KeysExhausted,
    "KEYS_NOT_KEPT": KeysNotKept,
    "QUEUE_FULL": TryLater,
    "RATE_LIMITED": TryLater,
    "STREAM_LIMIT": TryLater,
    "STORE_UNAVAILABLE": Unavailable,
    "NOT_YET_VISIBLE": NotYetVisible,
}
_BY_CODE: Mapping[grpc.StatusCode, type[SteelyardCallError]] = {
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.CANCELLED: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.RESOURCE_EXHAUSTED: TryLater,
    grpc.StatusCode.FAILED_PRECONDITION: PreconditionFailed,
}


def call_error(error: grpc.aio.AioRpcError) -> SteelyardCallError:
    """The error that a failed call stands for."""
    trailers = dict(error.trailing_metadata() or ())
    status = _status(trailers.get(_DETAILS))
    info = _detail(status, error_details_pb2.ErrorInfo())
    bad, retry = _detail(status, error_details_pb2.BadRequest()), _detail(status, error_details_pb2.RetryInfo())
    request_id = trailers.get(REQUEST_ID)
    kind = BY_REASON.get(info.reason) or _BY_CODE.get(error.code(), SteelyardCallError)
    return kind(
        error.details() or error.code().name,
        code=error.code(),
        reason=info.reason,
        details=dict(info.metadata),
        violations=tuple(FieldViolation(one.field, one.description) for one in bad.field_violations),
        retry_after_s=retry.retry_delay.ToNanoseconds() / 1e9 if retry.HasField("retry_delay") else None,
        request_id=request_id if isinstance(request_id, str) else None,
    )


@contextmanager
def translated() -> Iterator[None]:
    """Runs a block with failed calls turned into `SteelyardCallError`."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise call_error(error) from None


def _status(raw: str | bytes | None) -> status_pb2.Status:
    try:
        return status_pb2.Status.FromString(raw if isinstance(raw, bytes) else b"")
    except DecodeError:
        return status_pb2.Status()


def _detail(status: status_pb2.Status, wanted: D) -> D:
    for detail in status.details:
        if detail.Unpack(wanted):
            break
    return wanted
