"""The layer that lets no error out untranslated: whatever a handler raises becomes a status with one ErrorInfo.

What grpcio does by itself, and this layer prevents: the text of an unhandled exception reaches the caller verbatim, and
a stray `CancelledError` is never answered. A caller's own cancel (the task is being cancelled) is passed on.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
from google.rpc import status_pb2

from steelyard.accounting.errors import SteelyardError
from steelyard.rpc.calls import Call
from steelyard.rpc.status import grpc_code, interrupted, is_bug, reason_of, status_of, trailers_of
from steelyard.telemetry.logs import Log


class Translate:
    """Turns errors into statuses and ends calls that outlive the service's own deadline."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def around(self, call: Call) -> _Translated:
        """Translates what the call raises."""
        return _Translated(call, self._log)


class _Translated:
    __slots__ = ("_call", "_log", "_timeout")

    def __init__(self, call: Call, log: Log) -> None:
        self._call = call
        self._log = log
        self._timeout: asyncio.Timeout | None = None

    async def __aenter__(self) -> None:
        cap = self._call.deadline_cap_s
        if cap is None:
            return
        # None without a deadline, whatever its type says. The core ends a call at its caller's own deadline.
        asked: float | None = self._call.context.time_remaining()
        if asked is None or asked > cap:
            self._timeout = asyncio.timeout(cap)
            await self._timeout.__aenter__()

    async def __aexit__(self, *ended: Any) -> None:
        error: BaseException | None = ended[1]
        if self._timeout is not None:
            try:
                await self._timeout.__aexit__(*ended)
            except TimeoutError:
                await self._abort_overdue()
        if error is None or isinstance(error, grpc.aio.BaseError):
            return
        if isinstance(error, asyncio.CancelledError):
            if not _is_task_being_cancelled():
                await self._abort(interrupted(), reason="STORE_UNAVAILABLE")
        elif isinstance(error, Exception):
            await self._abort_with(error)

    async def _abort_with(self, error: Exception) -> None:
        call = self._call
        if is_bug(error):
            self._log.error(
                "rpc_bug", method=call.method, request_id=call.request_id, trace_id=call.trace_id, exc_info=error
            )
        await self._abort(status_of(error, trace_id=call.trace_id), reason=reason_of_any(error))

    async def _abort_overdue(self) -> None:
        call = self._call
        call.code = grpc.StatusCode.DEADLINE_EXCEEDED
        text = f"took longer than the {call.deadline_cap_s:g} s this service gives a call"
        await call.context.abort(call.code, text, tuple(call.trailers))

    async def _abort(self, status: status_pb2.Status, *, reason: str) -> None:
        call = self._call
        call.code = grpc_code(status)
        call.reason = reason
        await call.context.abort(call.code, status.message, (*call.trailers, *trailers_of(status, reason=reason)))


def reason_of_any(error: Exception) -> str:
    """The reason that an error of any kind is answered with."""
    return reason_of(error) if isinstance(error, SteelyardError) else "INTERNAL"


def _is_task_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
