"""Values to rows and back: round trips, sums, lots and states as columns and as JSON with decimals as text.

JSON columns are written and come back as text, so that no number in them ever passes through a float.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from steelyard.accounting.keys import Leg, OrderKey, PositionKey
from steelyard.accounting.lots import Lot
from steelyard.accounting.position import FoldState
from steelyard.accounting.round_trips import Direction, RoundTrip, Sums, Unvalued

SUMS = (
    "gross_average",
    "gross_lots",
    "fees",
    "reducing_fees",
    "funding",
    "cash_average",
    "cash_lots",
    "unmatched",
    "fill_count",
)
"""Columns of `Sums` in the order of its fields; `unvalued_fees` follows as JSON."""


def key_of(row: Any) -> PositionKey:
    """The position key in a row of the driver or of SQLAlchemy."""
    return PositionKey(row["account"], row["book"], row["instrument"], Leg(row["leg"]))


def dumps(value: object) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"))


def time_text(at: datetime) -> str:
    """A UTC time as text that sorts and parses."""
    return at.astimezone(UTC).isoformat()


def order_json(order: OrderKey) -> list[Any]:
    """[time, sequence, id]."""
    return [time_text(order.executed_at), order.source_sequence, order.entry_id]


def order_of(value: Sequence[Any]) -> OrderKey:
    """The order key that `order_json` wrote."""
    return OrderKey(datetime.fromisoformat(value[0]), value[1], value[2])


def unvalued_json(unvalued: Unvalued) -> str | None:
    """Unvalued fees as a JSON object, None where there are none."""
    return dumps({currency: str(amount) for currency, amount in unvalued}) if unvalued else None


def unvalued_of(text: str | None) -> Unvalued:
    """The unvalued fees of a column."""
    if not text:
        return ()
    return tuple(sorted((currency, Decimal(amount)) for currency, amount in json.loads(text).items()))


def sums_values(sums: Sums) -> tuple[Any, ...]:
    """The columns of sums, unvalued fees last."""
    return (
        sums.gross_average,
        sums.gross_lots,
        sums.fees,
        sums.reducing_fees,
        sums.funding,
        sums.cash_average,
        sums.cash_lots,
        sums.unmatched,
        sums.fill_count,
        unvalued_json(sums.unvalued_fees),
    )


def sums_of(row: Mapping[str, Any]) -> Sums:
    """The sums in a row's columns."""
    return Sums(**{name: row[name] for name in SUMS}, unvalued_fees=unvalued_of(row["unvalued_fees"]))


def trip_json(trip: RoundTrip) -> dict[str, Any]:
    """A trip as a JSON object, everything exact."""
    sums = trip.sums
    return {
        "direction": trip.direction.value,
        "opened": order_json(trip.opened),
        "opening_quantity": str(trip.opening_quantity),
        "is_flip": trip.is_flip,
        "last": order_json(trip.last),
        "closed_at": None if trip.closed_at is None else time_text(trip.closed_at),
        "numbers": [
            str(value)
            for value in (
                trip.entered_quantity,
                trip.entered_value,
                trip.exited_quantity,
                trip.exited_value,
                trip.open_quantity,
                trip.max_quantity,
            )
        ],
        "is_adjusted": trip.is_adjusted,
        "sums": [str(getattr(sums, name)) for name in SUMS],
        "unvalued": [[currency, str(amount)] for currency, amount in sums.unvalued_fees],
    }


def trip_of_json(value: Mapping[str, Any]) -> RoundTrip:
    """The trip that `trip_json` wrote."""
    entered, entered_value, exited, exited_value, held, largest = map(Decimal, value["numbers"])
    *decimals, fill_count = value["sums"]
    unvalued = tuple((currency, Decimal(amount)) for currency, amount in value["unvalued"])
    return RoundTrip(
        Direction(value["direction"]),
        order_of(value["opened"]),
        Decimal(value["opening_quantity"]),
        value["is_flip"],
        order_of(value["last"]),
        None if value["closed_at"] is None else datetime.fromisoformat(value["closed_at"]),
        entered,
        entered_value,
        exited,
        exited_value,
        held,
        largest,
        value["is_adjusted"],
        Sums(
            **dict(zip(SUMS[:-1], map(Decimal, decimals), strict=True)),
            fill_count=int(fill_count),
            unvalued_fees=unvalued,
        ),
    )


def trip_of_row(row: Mapping[str, Any]) -> RoundTrip:
    """The trip in a row of `round_trips`."""
    return RoundTrip(
        Direction(row["direction"]),
        OrderKey(row["opened_at"], row["opened_sequence"], row["opened_entry_id"]),
        row["opening_quantity"],
        row["is_flip"],
        OrderKey(row["last_at"], row["last_sequence"], row["last_entry_id"]),
        row["closed_at"],
        row["entered_quantity"],
        row["entered_value"],
        row["exited_quantity"],
        row["exited_value"],
        row["open_quantity"],
        row["max_quantity"],
        row["is_adjusted"],
        sums_of(row),
    )


def checkpoint_json(state: FoldState) -> str:
    """A state inside an open trip as JSON, lots included; its settled sums are empty by definition."""
    assert state.trip is not None
    assert state.last is not None
    return dumps(
        {
            "quantity": str(state.quantity),
            "cost_average": str(state.cost_average),
            "average": None if state.average is None else str(state.average),
            "cost_lots": str(state.cost_lots),
            "lots": [
                [*order_json(lot.opened), str(lot.quantity), str(lot.original_quantity), str(lot.price)]
                for lot in state.lots
            ],
            "trip": trip_json(state.trip),
            "last": order_json(state.last),
            "last_fill_at": None if state.last_fill_at is None else time_text(state.last_fill_at),
        }
    )


def checkpoint_state(text: str) -> FoldState:
    """The state that `checkpoint_json` wrote."""
    value = json.loads(text)
    return FoldState(
        quantity=Decimal(value["quantity"]),
        cost_average=Decimal(value["cost_average"]),
        average=None if value["average"] is None else Decimal(value["average"]),
        cost_lots=Decimal(value["cost_lots"]),
        lots=tuple(Lot(order_of(lot[:3]), Decimal(lot[3]), Decimal(lot[4]), Decimal(lot[5])) for lot in value["lots"]),
        trip=trip_of_json(value["trip"]),
        last=order_of(value["last"]),
        last_fill_at=None if value["last_fill_at"] is None else datetime.fromisoformat(value["last_fill_at"]),
    )
