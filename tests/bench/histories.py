"""Executions as desks make them, from a seed: many short trips, some long ones, now and then a flip.

Quantities have up to three places and prices two, so a weighted average nearly always has to be rounded to 18 places.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

START = datetime(2025, 1, 2, 14, 30, tzinfo=UTC)
STEP = timedelta(seconds=2)
TRIP_LENGTHS = ((0.55, 2, 4), (0.35, 5, 30), (0.09, 31, 120), (0.01, 121, 600))
"""(share of all trips, fills from, fills to): 18 fills on the average."""
FLIPS = 0.08
"""The share of trips that end in the opposite direction instead of flat."""
INCREASES = 0.55
"""The share of fills inside a trip that add to it."""


class Execution(NamedTuple):
    """One execution, with a signed quantity."""

    executed_at: datetime
    source_sequence: int
    fill_id: str
    delta: Decimal
    price: Decimal
    fee: Decimal


@dataclass(frozen=True, slots=True)
class Market:
    """What varies between histories."""

    seed: int
    prefix: str = "f"
    start: datetime = START
    step: timedelta = STEP


def flat_now_and_then(count: int, market: Market) -> Iterator[Execution]:
    """A history of trips; the last one may still be open."""
    return _executions(_deltas(random.Random(market.seed)), count, market)


def never_flat(count: int, market: Market) -> Iterator[Execution]:
    """A history that stays long for ever, as a market maker's inventory does."""
    return _executions(_inventory(random.Random(market.seed)), count, market)


def _executions(deltas: Iterator[int], count: int, market: Market) -> Iterator[Execution]:
    chance = random.Random(market.seed + 1)
    cents, at = 2_000_000, market.start
    for number, delta in zip(range(count), deltas, strict=False):
        cents += chance.randrange(-50, 51)
        at += market.step
        price = Decimal(max(cents, 100)).scaleb(-2)
        fee = Decimal(abs(delta)).scaleb(-4)
        yield Execution(at, 0, f"{market.prefix}{number:07d}", Decimal(delta).scaleb(-3), price, fee)


def _deltas(chance: random.Random) -> Iterator[int]:
    """Signed quantities in thousandths, trip after trip."""
    carried = 0
    while True:
        length = _length(chance)
        sign = chance.choice((1, -1)) if not carried else (1 if carried > 0 else -1)
        held = abs(carried)
        if not held:
            held = chance.randrange(1, 5_000)
            yield sign * held
            length -= 1
        for _ in range(length - 1):
            if held == 1 or chance.random() < INCREASES:
                size = chance.randrange(1, 5_000)
                held += size
                yield sign * size
            else:
                size = chance.randrange(1, min(held, 5_000))
                held -= size
                yield -sign * size
        beyond = chance.randrange(1, 5_000) if chance.random() < FLIPS else 0
        yield -sign * (held + beyond)
        carried = -sign * beyond


def _length(chance: random.Random) -> int:
    drawn = chance.random()
    for share, shortest, longest in TRIP_LENGTHS:
        drawn -= share
        if drawn < 0:
            return chance.randint(shortest, longest)
    return TRIP_LENGTHS[0][1]


def _inventory(chance: random.Random) -> Iterator[int]:
    held = 100_000
    yield held
    while True:
        size = chance.randrange(1, 5_000)
        # Drawn back towards the middle, so that neither the holding nor its lots grow with the history.
        if chance.random() < (0.7 if held < 100_000 else 0.3):
            held += size
            yield size
        else:
            size = min(size, held - 1)
            held -= size
            yield -size
