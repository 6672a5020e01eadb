"""Snapshots are what was shown, are taken when asked and by the clock, and no bad row stops the others."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from steelyard.accounting.entries import Fill
from steelyard.client import NotFound, RequestIdReused, Snapshot, Steelyard
from steelyard.events.bodies import message_body
from steelyard.operations.correct_fills import CorrectFills
from steelyard.operations.late_entries import RefoldLimits
from steelyard.operations.position_view import PositionView
from steelyard.operations.take_snapshots import ShownPosition, SnapshotRun
from steelyard.rpc.encode_snapshot import OF_THE_ROW, shown_position
from steelyard.storage.outbox_reads import PostgresOutbox
from steelyard.v1 import position_pb2
from tests.questions.books import NOW, Book, fill, key
from tests.snapshots.shelf import Shelf

BTC, ETH, SOL = key("BTCUSDT"), key("ETHUSDT"), key("MNQ MAR26")


@pytest.fixture
async def book(database_url: str) -> AsyncIterator[Book]:
    opened = Book(database_url)
    await opened.begin()
    await opened.record(
        fill("a", "1.5", "48000", fee="25", minute=0),
        fill("b", "-2", "3000", of=ETH, minute=1),
        fill("c", "3", "25000", of=SOL, minute=2),
        fill("d", "-3", "25010", of=SOL, minute=3),
    )
    await opened.mark(BTCUSDT="50000", ETHUSDT="2900")
    yield opened
    await opened.close()


@pytest.fixture
def shelf(book: Book) -> Shelf:
    return Shelf(book)


async def listed(steelyard: Steelyard, **asked: object) -> list[Snapshot]:
    return [taken async for taken in steelyard.list_snapshots("desk", **asked)]  # type: ignore[arg-type]


async def test_a_snapshot_is_the_position_as_it_is_shown(shelf: Shelf) -> None:
    async with shelf.served() as steelyard:
        shown = await steelyard.get_position("desk", "BTCUSDT")
        done = await steelyard.create_snapshot("desk", instrument="BTCUSDT")
        (taken,) = done.snapshots
        assert (done.taken, done.failed, done.replayed, taken.failure) == (1, 0, False, "")
        assert taken.position == shown
        assert (taken.version, taken.taken_at) == (shown.version, NOW)
        assert shown.features is not None
        assert shown.features.position_size_norm is not None
        assert [taken] == await listed(steelyard)
        assert (await steelyard.get_position("desk", "BTCUSDT")).last_snapshot_at == NOW


async def test_no_correction_changes_a_stored_snapshot(shelf: Shelf, book: Book) -> None:
    correcting = CorrectFills(book.ledger, book.clock, jitter=lambda: 0.5, limits=RefoldLimits())

    def dearer(known: Fill) -> Fill:
        return known._replace(price=Decimal(49000))

    async with shelf.served() as steelyard:
        (before,) = (await steelyard.create_snapshot("desk", instrument="BTCUSDT")).snapshots
        await correcting.amend(BTC.account, fill("a", "1", "1").fill_id, expected_revision=1, amendment=dearer)
        await book.mark(BTCUSDT="99999")
        await book.record(fill("e", "5", "1000", minute=-5))
        assert await listed(steelyard) == [before]
        now = await steelyard.get_position("desk", "BTCUSDT")
        assert before.position is not None
        assert before.position.average_price == 48000 != now.average_price


async def test_all_of_an_account_are_taken_of_one_read_and_a_repeat_is_answered_as_before(shelf: Shelf) -> None:
    request = str(uuid.uuid4())
    async with shelf.served() as steelyard:
        first = await steelyard.create_snapshot("desk", request_id=request)
        assert (first.taken, len({taken.taken_at for taken in first.snapshots})) == (3, 1)
        again = await steelyard.create_snapshot("desk", request_id=request)
        assert again == replace(first, replayed=True)
        assert len(await listed(steelyard)) == 3
        with pytest.raises(RequestIdReused):
            await steelyard.create_snapshot("desk", open_only=True, request_id=request)
        assert (await steelyard.create_snapshot("desk", open_only=True)).taken == 2
        with pytest.raises(NotFound):
            await steelyard.create_snapshot("desk", instrument="XRPUSDT")


async def test_lists_are_the_newest_first_in_pages_and_by_time(shelf: Shelf, book: Book) -> None:
    moments = []
    async with shelf.served() as steelyard:
        for hour in range(5):
            book.now = NOW + timedelta(hours=hour)
            moments.append(book.now)
            await steelyard.create_snapshot("desk")
        everything = await listed(steelyard)
        assert [taken.taken_at for taken in everything] == sorted(
            (taken.taken_at for taken in everything), reverse=True
        )
        assert len(everything) == 15
        assert await listed(steelyard, page_size=4) == everything
        some = await listed(steelyard, taken_from=moments[1], taken_before=moments[3], instrument="ETHUSDT")
        assert [taken.taken_at for taken in some] == [moments[2], moments[1]]
        assert await listed(steelyard, book="other") == []


async def test_the_clock_takes_what_is_open_or_has_changed(shelf: Shelf, book: Book) -> None:
    assert await shelf.take.take_due() == SnapshotRun(taken=3)
    book.now = NOW + timedelta(hours=1)
    assert await shelf.take.take_due() == SnapshotRun(taken=2)
    book.now = NOW + timedelta(hours=2)
    await book.record(fill("f", "1", "25000", of=SOL, minute=5), fill("g", "-1", "25000", of=SOL, minute=6))
    book.now = NOW + timedelta(hours=3)
    assert await shelf.take.take_due() == SnapshotRun(taken=3)
    rows = await shelf.rows("SELECT DISTINCT cause FROM position_snapshots")
    assert [row["cause"] for row in rows] == ["SCHEDULE"]


async def test_a_row_that_cannot_be_read_is_recorded_as_failed_and_stops_no_other(shelf: Shelf) -> None:
    await shelf.plant("UPDATE positions SET trip = '{\"direction\": 7}' WHERE instrument = 'ETHUSDT'")
    assert await shelf.take.take_due() == SnapshotRun(taken=2, failed=1)
    async with shelf.served() as steelyard:
        (failed,) = await listed(steelyard, instrument="ETHUSDT")
        assert failed.position is None
        assert failed.failure
        assert (await steelyard.create_snapshot("desk")).failed == 1


async def test_a_position_that_cannot_be_told_or_stored_fails_alone(book: Book) -> None:
    def show(view: PositionView) -> ShownPosition:
        if view.row.key == BTC:
            raise ArithmeticError("a figure that cannot be")
        return {**shown_position(view), **({"notes": "\0"} if view.row.key == ETH else {})}

    shelf = Shelf(book, show=show)
    assert await shelf.take.take_due() == SnapshotRun(taken=1, failed=2)
    rows = await shelf.rows("SELECT instrument, failure FROM position_snapshots WHERE failure IS NOT NULL ORDER BY 1")
    assert [row["instrument"] for row in rows] == ["BTCUSDT", "ETHUSDT"]
    assert rows[0]["failure"] == "ArithmeticError: a figure that cannot be"


async def test_each_snapshot_is_told_to_others_in_its_transaction(shelf: Shelf, book: Book) -> None:
    await shelf.plant("DELETE FROM outbox")
    async with shelf.served() as steelyard:
        done = await steelyard.create_snapshot("desk", open_only=True)
    async with PostgresOutbox(book.database).claim() as claim:
        await claim.take()
        messages = await claim.waiting(limit=100)
    assert [message.topic for message in messages] == ["position_snapshot_created"] * 2
    bodies = {str(message.key.instrument): message_body(message, now=NOW) for message in messages}
    ids = {taken.key.instrument: taken.snapshot_id for taken in done.snapshots}
    body = bodies["BTCUSDT"]
    assert (body["snapshot_id"], body["size"], body["mark_price"]) == (ids["BTCUSDT"], "1.5", "50000")
    assert (body["version"], body["event_type"], body["asset"]) == (1, "position_snapshot_created", "BTCUSDT")
    await Shelf(book, is_publishing=False).take.take_due()
    assert len(await shelf.rows("SELECT FROM outbox")) == 2


def test_what_is_left_out_of_the_past_are_fields_of_a_position() -> None:
    assert set(OF_THE_ROW) <= set(position_pb2.Position.DESCRIPTOR.fields_by_name)
