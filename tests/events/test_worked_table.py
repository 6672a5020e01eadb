"""The worked table of events holds row by row on a real database."""

from datetime import UTC, datetime
from decimal import Decimal

from steelyard.accounting.round_trips import CostMethod
from tests.events.feeds import Feeds, expected, key, shown
from tests.events.worked import BTC, ROWS


async def test_every_row_of_the_worked_table_holds(feeds: Feeds) -> None:
    for row in ROWS:
        assert (row.number, await feeds.send(row.queue, row.body)) == (row.number, [row.outcome])
        assert (row.number, shown(await feeds.position(key(row.instrument)))) == (row.number, expected(row))


async def test_the_table_holds_when_the_service_is_started_anew_before_every_row(database_url: str) -> None:
    for row in ROWS:
        feeds = Feeds(database_url)
        assert await feeds.send(row.queue, row.body) == [row.outcome]
        assert (row.number, shown(await feeds.position(key(row.instrument)))) == (row.number, expected(row))
        await feeds.close()


async def test_what_stands_beside_the_rows_of_the_table(feeds: Feeds) -> None:
    beside: dict[int, Decimal] = {}
    for row in ROWS:
        await feeds.send(row.queue, row.body)
        (figures,) = await feeds.rows("SELECT unrealized_pnl FROM venue_reports WHERE instrument = 'BTCUSDT'")
        beside[row.number] = figures["unrealized_pnl"]
        stored = await feeds.position(key(BTC))
        trip = stored.state.trip
        if row.number == 6:
            assert stored.state.lifetime.gross(CostMethod.AVERAGE) == 900
        if row.number == 8:
            assert stored.state.lifetime.fill_count == 3
        if row.number in (14, 15):
            assert stored.state.closed_at == datetime(2025, 1, 15, 10, 30, tzinfo=UTC)
            assert trip is not None
            assert trip.is_adjusted
        if row.number == 16:
            assert stored.state.opened_at == datetime(2025, 1, 15, 10, 40, tzinfo=UTC)
            assert trip is not None
            assert not trip.sums.fees
            assert not trip.sums.realized(CostMethod.AVERAGE)
    assert [beside[number] for number in (1, 2, 3, 7, 9)] == [150, 200, 180, 180, 0]
    found = await feeds.rows("SELECT kind, ours, theirs, occurrences FROM discrepancies")
    assert found == [{"kind": "SIZE", "ours": Decimal(2), "theirs": Decimal("1.8"), "occurrences": 1}]
    (fill,) = await feeds.rows("SELECT delta, price, fee FROM fills WHERE fill_id = 'order:order-200:1'")
    assert fill == {"delta": Decimal("-0.7"), "price": Decimal("101.428571428571428571"), "fee": Decimal("0.07")}


async def test_a_refused_message_leaves_the_database_as_it_was(feeds: Feeds) -> None:
    for row in ROWS[:16]:
        await feeds.send(row.queue, row.body)
    counts = " UNION ALL ".join(
        f"SELECT '{table}' AS name, count(*) AS rows FROM {table}"
        for table in ("inbox", "accounts", "instruments", "adjustments", "position_events", "account_commits", "marks")
    )
    before = await feeds.rows(counts)
    assert await feeds.send(ROWS[16].queue, ROWS[16].body) == ["INVALID_FIELD"]
    assert await feeds.rows(counts) == before
