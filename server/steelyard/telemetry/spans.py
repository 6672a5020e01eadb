"""Records spans with OpenTelemetry and hands them to an exporter."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from steelyard.telemetry.redaction import Redaction
from steelyard.telemetry.tracing import TRACEPARENT, Attribute, Clock, Tracer, is_sampled, nanoseconds, trace_of

_TRACE_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_given: ContextVar[int | None] = ContextVar("steelyard_given_trace_id", default=None)


class _GivenIds(RandomIdGenerator):
    """A trace that begins here gets the id under which the log knows its call."""

    def generate_trace_id(self) -> int:
        return _given.get() or super().generate_trace_id()


class RecordingTracer(Tracer):
    """Makes the spans of one process."""

    is_on = True

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        clock: Clock,
        service: str = "steelyard",
        ratio: float = 0.01,
        redaction: Redaction | None = None,
    ) -> None:
        """`ratio` of the calls that bring no decision of their caller are traced."""
        self._ratio = ratio
        self._clock = clock
        self._hide = redaction or Redaction()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource.create({"service.name": service}),
            id_generator=_GivenIds(),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("steelyard")

    def root(self, name: str, *, traceparent: str, trace_id: str) -> Span | None:
        """Goes on with what the caller decided, else decides by `ratio`; a new trace has the id of its call."""
        if trace_of(traceparent):
            return self._begun(name, traceparent, kind=SpanKind.SERVER) if is_sampled(traceparent) else None
        if random.random() >= self._ratio:  # noqa: S311 - picks samples, no secret
            return None
        token = _given.set(int(trace_id, 16) if _TRACE_ID.fullmatch(trace_id) else None)
        try:
            return self._tracer.start_span(name, context=Context(), kind=SpanKind.SERVER)
        finally:
            _given.reset(token)

    def span(self, name: str, traceparent: str, **attributes: Attribute) -> AbstractContextManager[Span | None]:
        """A span of work that is done for a sampled parent."""
        if not traceparent:
            return super().span(name, traceparent)
        return self._running(name, traceparent, attributes=attributes)

    def past(self, name: str, traceparent: str, *, took_s: float, **attributes: Attribute) -> None:
        """The span of something that has ended just now."""
        if not traceparent:
            return
        now = nanoseconds(self._clock())
        span = self._begun(name, traceparent, kind=SpanKind.CLIENT, start_time=now - int(took_s * 1e9))
        if span is not None:
            self._describe(span, attributes)
            span.end(now)

    def end(self, span: Span, *, error: str = "", **attributes: Attribute) -> None:
        """Ends a span with what it came to."""
        self._describe(span, attributes)
        if error:
            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def traceparent(self, span: Span) -> str:
        """The text of a span of ours."""
        context = span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"

    def close(self) -> None:
        """Sends what waits, and ends. Blocks."""
        self._provider.shutdown()

    @contextmanager
    def _running(self, name: str, traceparent: str, *, attributes: Mapping[str, Attribute]) -> Iterator[Span | None]:
        span = self._begun(name, traceparent, kind=SpanKind.INTERNAL)
        if span is None:
            yield None
            return
        error = ""
        try:
            yield span
        except BaseException as raised:
            error = type(raised).__name__
            raise
        finally:
            self.end(span, error=error, **attributes)

    def _begun(self, name: str, traceparent: str, *, kind: SpanKind, start_time: int | None = None) -> Span | None:
        parent = TRACEPARENT.fullmatch(traceparent)
        if parent is None:
            return None
        context = SpanContext(int(parent[1], 16), int(parent[2], 16), is_remote=True, trace_flags=TraceFlags(1))
        within = trace.set_span_in_context(NonRecordingSpan(context))
        return self._tracer.start_span(name, context=within, kind=kind, start_time=start_time)

    def _describe(self, span: Span, attributes: Mapping[str, Attribute]) -> None:
        for name, value in attributes.items():
            span.set_attribute(name, self._hide.text(value) if isinstance(value, str) else value)
