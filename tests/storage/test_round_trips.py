"""Round trips are stored as they were folded, whichever way they are written."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from steelyard.accounting.entries import Entry
from steelyard.accounting.fold import Fold, FoldRules
from steelyard.accounting.instruments import Instrument, InstrumentKind
from steelyard.accounting.keys import DEFAULT_BOOK, Account, InstrumentName, Leg, OrderKey, PositionKey
from steelyard.operations.ports import KeyChange
from steelyard.storage.database import Database
from steelyard.storage.ledger import PostgresLedger
from steelyard.storage.round_trips import COPY_FROM

NOW = datetime(2025, 6, 20, 20, tzinfo=UTC)
START = datetime(2025, 6, 20, 14, tzinfo=UTC)
KEY = PositionKey(Account("desk"), DEFAULT_BOOK, InstrumentName("MNQ SEP25"), Leg.NET)
RULES = FoldRules(Instrument(KEY.instrument, InstrumentKind.LINEAR, Decimal(2), "USD", "USD"), Leg.NET)


def entry(number: int, quantity: str) -> Entry:
    """A fill whose id holds what COPY's text format has to escape, and whose fee cannot be valued."""
    at = START + timedelta(seconds=number)
    price, fee = Decimal(25_000) + number, Decimal("1e-7") * number
    return Entry(at, 0, rf"\N\t{number:05d}\ ", "FILL", Decimal(quantity), price, Decimal(0), "BNB", fee)


@pytest.mark.parametrize("trips", [3, COPY_FROM + 3], ids=["upserted", "copied"])
async def test_trips_of_a_new_key_read_back_as_they_were_folded(database_url: str, trips: int) -> None:
    fold = Fold(RULES)
    fold.feed(entry(number, "0.5" if number % 2 else "-0.5") for number in range(2 * trips + 1))
    finished, _ = fold.drain()
    state = fold.state()
    change = KeyChange(
        key=KEY, expected_version=0, state=state, cause="build", cause_id=None, fill_ids=(), fill_count=2 * trips + 1,
        since_checkpoint=0, trips=finished, replace_trips_from=OrderKey(START, 0, ""),
        replace_checkpoints_from=OrderKey(START, 0, ""),
    )  # fmt: skip
    database = Database(database_url)
    try:
        async with PostgresLedger(database, lambda: NOW).transaction(cause="build") as book:
            await book.lock_positions([KEY])
            await book.apply([change])
        async with PostgresLedger(database, lambda: NOW).transaction(cause="read", is_read_only=True) as book:
            stored = await book.trips_from(KEY, OrderKey(START, 0, ""))
    finally:
        await database.close()
    assert stored == [*finished, state.trip]
