"""`python -m tests.bench`: runs benchmarks, prints their table, writes JSON and plots."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import uvloop

from tests.bench.as_of_speed import as_of_speed
from tests.bench.fold_speed import fold_speed
from tests.bench.harness import RUNS, BenchUnavailable, Line, Terms, say, stage, table, write_json
from tests.bench.late_fill import late_fill
from tests.bench.plots import draw

Bench = Callable[[Terms, frozenset[str]], Coroutine[Any, Any, list[Line]]]
"""Gives the lines of what is wanted of it."""


async def whole_book(terms: Terms, wanted: frozenset[str]) -> list[Line]:
    """B6, B7 and B15; gRPC is imported only for them, since it remarks on every process that is started beside it."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from tests.bench import whole_book as service_benches

    return await service_benches.whole_book(terms, wanted)


async def events(terms: Terms, wanted: frozenset[str]) -> list[Line]:
    """B13."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from tests.bench.event_speed import event_speed

    return await event_speed(terms, wanted)


async def performance(terms: Terms, wanted: frozenset[str]) -> list[Line]:
    """B9."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from tests.bench.performance_speed import performance_speed

    return await performance_speed(terms, wanted)


async def portfolio(terms: Terms, wanted: frozenset[str]) -> list[Line]:
    """B2 and B14."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from tests.bench.portfolio_speed import portfolio_speed

    return await portfolio_speed(terms, wanted)


async def watchers(terms: Terms, wanted: frozenset[str]) -> list[Line]:
    """B10."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from tests.bench.watcher_speed import watcher_speed

    return await watcher_speed(terms, wanted)


async def reads(terms: Terms, wanted: frozenset[str]) -> list[Line]:
    """B1 and B11."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from tests.bench.read_speed import read_speed

    return await read_speed(terms, wanted)


async def records(terms: Terms, wanted: frozenset[str]) -> list[Line]:
    """B3, B4 and B17."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from tests.bench.record_speed import record_speed

    return await record_speed(terms, wanted)


async def busy(terms: Terms, wanted: frozenset[str]) -> list[Line]:
    """B16."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from tests.bench.busy_import import busy_import

    return await busy_import(terms, wanted)


BENCHES: dict[str, Bench] = {
    "B1": reads,
    "B2": portfolio,
    "B3": records,
    "B4": records,
    "B5": fold_speed,
    "B6": whole_book,
    "B7": whole_book,
    "B8": late_fill,
    "B9": performance,
    "B10": watchers,
    "B11": reads,
    "B11B": as_of_speed,
    "B13": events,
    "B14": portfolio,
    "B15": whole_book,
    "B16": busy,
    "B17": records,
}
FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what was asked for; the exit status says whether all of it could be run, not whether targets hold."""
    options = _options(arguments)
    terms = Terms(options.scale, options.runs)
    lines: list[Line] = []
    failures = 0
    for bench in dict.fromkeys(BENCHES[name] for name in options.only):
        wanted = [name for name in options.only if BENCHES[name] is bench]
        try:
            with stage(", ".join(wanted)), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                lines += runner.run(bench(terms, frozenset(wanted)))
        except BenchUnavailable as error:
            say(f"{', '.join(wanted)} cannot be run: {error}")
            failures += 1
    lines.sort(key=lambda line: order(line.id))
    print(table(lines))
    if options.json is not None:
        write_json(lines, options.json)
        draw(lines, options.json)
    return FAILED if failures else 0


def order(line_id: str) -> tuple[int, str]:
    """B5, B5b, B6, ..., B15."""
    number = "".join(filter(str.isdigit, line_id))
    return int(number or 0), line_id


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Ratios against references run beside them.")
    parser.add_argument("--only", type=_names, default=list(BENCHES), metavar="B5,B6", help="which (all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the lines there, plots beside it")
    parser.add_argument("--scale", type=_scale, default=1.0, metavar="PART", help="part of the full sizes (1)")
    parser.add_argument("--runs", type=int, default=RUNS, metavar="N", help=f"interleaved runs ({RUNS})")
    return parser.parse_args(arguments)


def _names(text: str) -> list[str]:
    names = [name.strip().upper() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in BENCHES]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown) or 'nothing'} is none of {', '.join(BENCHES)}")
    return list(dict.fromkeys(names))


def _scale(text: str) -> float:
    scale = float(text)
    if not 0 < scale <= 1:
        raise argparse.ArgumentTypeError("must be greater than 0 and at most 1")
    return scale


if __name__ == "__main__":
    sys.exit(main())
