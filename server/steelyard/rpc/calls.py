"""One call as the layers around it see it: who asked what, under which id, and how it ended."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from steelyard.operations.access import ApiKey
from steelyard.operations.observing import Origin, origin
from steelyard.telemetry.tracing import is_sampled

REQUEST_ID = "x-request-id"
TRACE_ID = "x-trace-id"
TRACEPARENT = "traceparent"

Context = grpc.aio.ServicerContext[Any, Any]

_SANE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=-]{0,127}", re.ASCII)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*", re.ASCII)
_NO_TRACE = "0" * 32


QUIET_SERVICES = ("grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection")
"""Asked all day by machines: logged at debug level, never refused."""


class Method:
    """What is known of a method before anybody calls it."""

    __slots__ = ("deadline_cap_s", "is_quiet", "is_stream", "is_watch", "name", "service")

    def __init__(self, name: str, *, deadline_cap_s: float | None, is_stream: bool) -> None:
        self.name = name
        """`/steelyard.v1.FillService/RecordFill`."""
        self.service = name[1:].rpartition("/")[0]
        """`steelyard.v1.FillService`."""
        self.deadline_cap_s = deadline_cap_s
        """How long the service works on a call at most; None for streams that may stay."""
        self.is_stream = is_stream
        """Whether answers are streamed."""
        self.is_watch = is_stream and "/Watch" in name
        self.is_quiet = self.service in QUIET_SERVICES


@dataclass(slots=True, eq=False)
class Call:
    """A call under way. Layers note on it what they find; the outermost one tells it to the log."""

    about: Method
    context: Context
    request_id: str
    trace_id: str
    metadata: Mapping[str, str | bytes]
    begun_ns: int = 0
    """When it came in, by a clock that only counts."""
    code: grpc.StatusCode | None = None
    """Set by whoever ends the call with an error."""
    reason: str | None = None
    account: str | None = None
    peer: str | None = None
    """Where a call that may write comes from, as gRPC says it."""
    key: ApiKey | None = None
    """Whose call it is; None while the service runs without keys, or where none is needed."""
    examine_request: Callable[[Any], None] | None = None
    """Looks at each message of the request, before the handler sees it; raises what refuses the call."""
    admit_request: Callable[[Any], Awaitable[None] | None] | None = None
    """Lets each message of the request pass, at once or after a wait; raises what refuses it."""
    examine_answer: Callable[[Any], None] | None = None
    """Looks at each message of the answer, before it is sent."""
    note_request: Callable[[Any], None] | None = None
    """Takes note of each message of the request; refuses nothing."""
    named_accounts: set[str] | None = None
    """The accounts that the request names, where somebody takes note of them."""
    span: Any = None
    """The span of a traced call."""
    trailers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def method(self) -> str:
        """`/steelyard.v1.FillService/RecordFill`."""
        return self.about.name

    @property
    def deadline_cap_s(self) -> float | None:
        """How long the service works on it at most; None for streams that may stay."""
        return self.about.deadline_cap_s

    def add_trailers(self, *added: tuple[str, str]) -> None:
        """Sends trailers with the answer, whether good or bad."""
        self.trailers.extend(added)
        self.context.set_trailing_metadata(tuple(self.trailers))


_current: ContextVar[Call] = ContextVar("steelyard_call")


def current_call() -> Call:
    """The call that the running handler serves."""
    return _current.get()


def begin_call(method: Method, context: Context) -> Call:
    """Takes up a call: its ids from the metadata where they are sane, else new ones."""
    metadata: dict[str, str | bytes] = dict(context.invocation_metadata() or ())
    request_id = _sane(metadata.get(REQUEST_ID)) or secrets.token_hex(16)
    parent = metadata.get(TRACEPARENT)
    trace_id = _trace_of(parent) or _sane(metadata.get(TRACE_ID)) or request_id
    call = Call(method, context, request_id, trace_id, metadata)
    call.add_trailers((REQUEST_ID, request_id))
    _current.set(call)
    origin.set(Origin(trace_id, parent if isinstance(parent, str) and is_sampled(parent) else ""))
    return call


def seconds_left(context: Context, *, margin_s: float = 0.05) -> float | None:
    """How long an answer may still take, less a margin for sending it; None: as long as it likes.

    The smaller of the caller's deadline and the cap of the service.
    """
    call = _current.get(None)
    cap = call.about.deadline_cap_s if call is not None else None
    # None without a deadline, whatever its type says.
    asked: float | None = context.time_remaining()
    if asked is None or (cap is not None and cap < asked):
        asked = cap
    return None if asked is None else max(asked - margin_s, 0.0)


def _sane(value: str | bytes | None) -> str | None:
    return value if isinstance(value, str) and _SANE_ID.fullmatch(value) else None


def _trace_of(value: str | bytes | None) -> str | None:
    match = _TRACEPARENT.fullmatch(value) if isinstance(value, str) else None
    return match[1] if match and match[1] != _NO_TRACE else None
