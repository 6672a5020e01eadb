"""What was executed: fills with revisions, applied versions and pages."""

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from steelyard.accounting.errors import NotFound
from steelyard.accounting.keys import Account, FillId, InstrumentName, Leg
from steelyard.accounting.keys import Book as BookName
from steelyard.operations.read_fills import FillFilter
from tests.questions.books import START, Book, fill, key

DESK = Account("desk")


async def test_a_fill_that_never_was_is_not_found(book: Book) -> None:
    with pytest.raises(NotFound):
        await book.fills.get(DESK, FillId("nobody"))


async def test_a_fill_names_the_version_that_applied_it(book: Book) -> None:
    first, second, other = (
        fill("a", "1", "10", fee="0.1"),
        fill("b", "1", "11", minute=1),
        fill("c", "1", "9", minute=2),
    )
    await book.record(first, second)
    await book.record(fill("x", "1", "1", of=key("ETHUSDT")))
    await book.record(other)
    for wanted, version in ((first, 1), (second, 1), (other, 2)):
        answer = await book.fills.get(DESK, wanted.fill_id)
        view = answer.value.fill
        assert view.fill == wanted
        assert (view.applied_version, view.is_pending, view.is_withdrawn) == (version, False, False)
        assert [each.fill.revision for each in answer.value.revisions] == [1]
        assert [commit.seq for commit in answer.seen.commits] == [3]


async def test_a_fill_that_is_only_stored_is_pending_until_its_key_is_folded(book: Book) -> None:
    await book.record(fill("a", "1", "10"))
    waiting = fill("b", "2", "10", minute=1)
    await book.store_only(waiting)
    view = (await book.fills.get(DESK, waiting.fill_id)).value.fill
    assert (view.applied_version, view.is_pending) == (None, True)
    assert not (await book.fills.get(DESK, FillId("a"))).value.fill.is_pending
    await book.record(fill("c", "1", "10", minute=2))
    view = (await book.fills.get(DESK, waiting.fill_id)).value.fill
    assert (view.applied_version, view.is_pending) == (2, False)


async def test_revisions_stand_in_order_and_a_busted_fill_is_withdrawn(book: Book) -> None:
    await book.record(fill("a", "1", "10"))
    async with book.database.write() as connection:
        await connection.execute(
            "INSERT INTO fill_revisions SELECT account, fill_id, revision, book, instrument, leg, delta, price, fee, "
            "fee_currency, fee_rate, fee_value, executed_at, source_sequence, state, import_id, commit_id, recorded_at "
            "FROM fills"
        )
        await connection.execute("UPDATE fills SET revision = 2, price = 12, state = 'BUSTED'")
    history = (await book.fills.get(DESK, FillId("a"))).value
    assert [(each.fill.revision, each.fill.price, each.is_withdrawn) for each in history.revisions] == [
        (1, Decimal(10), False),
        (2, Decimal(12), True),
    ]
    assert history.fill == history.revisions[1]
    assert history.fill.applied_version is None
    assert (await book.fills.page(FillFilter(account=DESK), size=5)).value.rows == []
    assert len((await book.fills.page(FillFilter(account=DESK, has_withdrawn=True), size=5)).value.rows) == 1


IMPORT = UUID(int=5)
DAY = (
    fill("a", "1", "10", minute=1),
    fill("b", "1", "10", minute=1)._replace(source_sequence=2),
    fill("c", "1", "10", minute=1)._replace(source_sequence=1),
    fill("d", "1", "10", of=key(leg="LONG"), minute=2),
    fill("e", "1", "10", of=key("ETHUSDT", book="swing"), minute=3),
    fill("f", "1", "10", of=key(account="other"), minute=4),
)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (FillFilter(account=DESK, is_oldest_first=True), "acbde"),
        (FillFilter(account=DESK), "edbca"),
        (FillFilter(account=DESK, book=BookName("swing")), "e"),
        (FillFilter(account=DESK, instrument=InstrumentName("BTCUSDT")), "dbca"),
        (FillFilter(account=DESK, leg=Leg.LONG), "d"),
        (FillFilter(account=DESK, executed_from=START + timedelta(minutes=2)), "ed"),
        (FillFilter(account=DESK, executed_before=START + timedelta(minutes=2)), "bca"),
        (FillFilter(account=DESK, import_id=IMPORT), "db"),
        (FillFilter(account=Account("other")), "f"),
        (FillFilter(account=Account("nobody")), ""),
    ],
)
async def test_pages_follow_the_fold_order_or_its_reverse(book: Book, wanted: FillFilter, names: str) -> None:
    await book.record(*DAY)
    async with book.database.write() as connection:
        await connection.execute("UPDATE fills SET import_id = $1 WHERE fill_id = 'b'", IMPORT)
        await connection.execute(
            "INSERT INTO fill_attestations (account, fill_id, import_id) VALUES ('desk', 'd', $1)", IMPORT
        )
    for size in (1, 2, 10):
        found, after = "", None
        while True:
            page = (await book.fills.page(wanted, size=size, after=after)).value
            found += "".join(view.fill.fill_id for view in page.rows)
            after = page.next_after
            if after is None:
                break
        assert found == names
