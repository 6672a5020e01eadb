"""The layer that lets no error out untranslated: whatever a handler raises becomes a status with one ErrorInfo.

What grpcio does by itself, and this layer prevents: the text of an unhandled exception reaches the caller verbatim, and
a stray `CancelledError` is never answered. A caller's own cancel (the task is being cancelled) is passed on.
"""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
from google.rpc import status_pb2

from steelyard.accounting.errors import SteelyardError
from steelyard.rpc.calls import Call
from steelyard.rpc.status import grpc_code, interrupted, is_bug, reason_of, status_of, trailers_of
from steelyard.telemetry.logs import Log


class Translate:
    """Turns errors into statuses."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def abort(self, call: Call, error: BaseException, *, is_overdue: bool = False) -> None:
        """Answers a call with the status of the error it ended with, which raises; returns where that is not ours: the
        caller has gone, or the answer was given by hand. `is_overdue`: it was cancelled because it took too long."""
        if isinstance(error, asyncio.CancelledError):
            if is_overdue:
                await self._abort_overdue(call)
            elif not _is_task_being_cancelled():
                await self._abort(call, interrupted(), reason="STORE_UNAVAILABLE")
        elif isinstance(error, Exception) and not isinstance(error, grpc.aio.BaseError):
            if is_bug(error):
                self._log.error(
                    "rpc_bug", method=call.method, request_id=call.request_id, trace_id=call.trace_id, exc_info=error
                )
            await self._abort(call, status_of(error, trace_id=call.trace_id), reason=reason_of_any(error))

    async def _abort_overdue(self, call: Call) -> None:
        call.code = grpc.StatusCode.DEADLINE_EXCEEDED
        text = f"took longer than the {call.deadline_cap_s:g} s this service gives a call"
        await call.context.abort(call.code, text, tuple(call.trailers))

    async def _abort(self, call: Call, status: status_pb2.Status, *, reason: str) -> None:
        call.code = grpc_code(status)
        call.reason = reason
        await call.context.abort(call.code, status.message, (*call.trailers, *trailers_of(status, reason=reason)))


def reason_of_any(error: Exception) -> str:
    """The reason that an error of any kind is answered with."""
    return reason_of(error) if isinstance(error, SteelyardError) else "INTERNAL"


def _is_task_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
