"""A breaker: after some failures in a row nothing is tried for a while, then one call is let through to see."""

from __future__ import annotations

from collections.abc import Callable

FAILURES = 3
"""Failures in a row that open it."""
PAUSE_S = 0.25
"""How long it stays open at first; each failed trial doubles that."""
PAUSE_MAX_S = 5.0


class Breaker:
    """Says whether a call may be tried, from how the last ones went."""

    def __init__(
        self,
        now_s: Callable[[], float],
        *,
        failures: int = FAILURES,
        pause_s: float = PAUSE_S,
        pause_max_s: float = PAUSE_MAX_S,
    ) -> None:
        self.times_opened = 0
        self._now_s = now_s
        self._failures = failures
        self._first_pause_s = pause_s
        self._pause_max_s = pause_max_s
        self._failed = 0
        self._pause_s = pause_s
        self._open_until_s: float | None = None
        self._is_trying = False

    @property
    def is_open(self) -> bool:
        """Whether calls are held back, all of them or all but a trial."""
        return self._open_until_s is not None

    def may_try(self) -> bool:
        """Whether to make this call; once the pause is over one caller is sent ahead as a trial."""
        if self._open_until_s is None:
            return True
        now_s = self._now_s()
        if now_s < self._open_until_s:
            return False
        self._open_until_s = now_s + self._pause_s  # nobody else until this one has come back, or never does
        self._is_trying = True
        return True

    def succeeded(self) -> None:
        """A call went well: everybody may try again."""
        self._failed = 0
        self._pause_s = self._first_pause_s
        self._open_until_s = None
        self._is_trying = False

    def failed(self) -> None:
        """A call failed; of those that were under way when it opened nothing more is learnt."""
        self._failed += 1
        if self._open_until_s is not None:
            if not self._is_trying:
                return
            self._pause_s = min(2 * self._pause_s, self._pause_max_s)
        elif self._failed < self._failures:
            return
        else:
            self.times_opened += 1
        self._is_trying = False
        self._open_until_s = self._now_s() + self._pause_s
