"""Traces: spans of calls, statements, cache, events and builds, exported to an OTLP collector.

Whoever works for a sampled call carries its W3C `traceparent`; who has none makes no span, at the cost of a comparison.
So unsampled work pays nothing, and a parent is handed on through queues and jobs as the text that it is.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from datetime import datetime

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from steelyard.telemetry.redaction import Redaction

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)
_TRACE_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_given: ContextVar[int | None] = ContextVar("steelyard_given_trace_id", default=None)
Attribute = str | int | float | bool
Clock = Callable[[], datetime]


class NoSpans(SpanExporter):
    """Where traces go to nobody."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Forgets them."""
        return SpanExportResult.SUCCESS


class _GivenIds(RandomIdGenerator):
    """A trace that begins here gets the id under which the log knows its call."""

    def generate_trace_id(self) -> int:
        return _given.get() or super().generate_trace_id()


class Tracer:
    """Makes the spans of one process; without an exporter it makes none."""

    def __init__(
        self,
        exporter: SpanExporter | None = None,
        *,
        clock: Clock | None = None,
        service: str = "steelyard",
        ratio: float = 0.01,
        redaction: Redaction | None = None,
    ) -> None:
        """`ratio` of the calls that bring no decision of their caller are traced; an exporter needs the `clock`."""
        self._ratio = ratio
        self._clock = clock
        self._hide = redaction or Redaction()
        self._provider: TracerProvider | None = None
        self._tracer: trace.Tracer | None = None
        if exporter is not None:
            self._provider = TracerProvider(
                sampler=ALWAYS_ON,
                resource=Resource.create({"service.name": service}),
                id_generator=_GivenIds(),
                shutdown_on_exit=False,
            )
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
            self._tracer = self._provider.get_tracer("steelyard")

    @property
    def is_on(self) -> bool:
        """Whether spans go anywhere."""
        return self._tracer is not None

    def root(self, name: str, *, traceparent: str, trace_id: str) -> Span | None:
        """The span of a call: goes on with what its caller decided, else begins in `ratio` of all cases.

        The caller ends it with `end`.
        """
        if self._tracer is None:
            return None
        parent = _TRACEPARENT.fullmatch(traceparent)
        if parent is not None:
            return self._begun(name, traceparent, kind=SpanKind.SERVER) if is_sampled(traceparent) else None
        if random.random() >= self._ratio:  # noqa: S311 - picks samples, no secret
            return None
        token = _given.set(int(trace_id, 16) if _TRACE_ID.fullmatch(trace_id) else None)
        try:
            return self._tracer.start_span(name, context=Context(), kind=SpanKind.SERVER)
        finally:
            _given.reset(token)

    def span(self, name: str, traceparent: str, **attributes: Attribute) -> AbstractContextManager[Span | None]:
        """A span of work that is done for a sampled parent; nothing where `traceparent` is empty."""
        if not traceparent or self._tracer is None:
            return nullcontext()
        return self._running(name, traceparent, attributes=attributes)

    def past(self, name: str, traceparent: str, *, took_s: float, **attributes: Attribute) -> None:
        """The span of something that has ended just now."""
        if not traceparent or self._clock is None:
            return
        now = nanoseconds(self._clock())
        span = self._begun(name, traceparent, kind=SpanKind.CLIENT, start_time=now - int(took_s * 1e9))
        if span is not None:
            self._describe(span, attributes)
            span.end(now)

    def end(self, span: Span, *, error: str = "", **attributes: Attribute) -> None:
        """Ends a span that `root` gave; `error` names what went wrong."""
        self._describe(span, attributes)
        if error:
            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def flush(self) -> None:
        """Sends what waits. Blocks."""
        if self._provider is not None:
            self._provider.force_flush(5_000)

    def close(self) -> None:
        """Sends what waits, and ends. Blocks."""
        if self._provider is not None:
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
        parent = _TRACEPARENT.fullmatch(traceparent)
        if parent is None or self._tracer is None:
            return None
        context = SpanContext(int(parent[1], 16), int(parent[2], 16), is_remote=True, trace_flags=TraceFlags(1))
        within = trace.set_span_in_context(NonRecordingSpan(context))
        return self._tracer.start_span(name, context=within, kind=kind, start_time=start_time)

    def _describe(self, span: Span, attributes: Mapping[str, Attribute]) -> None:
        for name, value in attributes.items():
            span.set_attribute(name, self._hide.text(value) if isinstance(value, str) else value)


def traceparent_of(span: Span) -> str:
    """What whoever works for this span hands on."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"


def trace_of(traceparent: str) -> str:
    """The trace that a `traceparent` belongs to; empty where it is none."""
    found = _TRACEPARENT.fullmatch(traceparent)
    return found[1] if found is not None and found[1] != _NO_TRACE and found[2] != _NO_SPAN else ""


def is_sampled(traceparent: str) -> bool:
    """Whether its sender records the trace."""
    return bool(trace_of(traceparent)) and bool(int(traceparent[-2:], 16) & 1)


def nanoseconds(at: datetime) -> int:
    """A time as OpenTelemetry counts it: since 1970."""
    return int(at.timestamp() * 1_000_000) * 1_000
