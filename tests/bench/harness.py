"""What a benchmark says: interleaved runs of product and reference, the median of their ratios, and whether it holds.

The machine is shared and its speed drifts, so a figure alone says little. Each run measures the reference and the
product one after the other and gives one ratio; the answer is the median of the ratios, with the smallest and the
largest beside it.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUNS = 5
SIGNIFICANT_DIGITS = 4


class BenchUnavailable(Exception):
    """A benchmark cannot be run here; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run: the product's figure and the reference's, in the same unit."""

    product: float
    reference: float

    @property
    def ratio(self) -> float:
        """Product over reference."""
        return self.product / self.reference


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked for: a bound of the median ratio, or of the product's median figure."""

    text: str
    ratio_max: float | None = None
    ratio_min: float | None = None
    product_min: float | None = None
    product_max: float | None = None

    def holds(self, *, ratio: float, product: float) -> bool:
        """Whether medians keep to every bound."""
        return (
            (self.ratio_max is None or ratio <= self.ratio_max)
            and (self.ratio_min is None or ratio >= self.ratio_min)
            and (self.product_min is None or product >= self.product_min)
            and (self.product_max is None or product <= self.product_max)
        )

    @property
    def ratio_bound(self) -> float | None:
        """The bound of the ratio, to be drawn."""
        return self.ratio_max if self.ratio_max is not None else self.ratio_min


@dataclass(frozen=True, slots=True)
class Line:
    """A finished benchmark: one line of the table."""

    id: str
    work: str
    against: str
    """What the reference is."""
    unit: str
    target: Target
    runs: Sequence[Run]
    scale: float = 1.0
    note: str = ""
    is_at_the_limit: bool = False
    """Whether the machine had no more to give, where the target ends there."""

    @property
    def product(self) -> float:
        """The product's median figure."""
        return statistics.median(run.product for run in self.runs)

    @property
    def reference(self) -> float:
        """The reference's median figure."""
        return statistics.median(run.reference for run in self.runs)

    @property
    def ratio(self) -> float:
        """The median of the runs' ratios."""
        return statistics.median(run.ratio for run in self.runs)

    @property
    def spread(self) -> tuple[float, float]:
        """The smallest and the largest ratio."""
        ratios = [run.ratio for run in self.runs]
        return min(ratios), max(ratios)

    @property
    def holds(self) -> bool:
        """Whether the target is met, or reaches no further."""
        return self.is_at_the_limit or self.target.holds(ratio=self.ratio, product=self.product)

    def as_json(self) -> dict[str, Any]:
        """The line as it is written; figures to four significant digits."""
        return {
            "id": self.id,
            "work": self.work,
            "against": self.against,
            "product": rounded(self.product),
            "reference": rounded(self.reference),
            "unit": self.unit,
            "ratio": rounded(self.ratio),
            "spread": [rounded(bound) for bound in self.spread],
            "target": self.target.text,
            "holds": self.holds,
            "runs": [[rounded(run.product), rounded(run.reference)] for run in self.runs],
            "scale": self.scale,
            "note": self.note,
        }


def rounded(figure: float) -> float:
    """A figure to four significant digits."""
    if not figure or not math.isfinite(figure):
        return figure
    return round(figure, SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(abs(figure))))


def shown(figure: float) -> str:
    """A figure for the table."""
    if abs(figure) >= 10_000:
        return f"{figure:,.0f}"
    return f"{rounded(figure):.4g}"


def table(lines: Sequence[Line]) -> str:
    """The lines as text, one row each."""
    head = ("id", "work", "product", "reference", "unit", "ratio", "spread", "target", "holds")
    rows = [
        (
            line.id,
            f"{line.work} / {line.against}",
            shown(line.product),
            shown(line.reference),
            line.unit,
            shown(line.ratio),
            " - ".join(shown(bound) for bound in line.spread),
            line.target.text,
            _verdict(line),
        )
        for line in lines
    ]
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    printed = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    printed.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(row.rstrip() for row in printed)


def _verdict(line: Line) -> str:
    told = "yes" if line.holds else "NO"
    return f"{told} ({line.note})" if line.note else told


def write_json(lines: Iterable[Line], path: Path) -> None:
    """Writes the lines as a JSON list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([line.as_json() for line in lines], indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Terms:
    """How benchmarks are run: at which part of their full size, and how often."""

    scale: float = 1.0
    runs: int = RUNS

    def sized(self, full: int, *, at_least: int = 1) -> int:
        """A size at this scale."""
        return max(at_least, round(full * self.scale))


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextmanager
def stage(text: str) -> Iterator[None]:
    """Says on standard error what is being done, and how long it took."""
    say(f"{text} ...")
    started = time.perf_counter()
    yield
    say(f"{text}: {time.perf_counter() - started:.1f} s")


def say(text: str) -> None:
    """A line for whoever waits."""
    print(f"bench: {text}", file=sys.stderr, flush=True)
