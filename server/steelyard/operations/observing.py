"""What is told of work under way, beside the work: whose call it answers, and at which try it is.

Both travel with the task (context variables), so nobody hands them on by hand; adapters read them where they write a
log line, a span, an event or a job. Operations measure nothing themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from steelyard.accounting.keys import Account, FillId

TRACEPARENT_PARTS = 4
TRACE_ID_LENGTH = 32


@dataclass(frozen=True, slots=True)
class Origin:
    """The call, message or job that work is done for."""

    trace_id: str = ""
    """As its caller knows it; empty: nobody asked."""
    traceparent: str = ""
    """W3C trace context of the span that is recorded for it; empty where none is."""

    @property
    def text(self) -> str:
        """Both in one word, for rows and jobs."""
        if not self.traceparent or self.trace_id in ("", self.traceparent.split("-")[1]):
            return self.traceparent or self.trace_id
        return f"{self.traceparent}/{self.trace_id}"

    @classmethod
    def of_text(cls, text: str | None) -> Origin:
        """The origin that `text` was made of; None and the empty text: nobody."""
        parent, _, named = (text or "").partition("/")
        parts = parent.split("-")
        if len(parts) == TRACEPARENT_PARTS and len(parts[1]) == TRACE_ID_LENGTH:
            return cls(named or parts[1], parent)
        return cls(text or "")


NOBODY = Origin()
origin: ContextVar[Origin] = ContextVar("steelyard_origin", default=NOBODY)
"""Whom the running task works for."""
fill_origins: ContextVar[Mapping[tuple[Account, FillId], Origin] | None] = ContextVar(
    "steelyard_fill_origins", default=None
)
"""Whom each fill of a round of the fill writer comes from, since a round works for many."""
tries: ContextVar[int] = ContextVar("steelyard_tries", default=0)
"""How often the running write has met another writer who was faster, and begun again."""


def work_for(origins: Mapping[tuple[Account, FillId], Origin]) -> None:
    """Says whom the running task works for from now on: many at once; the first sampled one gets its spans."""
    fill_origins.set(origins)
    first = next(iter(origins.values()), NOBODY)
    origin.set(next((one for one in origins.values() if one.traceparent), first))


def origin_of(account: Account, cause_id: str | None) -> Origin:
    """Whom a change of a position comes from: the caller who handed in the fill that caused it, else the task's own."""
    origins = fill_origins.get()
    found = origins.get((account, FillId(cause_id))) if origins and cause_id is not None else None
    return found or origin.get()
