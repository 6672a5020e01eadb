"""What the venue last said stands beside the figures of a position, in the full view."""

from datetime import UTC, datetime
from decimal import Decimal

from steelyard.accounting.keys import Account
from steelyard.accounting.marks import MarkState
from steelyard.operations.account_tail import Place
from steelyard.operations.position_view import Detail, PositionView, VenueFigures
from steelyard.operations.read_positions import PositionFilter, PositionsRead
from steelyard.rpc import encode_position
from steelyard.storage.change_reads import ChangeReads
from steelyard.storage.position_reads import PositionReads
from tests.events.feeds import NOW, Feeds, key
from tests.events.worked import BTC, EXECUTIONS, REPORTS, execution, report

ACCOUNT = Account("main")


async def read(feeds: Feeds, detail: Detail) -> PositionsRead:
    return (await PositionReads(feeds.database).batch([key(BTC)], detail=detail, heads=())).value


async def test_the_full_view_has_the_venues_own_figures(feeds: Feeds) -> None:
    await feeds.send(
        REPORTS,
        report("10:00:00", side="Buy", size="1.5", avgPrice="50000", unrealisedPnl="150", cumRealisedPnl="-7.5"),
    )
    await feeds.send(REPORTS, report(None, size="1.8", unrealisedPnl="0"))
    (row,) = (await read(feeds, Detail.FULL)).rows
    assert row.venue == VenueFigures(
        quantity=Decimal("1.5"),
        average_price=Decimal(50000),
        unrealized_pnl=Decimal(0),
        realized_pnl=Decimal("-7.5"),
        reported_at=datetime(2025, 1, 15, 10, 0, tzinfo=UTC),
        source="venue",
    )
    told = encode_position.position(PositionView(row, NOW, MarkState.MISSING), detail=Detail.FULL)
    assert (told.venue.unrealized_pnl, told.venue.realized_pnl, told.realized_pnl) == ("0", "-7.5", "0")


async def test_the_basic_view_and_positions_without_a_report_have_none(feeds: Feeds) -> None:
    await feeds.send(EXECUTIONS, execution("10:00:00", "BUY", "1", "100", "0", "a"))
    assert (await read(feeds, Detail.FULL)).rows[0].venue is None
    await feeds.send(REPORTS, report("10:05:00", side="Buy", size="1", avgPrice="100"))
    assert (await read(feeds, Detail.BASIC)).rows[0].venue is None


async def test_lists_and_watches_have_them_too(feeds: Feeds) -> None:
    await feeds.send(REPORTS, report("10:00:00", side="Buy", size="1.5", avgPrice="50000"))
    await feeds.send(EXECUTIONS, execution("10:05:00", "BUY", "1", "50000", "0", "a"))
    listed = await PositionReads(feeds.database).page(
        PositionFilter(), size=10, after=None, detail=Detail.FULL, heads=()
    )
    changes = ChangeReads(feeds.database)
    held = await changes.held_now(ACCOUNT)
    followed = (await changes.changes({ACCOUNT: Place(0)}, limit=10))[ACCOUNT]
    assert [event.version for event in followed] == [1, 2]
    for row in (*listed.value[0].rows, *held.rows, *(event.row for event in followed)):
        assert row.venue is not None
        assert (row.venue.quantity, row.venue.average_price) == (Decimal("1.5"), Decimal(50000))
