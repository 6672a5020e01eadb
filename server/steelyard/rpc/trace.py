"""The layer that gives a sampled call its span, and goes on with the trace that its caller has begun."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from steelyard.operations.observing import Origin, origin
from steelyard.rpc.calls import TRACEPARENT, Call
from steelyard.rpc.observe import code_name
from steelyard.telemetry.tracing import Tracer

if TYPE_CHECKING:
    from opentelemetry.trace import Span

FAULTS = frozenset({"UNKNOWN", "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "DATA_LOSS", "UNIMPLEMENTED"})
"""Codes that tell of an error of the service, as OpenTelemetry's conventions have it."""


class Trace:
    """Begins a span where the caller asks for it, or where the sampler picks the call."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def around(self, call: Call) -> _Traced:
        """What works for the call finds the span as its origin."""
        return _Traced(call, self._tracer)


class _Traced:
    __slots__ = ("_call", "_span", "_tracer")

    def __init__(self, call: Call, tracer: Tracer) -> None:
        self._call = call
        self._tracer = tracer
        self._span: Span | None = None

    async def __aenter__(self) -> None:
        call = self._call
        given = call.metadata.get(TRACEPARENT)
        self._span = self._tracer.root(
            call.method[1:], traceparent=given if isinstance(given, str) else "", trace_id=call.trace_id
        )
        if self._span is not None:
            origin.set(Origin(call.trace_id, self._tracer.traceparent(self._span)))

    async def __aexit__(self, *ended: Any) -> None:
        if self._span is None:
            return
        call, code = self._call, code_name(self._call, ended[1])
        self._tracer.end(
            self._span,
            error=(call.reason or code) if code in FAULTS else "",
            **{
                "rpc.system": "grpc",
                "rpc.service": call.service,
                "rpc.method": call.method.rpartition("/")[2],
                "rpc.grpc.status_code": code,
                "steelyard.request_id": call.request_id,
                "steelyard.trace_id": call.trace_id,
                "steelyard.reason": call.reason or "",
            },
        )
