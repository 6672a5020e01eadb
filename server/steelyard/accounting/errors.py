"""The closed set of things that can go wrong, each with a reason that clients branch on.

An error says what is wrong in its docstring (the default message), carries the `reason` of the contract's table and
whether trying the same again may help (`retryable`). Adapters turn driver errors into these; only `rpc/status.py`
turns these into statuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class SteelyardError(Exception):
    """Something went wrong."""

    reason: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None, /, **details: str) -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.details: Mapping[str, str] = details
        super().__init__(self.message)


class InvalidField(SteelyardError):
    """A field of the request is not acceptable."""

    reason = "INVALID_FIELD"

    def __init__(self, field: str, why: str) -> None:
        self.field = field
        self.why = why
        super().__init__(f"{field}: {why}", field=field)


class PageTokenInvalid(SteelyardError):
    """The page token is not one of ours, or belongs to another question."""

    reason = "PAGE_TOKEN_INVALID"


class ResumeTokenExpired(SteelyardError):
    """The resume token is older than 24 hours: begin the watch anew."""

    reason = "RESUME_TOKEN_EXPIRED"


class RequestIdReused(SteelyardError):
    """This request id was used before with another body."""

    reason = "REQUEST_ID_REUSED"


class ApiKeyInvalid(SteelyardError):
    """The API key is absent, unknown, expired or revoked."""

    reason = "API_KEY_INVALID"


class ScopeMissing(SteelyardError):
    """The API key lacks the scope of this method."""

    reason = "SCOPE_MISSING"


class AccountDenied(SteelyardError):
    """The API key may not see or write this account."""

    reason = "ACCOUNT_DENIED"


class NotFound(SteelyardError):
    """There is no such thing."""

    reason = "NOT_FOUND"

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name
        super().__init__(f"no {kind} {name!r}", kind=kind, name=name)


class FillConflict(SteelyardError):
    """This fill id is known with other content; nothing was changed."""

    reason = "FILL_CONFLICT"


class VersionMismatch(SteelyardError):
    """The expected version or revision is not the current one."""

    reason = "VERSION_MISMATCH"
    retryable = True


class PreconditionError(SteelyardError):
    """The state does not allow this."""

    reason = "PRECONDITION"


class UnknownInstrument(PreconditionError):
    """The instrument has no record and none can be derived; its multiplier is never guessed."""

    reason = "UNKNOWN_INSTRUMENT"


class FillBusted(PreconditionError):
    """The fill was busted, which is final."""

    reason = "FILL_BUSTED"


class LegOverrun(PreconditionError):
    """The fill closes more than its leg holds, and the caller asked to refuse that."""

    reason = "LEG_OVERRUN"


class PeriodSealed(PreconditionError):
    """The account is sealed for the time of this entry."""

    reason = "PERIOD_SEALED"


class NumericLimit(PreconditionError):
    """The amount is beyond what is kept exactly (|quantity x price x multiplier| below 1e20)."""

    reason = "NUMERIC_LIMIT"


class BuildAlreadyDone(PreconditionError):
    """The build has already reached its end."""

    reason = "BUILD_ALREADY_DONE"


class PricesNotFresh(PreconditionError):
    """Fresh prices were demanded and could not be had."""

    reason = "PRICES_NOT_FRESH"


class InstrumentInUse(PreconditionError):
    """The instrument has fills: only an update that rebuilds its keys may change what its numbers mean."""

    reason = "INSTRUMENT_IN_USE"


class KeysExhausted(PreconditionError):
    """The owner has as many live keys as one may have: take one back first."""

    reason = "KEYS_EXHAUSTED"


class KeysNotKept(PreconditionError):
    """The service runs without API keys: STEELYARD_KEY_PEPPER is not set."""

    reason = "KEYS_NOT_KEPT"


class RateLimited(SteelyardError):
    """The key has used up what it may ask for in this period."""

    reason = "RATE_LIMITED"
    retryable = True

    def __init__(self, subject: str, *, limit: int, period_s: int, retry_after_s: float) -> None:
        self.subject = subject
        self.retry_after_s = retry_after_s
        period = "minute" if period_s == 60 else "second" if period_s == 1 else f"{period_s} s"
        super().__init__(f"{limit} {subject} a {period} are allowed", subject=subject, limit=str(limit))


class StreamLimit(SteelyardError):
    """The key holds as many streams as it may."""

    reason = "STREAM_LIMIT"
    retryable = True


class QueueFull(SteelyardError):
    """Too much is waiting; try again a little later."""

    reason = "QUEUE_FULL"
    retryable = True


class StoreUnavailable(SteelyardError):
    """The store cannot be reached; the outcome of a write under way is unknown: repeat it with the same id."""

    reason = "STORE_UNAVAILABLE"
    retryable = True


class NotYetVisible(SteelyardError):
    """The commit asked for is not visible here yet."""

    reason = "NOT_YET_VISIBLE"
    retryable = True


class FenceLost(SteelyardError):
    """Another worker has taken this work over; what this one still writes must not count."""

    reason = "FENCE_LOST"


class InvariantBroken(SteelyardError):
    """A law of the accounting does not hold: a bug of ours, never of the input."""

    reason = "INTERNAL"
