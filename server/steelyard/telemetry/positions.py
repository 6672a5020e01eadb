"""The log of positions: one line for every new version, written in one go per commit."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TextIO

from steelyard.telemetry.logs import json_line


@dataclass(frozen=True, slots=True)
class PositionChange:
    """A position from one version to the next."""

    account: str
    book: str
    instrument: str
    leg: str
    version: int
    cause: str
    """fill, adjustment, correction, build, ..."""
    cause_id: str | None
    fills: int
    """How many fills this version applies."""
    before: Decimal
    """Signed quantity of the version before."""
    after: Decimal
    trace_id: str
    """Of the call, message or job that caused it; empty: nobody's."""
    tries: int
    """How often it was begun again because another writer was faster; 0: at the first try."""
    refolded: int | None
    """Entries that were folded again because it changed the past; None: it only added to the end."""
    is_deferred: bool
    """Whether the figures follow by a build: only quantity, fees and count are right already."""

    @property
    def is_late(self) -> bool:
        """Whether it changed the past of the position."""
        return self.refolded is not None or self.is_deferred


class PositionLog:
    """Writes lines of positions to a stream; none: writes nothing."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    @classmethod
    def to_standard_error(cls, *, is_on: bool) -> PositionLog:
        """Beside the other lines."""
        return cls(sys.stderr if is_on else None)

    @property
    def is_on(self) -> bool:
        """Whether lines are written."""
        return self._stream is not None

    def write(self, changes: Iterable[PositionChange], *, at: datetime) -> None:
        """One line each; `at` is when they were committed."""
        if self._stream is None:
            return
        stamp = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
        self._stream.write("".join(_line(change, stamp) for change in changes))
        self._stream.flush()


def _line(change: PositionChange, stamp: str) -> str:
    fields: dict[str, object] = {
        "event": "position",
        "account": change.account,
        "book": change.book,
        "instrument": change.instrument,
        "leg": change.leg,
        "version": change.version,
        "cause": change.cause,
        "cause_id": change.cause_id,
        "fills": change.fills,
        "before": str(change.before),
        "after": str(change.after),
        "is_late": change.is_late,
        "trace_id": change.trace_id,
    }
    if change.refolded is not None:
        fields["refolded"] = change.refolded
    if change.is_deferred:
        fields["is_deferred"] = True
    if change.tries:
        # Lost to another writer so often, and won at the next try.
        fields["conflict"], fields["resolved"], fields["tries"] = "VERSION_MISMATCH", "RETRIED", change.tries
    fields["level"], fields["at"] = "info", stamp
    return json_line(fields) + "\n"
