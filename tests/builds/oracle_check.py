"""The whole book against the oracle, which replays the stored fills with exact fractions and knows no product code."""

from collections import defaultdict
from fractions import Fraction
from typing import Any

from tests.builds.desk import Desk
from tests.oracle import OracleFill, OracleInstrument, OracleKey, OraclePosition, fold_key

_TRIPS = "SELECT * FROM round_trips WHERE account = $1 ORDER BY opened_at, opened_sequence, opened_entry_id"
Book = dict[OracleKey, tuple[Any, ...]]


async def oracle_book(desk: Desk, account: str) -> Book:
    """What the oracle makes of the fills that are stored of an account; it takes a millisecond for each."""
    instruments = {
        row["instrument"]: OracleInstrument(
            name=row["instrument"], multiplier=str(row["multiplier"]), settle_currency=row["settle_currency"]
        )
        for row in await desk.rows("SELECT instrument, multiplier, settle_currency FROM instruments")
    }
    fills: dict[OracleKey, list[OracleFill]] = defaultdict(list)
    for row in await desk.rows("SELECT * FROM fills WHERE state = 'LIVE' AND account = $1", account):
        key = OracleKey(row["account"], row["book"], row["instrument"], row["leg"])
        fills[key].append(
            OracleFill(
                fill_id=row["fill_id"],
                account=key.account,
                book=key.book,
                instrument=key.instrument,
                side="BUY" if row["delta"] > 0 else "SELL",
                quantity=str(abs(row["delta"])),
                price=str(row["price"]),
                fee=str(row["fee"]),
                executed_at=row["executed_at"],
                source_sequence=row["source_sequence"],
            )
        )
    return {
        key: _of_oracle(fold_key(key, of_key, instrument=instruments[key.instrument])) for key, of_key in fills.items()
    }


def _of_oracle(position: OraclePosition) -> tuple[Any, ...]:
    average, fifo = position.figures["AVERAGE"], position.figures["FIFO"]
    trips = [
        (trip.first_entry_id, trip.direction.upper(), trip.entered_quantity, trip.gross_pnl["AVERAGE"], trip.fees)
        for trip in position.trips
    ]
    return (
        *(position.quantity, average.gross_realized_pnl, fifo.gross_realized_pnl),
        *(average.net_realized_pnl, average.cash_flow, fifo.cash_flow),
        trips,
    )


async def stored_book(desk: Desk, account: str) -> Book:
    """The same as it is stored."""
    trips: dict[OracleKey, list[tuple[Any, ...]]] = defaultdict(list)
    for row in await desk.rows(_TRIPS, account):
        key = OracleKey(row["account"], row["book"], row["instrument"], row["leg"])
        exact = (Fraction(row["entered_quantity"]), Fraction(row["gross_average"]), Fraction(row["fees"]))
        trips[key].append((row["opened_entry_id"], row["direction"], *exact))
    book = {}
    for row in await desk.rows("SELECT * FROM positions WHERE account = $1", account):
        key = OracleKey(row["account"], row["book"], row["instrument"], row["leg"])
        net = row["gross_average"] - row["fees"] + row["funding"]
        numbers = (
            *(row["quantity"], row["gross_average"], row["gross_lots"]),
            *(net, row["cash_average"], row["cash_lots"]),
        )
        book[key] = (*map(Fraction, numbers), trips[key])
    return book
