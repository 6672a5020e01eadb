"""The layer that gives a sampled call its span, and goes on with the trace that its caller has begun."""

from __future__ import annotations

from steelyard.operations.observing import Origin, origin
from steelyard.rpc.calls import TRACEPARENT, Call
from steelyard.rpc.observe import code_name
from steelyard.telemetry.tracing import Tracer

FAULTS = frozenset({"UNKNOWN", "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "DATA_LOSS", "UNIMPLEMENTED"})
"""Codes that tell of an error of the service, as OpenTelemetry's conventions have it."""


class Trace:
    """Begins a span where the caller asks for it, or where the sampler picks the call."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def began(self, call: Call) -> None:
        """What works for the call finds the span as its origin."""
        given = call.metadata.get(TRACEPARENT)
        call.span = self._tracer.root(
            call.method[1:], traceparent=given if isinstance(given, str) else "", trace_id=call.trace_id
        )
        if call.span is not None:
            origin.set(Origin(call.trace_id, self._tracer.traceparent(call.span)))

    def ended(self, call: Call, error: BaseException | None) -> None:
        """Ends the span."""
        if call.span is None:
            return
        code = code_name(call, error)
        self._tracer.end(
            call.span,
            error=(call.reason or code) if code in FAULTS else "",
            **{
                "rpc.system": "grpc",
                "rpc.service": call.about.service,
                "rpc.method": call.method.rpartition("/")[2],
                "rpc.grpc.status_code": code,
                "steelyard.request_id": call.request_id,
                "steelyard.trace_id": call.trace_id,
                "steelyard.reason": call.reason or "",
            },
        )
