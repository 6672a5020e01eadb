"""B6, B7 and B15: a million fills under 500 keys, imported, rebuilt and brought up to date by the running service.

The file is streamed by the client, builds are asked for by rpc, and workers are processes of their own.
"""

from __future__ import annotations

import statistics

from tests.bench.book_files import KEYS, make_files
from tests.bench.harness import Line, Run, Target, Terms, stage
from tests.bench.import_speed import import_run, make_template
from tests.bench.rebuild_speed import NEW_FILLS, Rebuilds, rebuild_runs
from tests.bench.store import FOLDER, drop_database, durable_postgres

FILLS = 1_000_000
IMPORTED = Target("≤ 2 × (moonshot 1.3 ×)", ratio_max=2)
REBUILT = Target("≤ 3 ×", ratio_max=3)
SHARED = Target("≥ 1.7 × (until the cores are full)", ratio_min=1.7)
FULL = 0.95
"""Processors as busy as this are full: the target on two workers ends there."""
FRESHENED = Target("≤ 0.02 ×", ratio_max=0.02)


async def whole_book(terms: Terms, wanted: frozenset[str]) -> list[Line]:
    """The wanted ones of B6, B7 (with its line on two workers) and B15."""
    imports: list[Run] = []
    rebuilds = Rebuilds()
    count = terms.sized(FILLS, at_least=2 * KEYS)
    with stage(f"making files of {count:,} fills"):
        files = make_files(FOLDER, count)
    try:
        async with durable_postgres() as postgres:
            url = ""
            await make_template(postgres)
            for number in range(terms.runs if "B6" in wanted else 1):
                if number:
                    await drop_database(postgres, f"book{number - 1}")
                url, run = await import_run(postgres, files, number=number, has_reference="B6" in wanted)
                imports.append(run)
            if not wanted.isdisjoint({"B7", "B15"}):
                rebuilds = await rebuild_runs(url, files, runs=terms.runs, has_two="B7" in wanted)
    finally:
        files.remove()
    lines = [_import_line(imports, terms, count=count), *_rebuild_lines(rebuilds, terms, count=count)]
    return [line for line in lines if line.id.removesuffix("b") in wanted]


def _import_line(runs: list[Run], terms: Terms, *, count: int) -> Line:
    work = f"import of a CSV of {count:,} rows, {KEYS} keys, by service and two workers until positions are queryable"
    return Line("B6", work, "bare COPY of the rows into the same indexed table", "s", IMPORTED, runs, terms.scale)


def _rebuild_lines(figures: Rebuilds, terms: Terms, *, count: int) -> list[Line]:
    work, reading = f"full rebuild of {count:,} fills, {KEYS} keys, one worker", "reading them through one cursor"
    busy, alone = (statistics.median(part) for part in zip(*figures.busy, strict=True)) if figures.busy else (0.0, 0.0)
    told = f"processors {busy:.0%} busy with two workers, {alone:.0%} with one"
    fresh = f"incremental build after {NEW_FILLS} new fills in 1 of {KEYS} keys"
    return [
        Line("B7", work, reading, "s", REBUILT, figures.read, terms.scale),
        Line(
            "B7b",
            "the same rebuild by two workers",
            "one worker",
            "fills/s",
            SHARED,
            figures.shared,
            terms.scale,
            note=told,
            is_at_the_limit=busy >= FULL,
        ),
        Line("B15", fresh, "full rebuild, one worker", "s", FRESHENED, figures.fresh, terms.scale),
    ]
