"""How long the service works on a call at most, watched by one timer for all calls.

A timer of its own for each call costs more than anything else around it, and nearly all are stopped long before they
go off. All calls here may take the same time, so the one that began first is due first: the timer waits for that one
alone, and what ends in time is only taken off the list.
"""

from __future__ import annotations

import asyncio

from steelyard.rpc.calls import Call


class Deadlines:
    """Cancels the work on calls that take longer than `cap_s` seconds."""

    def __init__(self, cap_s: float) -> None:
        self._cap_s = cap_s
        self._under_way: dict[Call, tuple[float, asyncio.Task[object]]] = {}
        """When each is due, and the task that works on it; in order."""
        self._overdue: set[Call] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, call: Call) -> None:
        """Watches a call that the running task works on, unless its own caller gives it less time: the core sees to
        those."""
        # None without a deadline, whatever its type says.
        asked: float | None = call.context.time_remaining()
        if asked is not None and asked <= self._cap_s:
            return
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        due_s = loop.time() + self._cap_s
        self._under_way[call] = due_s, task
        if self._timer is None:
            self._timer = loop.call_at(due_s, self._look)

    def end(self, call: Call) -> bool:
        """The call has ended; whether that is our doing, and nobody else's."""
        if self._under_way.pop(call, None) is not None or call not in self._overdue:
            return False
        self._overdue.remove(call)
        task = asyncio.current_task()
        # What is left after ours is somebody else's cancel.
        return task is not None and task.uncancel() == 0

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        while self._under_way:
            call, (due_s, task) = next(iter(self._under_way.items()))
            if due_s > now_s:
                self._timer = loop.call_at(due_s, self._look)
                return
            del self._under_way[call]
            self._overdue.add(call)
            task.cancel()
        self._timer = None
