"""B5: the fold, both methods at once and exact, against NautilusTrader's position; and that it stays flat."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import partial
from itertools import islice

from steelyard.accounting.entries import Entry
from steelyard.accounting.fold import Fold, FoldRules
from steelyard.accounting.instruments import Instrument, InstrumentKind
from steelyard.accounting.keys import InstrumentName, Leg
from tests.bench.harness import Line, Run, Target, Terms, say, stage
from tests.bench.histories import Execution, Market, flat_now_and_then, never_flat
from tests.bench.nautilus import VERSION, nautilus

FILLS = 1_000_000
REFERENCE_FILLS = 100_000
"""The reference's rate does not depend on the length of the history, and it is slow."""
BATCH = 5_000
"""Entries handed to the fold at a time, as the store does."""
STRETCHES = 10
FAST_ENOUGH = Target("≥ 400,000 fills/s", product_min=400_000)
FLAT = Target("≤ 1.2 × (flat)", ratio_max=1.2)
RULES = FoldRules(Instrument(InstrumentName("BTCUSD"), InstrumentKind.LINEAR, Decimal(1), "USD", "USD"), Leg.NET)

Row = tuple[object, ...]
"""The columns of an entry as a store's driver hands them over."""
_entry = partial(tuple.__new__, Entry)


def rows_of(fills: Iterator[Execution]) -> list[Row]:
    """What is read of each fill."""
    return [
        (fill.executed_at, fill.source_sequence, fill.fill_id, "FILL", fill.delta, fill.price, fill.fee, None, None)
        for fill in fills
    ]


def stretches(rows: Sequence[Row], parts: int) -> list[float]:
    """Seconds that each part of a history takes: entries made of rows, folded, trips and checkpoints drained."""
    fold, taken = Fold(RULES), []
    waiting = iter(rows)
    size = len(rows) // parts
    for _ in range(parts):
        started = time.perf_counter()
        part = islice(waiting, size)
        while batch := [_entry(row) for row in islice(part, BATCH)]:
            fold.feed(batch)
            fold.drain()
        taken.append(time.perf_counter() - started)
    fold.state()
    return taken


async def fold_speed(terms: Terms, _wanted: frozenset[str]) -> list[Line]:
    """B5 and its two lines on flatness."""
    count = terms.sized(FILLS, at_least=STRETCHES)
    market = Market(seed=5)
    with stage(f"B5: making {count:,} fills"):
        trips = rows_of(flat_now_and_then(count, market))
        inventory = rows_of(never_flat(count, Market(seed=6)))
    reference_fills = list(flat_now_and_then(terms.sized(REFERENCE_FILLS), market))
    gc.collect()
    gc.freeze()
    speeds, trip_ends, inventory_ends = [], [], []
    with nautilus(reference_fills) as reference:
        for number in range(terms.runs):
            slow = len(reference_fills) / reference.seconds()
            gc.collect()
            parts = stretches(trips, STRETCHES)
            speeds.append(Run(len(trips) / sum(parts), slow))
            trip_ends.append(_ends(parts, count))
            gc.collect()
            inventory_ends.append(_ends(stretches(inventory, STRETCHES), count))
            say(f"B5: run {number + 1}: {speeds[-1].product:,.0f} fills/s, reference {slow:,.0f}")
    gc.unfreeze()
    work = f"fold of {count:,} fills of one key, exact, average and FIFO together"
    against = f"NautilusTrader {VERSION} Position.apply incl. event (floats, average only)"
    first, inside = "first tenth", "the same for a key that is never flat (checkpoints every 4,000 entries)"
    return [
        Line("B5", work, against, "fills/s", FAST_ENOUGH, speeds, terms.scale),
        Line("B5b", "time per entry, last tenth of the history", first, "µs", FLAT, trip_ends, terms.scale),
        Line("B5c", inside, first, "µs", FLAT, inventory_ends, terms.scale),
    ]


def _ends(parts: Sequence[float], count: int) -> Run:
    """Microseconds per entry at the end of a history and at its beginning."""
    size = count // len(parts)
    return Run(parts[-1] / size * 1e6, parts[0] / size * 1e6)
