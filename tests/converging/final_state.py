"""All that a client can ask of a book, less what tells how it came to be; and the oracle's opinion on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

from steelyard.accounting import keys
from steelyard.client import Lot, Position, PositionView, RoundTrip, Steelyard
from steelyard.client.position_calls import RoundTripDetail
from steelyard.client.records import MethodFigures
from tests.oracle import OracleFigures, OracleKey, OraclePosition, half_even, microseconds

PLACES = 18
Books = Mapping[OracleKey, OraclePosition]


@dataclass(frozen=True, slots=True)
class FinalState:
    """Positions and lots by key, trips by id."""

    positions: Mapping[OracleKey, Position]
    lots: Mapping[OracleKey, tuple[Lot, ...]]
    trips: Mapping[str, RoundTripDetail]


def key_of(of: Position | RoundTrip) -> OracleKey:
    """The key in the oracle's form."""
    whose = of if isinstance(of, Position) else of.key
    return OracleKey(whose.account, whose.book, whose.instrument, whose.leg.value)


async def final_state(client: Steelyard) -> FinalState:
    """What the desk's book has come to: without versions, etags, recording times and what moves with the clock."""
    positions: dict[OracleKey, Position] = {}
    lots: dict[OracleKey, tuple[Lot, ...]] = {}
    async for position in client.list_positions(["desk"], view=PositionView.FULL):
        key = key_of(position)
        positions[key] = replace(
            position, version=0, etag="", created_at=None, updated_at=None, last_snapshot_at=None, features=None
        )
        listed = client.list_lots("desk", position.instrument, book=position.book, leg=position.leg)
        lots[key] = tuple([lot async for lot in listed])
    trips = {}
    async for trip in client.list_round_trips("desk"):
        trips[trip.trip_id] = await client.get_round_trip("desk", trip.trip_id)
    return FinalState(positions, lots, trips)


def assert_agrees(state: FinalState, opinion: Books) -> None:
    """Every figure is the oracle's, to the last digit that is told."""
    assert state.positions.keys() == opinion.keys()
    for key, theirs in opinion.items():
        _compare_position(state.positions[key], theirs)
        found = [(lot.fill_id, Fraction(abs(lot.quantity)), Fraction(lot.price)) for lot in state.lots[key]]
        assert found == [(lot.entry_id, abs(lot.quantity), lot.price) for lot in theirs.lots["FIFO"]]
    named = {str(keys.trip_id(_ours(key), trip.first_entry_id)) for key, of in opinion.items() for trip in of.trips}
    assert state.trips.keys() == named
    for detail in state.trips.values():
        _compare_trip(detail, opinion[key_of(detail.round_trip)])


def _ours(key: OracleKey) -> keys.PositionKey:
    return keys.PositionKey(
        keys.Account(key.account), keys.Book(key.book), keys.InstrumentName(key.instrument), keys.Leg(key.leg)
    )


def _is(ours: Decimal | None, theirs: Fraction | None) -> bool:
    if ours is None or theirs is None:
        return ours is None and theirs is None
    return Fraction(ours) == half_even(theirs, PLACES)


def _compare_position(ours: Position, theirs: OraclePosition) -> None:
    assert _is(ours.quantity, theirs.quantity)
    assert _is(ours.unmatched_quantity, theirs.unmatched_quantity)
    assert _is(ours.fees, theirs.fees)
    assert ours.fill_count == theirs.fill_count
    times = [None if at is None else microseconds(at) for at in (ours.opened_at, ours.closed_at)]
    assert times == [theirs.opened_at, theirs.closed_at]
    for told, name in ((ours.average, "AVERAGE"), (ours.lots, "FIFO")):
        assert told is not None
        _compare_figures(told, theirs.figures[name])


def _compare_figures(ours: MethodFigures, theirs: OracleFigures) -> None:
    assert _is(ours.average_price, theirs.average)
    assert _is(ours.cost, theirs.cost)
    assert _is(ours.gross_realized_pnl, theirs.gross_realized_pnl)
    assert _is(ours.realized_pnl, theirs.realized_pnl)
    assert _is(ours.net_realized_pnl, theirs.net_realized_pnl)


def _compare_trip(detail: RoundTripDetail, of_key: OraclePosition) -> None:
    ours = detail.round_trip
    (theirs,) = [
        trip for trip in of_key.trips if str(keys.trip_id(_ours(of_key.key), trip.first_entry_id)) == ours.trip_id
    ]
    assert ours.direction.value == theirs.direction
    assert _is(ours.entered_quantity, theirs.entered_quantity)
    assert _is(ours.exited_quantity, theirs.exited_quantity)
    assert _is(ours.max_quantity, theirs.max_quantity)
    assert _is(ours.average_entry_price, theirs.average_entry)
    assert _is(ours.average_exit_price, theirs.average_exit)
    assert _is(ours.gross_realized_pnl_average, theirs.gross_pnl["AVERAGE"])
    assert _is(ours.gross_realized_pnl_lots, theirs.gross_pnl["FIFO"])
    assert microseconds(ours.opened_at) == theirs.opened_at
    assert (None if ours.closed_at is None else microseconds(ours.closed_at)) == theirs.closed_at
    pairs = [(pair.entry_fill_id, pair.exit_fill_id, Fraction(pair.quantity)) for pair in detail.execution_pairs]
    assert sorted(pairs) == sorted((pair.entry_id, pair.exit_id, pair.quantity) for pair in theirs.pairs["FIFO"])
    if not of_key.unmatched_quantity:
        # What an excess on a leg costs stands with the trip it exceeds; the oracle keeps it apart.
        assert _is(ours.fees, theirs.fees)
        assert _is(ours.net_realized_pnl, theirs.net_pnl["AVERAGE"])
        assert ours.fill_count == theirs.fill_count
