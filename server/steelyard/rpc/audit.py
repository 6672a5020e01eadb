"""The audit log: one line for every call that may write, saying who, what, for which accounts, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from steelyard.operations.access import Scope
from steelyard.rpc.access import Path, accounts_in, demands
from steelyard.rpc.calls import Call
from steelyard.telemetry.logs import Log

READING_SCOPES = frozenset({Scope.POSITIONS_READ, Scope.PERFORMANCE_READ})
READING_VERBS = ("Get", "List", "Watch", "Wait", "BatchGet")
ITEMS_LOOKED_AT = 200
"""Fills of one message whose account is looked at."""
ACCOUNTS_TOLD = 20


def audited() -> Mapping[str, Sequence[Path]]:
    """Every method that may write, and where its request names accounts."""
    return {
        method: demand.asked
        for method, demand in demands().items()
        if demand.scope is not None
        and demand.scope not in READING_SCOPES
        and not method.rpartition("/")[2].startswith(READING_VERBS)
    }


class Audit:
    """Writes the lines; they have `stream` = `audit`, so that they can be told from the others and kept longer."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._paths = audited()

    def begin(self, call: Call) -> None:
        """Notes the accounts that a writing call names, message by message."""
        paths = self._paths.get(call.method)
        if paths is not None:
            named: set[str] = set()
            call.named_accounts = named
            # Asked for now: grpcio ends the process when it is asked after a call that was cancelled has gone.
            call.peer = call.context.peer()
            call.note_request = lambda request: _note(request, named, paths=paths)

    def end(self, call: Call, code: str) -> None:
        """Writes the line of a writing call."""
        if call.method not in self._paths:
            return
        self._log.info(
            "write",
            stream="audit",
            method=call.method,
            key_id=None if call.key is None else call.key.key_id,
            owner=None if call.key is None else call.key.terms.owner,
            peer=call.peer,
            request_id=call.request_id,
            trace_id=call.trace_id,
            accounts=sorted(call.named_accounts or ())[:ACCOUNTS_TOLD],
            outcome=code,
            reason=call.reason,
        )


def _note(request: Any, named: set[str], *, paths: Sequence[Path]) -> None:
    if len(named) < ACCOUNTS_TOLD:
        for path in paths:
            named.update(islice((name for name in accounts_in(request, path) if name), ITEMS_LOOKED_AT))
