"""Traces, as those see them who take part: whoever works for a sampled call carries its W3C `traceparent`.

Who has none makes no span, at the cost of a comparison, so unsampled work pays nothing; a parent is handed on through
queues and jobs as the text that it is. What records spans is `spans.py`, imported only where they go somewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Span

TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_NOTHING: AbstractContextManager[None] = nullcontext()
Attribute = str | int | float | bool
Clock = Callable[[], datetime]


class Tracer:
    """Makes no spans: what stands in where traces go nowhere."""

    is_on = False
    """Whether spans go anywhere."""

    def root(self, name: str, *, traceparent: str, trace_id: str) -> Span | None:
        """The span of a call: goes on with what its caller decided, else begins for a part of all calls.

        Whoever began it ends it with `end`; None: this call is not traced.
        """
        return None

    def span(self, name: str, traceparent: str, **attributes: Attribute) -> AbstractContextManager[Span | None]:
        """A span of work that is done for a sampled parent; nothing where `traceparent` is empty."""
        return _NOTHING

    def past(self, name: str, traceparent: str, *, took_s: float, **attributes: Attribute) -> None:
        """The span of something that has ended just now."""

    def end(self, span: Span, *, error: str = "", **attributes: Attribute) -> None:
        """Ends a span that `root` gave; `error` names what went wrong."""

    def traceparent(self, span: Span) -> str:
        """What whoever works for this span hands on."""
        return ""

    def close(self) -> None:
        """Sends what waits, and ends. Blocks."""


def trace_of(traceparent: str) -> str:
    """The trace that a `traceparent` belongs to; empty where it is none."""
    found = TRACEPARENT.fullmatch(traceparent)
    return found[1] if found is not None and found[1] != _NO_TRACE and found[2] != _NO_SPAN else ""


def is_sampled(traceparent: str) -> bool:
    """Whether its sender records the trace."""
    return bool(trace_of(traceparent)) and bool(int(traceparent[-2:], 16) & 1)


def nanoseconds(at: datetime) -> int:
    """A time as OpenTelemetry counts it: since 1970."""
    return int(at.timestamp() * 1_000_000) * 1_000
