"""The laws of the domain over seeded histories, counted a second way straight from the fills."""

import ast
import random
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from . import LOT_METHODS, METHODS, OracleFill, OracleInstrument, OracleKey, OraclePosition, number, replay

START = 1_756_000_000_000_000
INSTRUMENTS = {
    "LIN": OracleInstrument(name="LIN", multiplier="2"),
    "INV": OracleInstrument(name="INV", kind="inverse", multiplier="100", settle_currency="BTC"),
}
TOLERANCE = {"LIN": Fraction(0), "INV": Fraction(1, 10**30)}


def history(name: str, *, seed: int, count: int = 150) -> list[OracleFill]:
    """Many small fills that often flip, with ties in time and awkward fees."""
    chance = random.Random(seed)
    return [
        OracleFill(
            fill_id=f"{chance.randrange(10**9)}-{place}",
            account="A",
            instrument=name,
            side=chance.choice(("BUY", "SELL")),
            quantity=str(chance.choice(("1", "2", "3", "7", "0.37", "0.000000000000000003"))),
            price=f"{chance.randrange(90, 110)}.{chance.randrange(1000):03}",
            fee=chance.choice(("0", "0.1", "-0.05", "0.000000000000000001")),
            executed_at=START + chance.randrange(count),
            source_sequence=chance.randrange(3),
        )
        for place in range(count)
    ]


def only(positions: dict[OracleKey, OraclePosition]) -> OraclePosition:
    (position,) = positions.values()
    return position


def test_the_oracle_knows_the_standard_library_and_itself_alone() -> None:
    for module in Path(__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [str(node.module)]
            roots = {name.partition(".")[0] for name in names}
            assert roots <= sys.stdlib_module_names | {"pytest"}, module.name


@pytest.mark.parametrize("name", INSTRUMENTS)
@pytest.mark.parametrize("seed", range(6))
def test_figures_equal_sums_taken_straight_from_the_fills(name: str, seed: int) -> None:
    fills, instrument = history(name, seed=seed), INSTRUMENTS[name]
    position = only(replay(fills, instruments=INSTRUMENTS))
    mark, multiplier = number("101.25"), number(instrument.multiplier)
    deltas = [(number(f.quantity) * (1 if f.side == "BUY" else -1), number(f.price)) for f in fills]
    assert position.quantity == sum(delta for delta, _ in deltas)
    assert position.fees == sum(number(fill.fee) for fill in fills)
    if instrument.kind == "linear":
        wealth = sum(delta * multiplier * (mark - price) for delta, price in deltas)
    else:
        wealth = sum(delta * multiplier * (1 / price - 1 / mark) for delta, price in deltas)
    for method in METHODS:
        unrealized = position.unrealized(mark, method=method)
        assert unrealized is not None
        gross = position.figures[method].gross_realized_pnl
        assert abs(gross + unrealized - wealth) <= TOLERANCE[name]
        assert position.identity_gap(mark, method=method) == 0


@pytest.mark.parametrize("name", INSTRUMENTS)
@pytest.mark.parametrize("seed", range(6))
def test_trips_pairs_lots_and_fill_effects_sum_to_the_position(name: str, seed: int) -> None:
    position = only(replay(history(name, seed=seed), instruments=INSTRUMENTS))
    assert sum(trip.fees for trip in position.trips) == position.fees
    for method in METHODS:
        gross = position.figures[method].gross_realized_pnl
        assert sum(trip.gross_pnl[method] for trip in position.trips) == gross
        assert sum(effect.gross_pnl[method] for effect in position.effects) == gross
    for method in LOT_METHODS:
        lots = position.lots[method]
        assert sum(lot.quantity for lot in lots) == position.quantity
        assert sum(lot.cost for lot in lots) == position.figures[method].cost
        for trip in position.trips:
            pairs = trip.pairs[method]
            assert sum(pair.gross_pnl for pair in pairs) == trip.gross_pnl[method]
            assert sum(pair.quantity for pair in pairs) == trip.exited_quantity
            paired = sum(pair.entry_fee + pair.exit_fee for pair in pairs)
            assert paired + (0 if trip.closed_at else sum(lot.fee for lot in lots)) == trip.fees


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_order_of_arrival_and_repeats_change_nothing(name: str) -> None:
    fills = history(name, seed=77)
    expected = only(replay(fills, instruments=INSTRUMENTS))
    for seed in range(3):
        shuffled = fills + fills[:40]
        random.Random(seed).shuffle(shuffled)
        assert only(replay(shuffled, instruments=INSTRUMENTS)) == expected


@pytest.mark.parametrize("name", INSTRUMENTS)
@pytest.mark.parametrize("seed", range(6))
def test_closed_trips_agree_by_every_method_and_never_overlap(name: str, seed: int) -> None:
    trips = only(replay(history(name, seed=seed), instruments=INSTRUMENTS)).trips
    assert len({trip.first_entry_id for trip in trips}) == len(trips)
    assert all(trip.closed_at is not None for trip in trips[:-1])
    for trip, following in pairwise(trips):
        assert trip.closed_at is not None
        assert trip.closed_at <= following.opened_at
        assert trip.entered_quantity == trip.exited_quantity
        for method in LOT_METHODS:
            assert abs(trip.gross_pnl[method] - trip.gross_pnl["AVERAGE"]) <= TOLERANCE[name]
        assert trip.points_weighted is not None
        if name == "LIN":
            assert trip.points_weighted * 2 == trip.gross_pnl["AVERAGE"]
