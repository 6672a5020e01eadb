"""What is told of a transaction on the book once it counts: figures, and a line for every new version of a position."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from steelyard.accounting.errors import VersionMismatch
from steelyard.accounting.position import FiguresState
from steelyard.accounting.units import ZERO, exactly
from steelyard.operations.observing import origin_of, tries
from steelyard.operations.ports import NOTHING_PENDING, Clock, KeyChange, Pending, StoredPosition
from steelyard.telemetry.positions import PositionChange
from steelyard.telemetry.store import StoreTelemetry


class Told:
    """Stands around one transaction: collects its changes, and tells of them when it was left well, thus committed."""

    __slots__ = ("_cause", "_changes", "_clock", "_found", "_telemetry")

    def __init__(self, telemetry: StoreTelemetry, *, cause: str, clock: Clock) -> None:
        self._telemetry = telemetry
        self._cause = cause
        self._clock = clock
        self._changes: list[tuple[KeyChange, StoredPosition | None]] = []
        self._found: list[str] = []

    def add(self, change: KeyChange, before: StoredPosition | None) -> None:
        """A position is one version further."""
        self._changes.append((change, before))

    def found(self, kind: str) -> None:
        """A discrepancy was found that was not known."""
        self._found.append(kind)

    def __enter__(self) -> Told:
        return self

    def __exit__(self, *ended: Any) -> None:
        error: BaseException | None = ended[1]
        if error is None:
            for kind in self._found:
                self._telemetry.discrepancy_found(kind)
            if self._changes:
                self._tell()
        elif isinstance(error, VersionMismatch):
            # One that names the version it met is its caller's to repeat.
            self._telemetry.conflicted(self._cause, is_retried="current_version" not in error.details)

    def _tell(self) -> None:
        telemetry = self._telemetry
        changed: dict[str, tuple[int, int]] = {}
        for change, _ in self._changes:
            versions, fills = changed.get(change.cause, (0, 0))
            changed[change.cause] = (versions + 1, fills + change.fill_count)
            is_deferred = _is_deferred(change)
            if is_deferred or change.refolded is not None:
                entries = None if is_deferred else change.refolded
                telemetry.refolded(change.cause, entries=entries, fills=change.fill_count)
        telemetry.committed(self._cause, changed=changed, positions=len(self._changes), tries=tries.get())
        if telemetry.logs_positions:
            telemetry.positions_changed([_line(*each) for each in self._changes], at=self._clock())


def _line(change: KeyChange, before: StoredPosition | None) -> PositionChange:
    key = change.key
    return PositionChange(
        *key,
        version=change.expected_version + 1,
        cause=change.cause,
        cause_id=change.cause_id,
        fills=change.fill_count,
        before=ZERO if before is None else _held(before.state.quantity, before.pending),
        after=_held(change.state.quantity, change.pending),
        trace_id=origin_of(key.account, change.cause_id).trace_id,
        tries=tries.get(),
        refolded=change.refolded,
        is_deferred=_is_deferred(change),
    )


def _is_deferred(change: KeyChange) -> bool:
    return change.figures_state is FiguresState.REFOLDING


def _held(quantity: Decimal, pending: Pending) -> Decimal:
    return quantity if pending is NOTHING_PENDING or not pending.quantity else _sum(quantity, pending.quantity)


@exactly
def _sum(quantity: Decimal, more: Decimal) -> Decimal:
    return quantity + more
