"""What became of the cache's calls, as plain numbers for whoever measures."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

BOUNDS_S = (0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1)
"""Upper ends of the classes in which calls are counted by how long they took; one more class has no end."""


@dataclass(slots=True)
class Timings:
    """How long calls took: their number, sum and longest, and how many ended within each class."""

    calls: int = 0
    sum_s: float = 0.0
    longest_s: float = 0.0
    classes: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))

    def add(self, took_s: float) -> None:
        """Counts one call."""
        self.calls += 1
        self.sum_s += took_s
        self.longest_s = max(self.longest_s, took_s)
        self.classes[bisect_left(BOUNDS_S, took_s)] += 1


@dataclass(slots=True)
class CacheFigures:
    """Counts since the start. Every get is one hit or one miss; what follows `misses` says why some were misses."""

    hits: int = 0
    misses: int = 0
    timeouts: int = 0
    """Given up because Redis took too long."""
    errors: int = 0
    """Refused connections, cut ones, errors that Redis answered."""
    skipped: int = 0
    """Not tried, because Redis had failed before (the breaker was open)."""
    busy: int = 0
    """Not tried, because too many calls were waiting."""
    garbled: int = 0
    """Something was found that was not put there under this name."""
    puts: int = 0
    """Values that Redis took."""
    puts_lost: int = 0
    """Values that it did not take, for whatever reason."""
    times_opened: int = 0
    """How often the breaker opened."""
    gets: Timings = field(default_factory=Timings)
    """Of gets that were tried."""

    @property
    def hit_rate(self) -> float:
        """The part of gets that found something, 0 to 1."""
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else 0.0
