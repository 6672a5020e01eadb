"""A sealed period: nothing is added to it or changed in it, whatever the way; what is known of it can be repeated."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from steelyard.accounting.entries import Fill
from steelyard.accounting.errors import PeriodSealed
from steelyard.accounting.keys import FillId
from steelyard.client import Account, InvalidField
from steelyard.client import PeriodSealed as SealedForCaller
from steelyard.operations.answering_once import RequestIdentity
from steelyard.operations.apply_fills import FillReceipt
from steelyard.operations.importing import RowCategory
from steelyard.operations.keep_accounts import AccountChange, KeepAccounts
from steelyard.operations.reading import Reading
from steelyard.storage.accounts_admin import AccountRecords
from steelyard.storage.heads import HeadReads
from tests.builds.desk import Desk, clock, generic
from tests.questions.books import NOW, Book, fill, funding
from tests.snapshots.history import ACCOUNT, KEYS, START, History, line_of
from tests.snapshots.shelf import Shelf

DATE = START + timedelta(days=100)
BEFORE, AFTER = DATE - timedelta(microseconds=1), DATE


@pytest.fixture
async def history(desk: Desk) -> AsyncIterator[History]:
    made = History(desk, random.Random(1))
    await made.begin()
    yield made
    await made.close()


def _fill(history: History, *, at: Any = BEFORE) -> Fill:
    return history.new_fill(key=KEYS[0], at=at)._replace(source_sequence=5)


async def _seal(desk: Desk, before: Any = DATE, *, is_unsealing: bool = False) -> None:
    keeping = KeepAccounts(AccountRecords(desk.database), Reading(HeadReads(desk.database), clock), jitter=lambda: 0.5)
    change = AccountChange(account=ACCOUNT, sealed_before=before, is_unsealing=is_unsealing)
    await keeping.upsert(change, request=RequestIdentity(uuid.uuid4(), b"seal"))


async def _book(desk: Desk) -> Any:
    tables = ("fills", "fill_revisions", "fill_moves", "adjustments", "positions", "round_trips")
    return {
        table: [tuple(row) for row in await desk.rows(f"SELECT * FROM {table} ORDER BY 1, 2, 3")] for table in tables
    }


async def test_no_way_of_writing_reaches_into_a_sealed_period(history: History) -> None:
    desk = history.desk
    known, later = _fill(history), _fill(history, at=AFTER)
    await desk.fills.record_batch([known, later])
    taken = await desk.load(generic([line_of(_fill(history))]))
    await desk.run(taken.record.build_id)
    await _seal(desk)
    before = await _book(desk)
    with pytest.raises(PeriodSealed):
        await desk.fills.record(_fill(history))
    with pytest.raises(PeriodSealed):
        await desk.fills.adjust(
            replace(funding("5", of=KEYS[0]), effective_at=BEFORE), request=RequestIdentity(uuid.uuid4(), b"body")
        )
    for corrected, moved_to in ((known, BEFORE), (known, AFTER), (later, BEFORE)):
        with pytest.raises(PeriodSealed):
            await history.correcting.amend(
                ACCOUNT,
                corrected.fill_id,
                expected_revision=1,
                amendment=lambda fill, at=moved_to: fill._replace(price=Decimal(7), executed_at=at),  # type: ignore[misc]
            )
    with pytest.raises(PeriodSealed):
        await history.correcting.bust(ACCOUNT, known.fill_id, expected_revision=1)
    with pytest.raises(PeriodSealed):
        await history.rolling_back.run(taken.record.import_id)
    again = await desk.load(generic([line_of(_fill(history))]))
    assert [(said.category, said.field) for said in again.results] == [(RowCategory.VALIDATION, "executed_at")]
    assert again.results[0].reason.startswith("PERIOD_SEALED")
    assert await _book(desk) == before


async def test_what_is_known_of_a_sealed_period_is_repeated_without_a_change(history: History) -> None:
    desk = history.desk
    known, busted = _fill(history), _fill(history)
    await desk.fills.record_batch([known, busted])
    await history.correcting.bust(ACCOUNT, busted.fill_id, expected_revision=1)
    await _seal(desk)
    before = await _book(desk)
    for repeated in (known, known._replace(source_sequence=0), busted):
        receipt = await desk.fills.record(repeated)
        assert receipt.is_replayed
    with pytest.raises(PeriodSealed):
        await desk.fills.record(known._replace(price=Decimal(9)))
    counts = (await desk.load(generic([line_of(known)]))).record.counts
    assert (counts.repeated, counts.rejected) == (1, 0)
    assert await _book(desk) == before


async def test_the_period_after_the_seal_is_open(history: History) -> None:
    desk = history.desk
    known = _fill(history, at=AFTER)
    await desk.fills.record(known)
    await _seal(desk)
    result = await desk.fills.record_batch([_fill(history), _fill(history, at=AFTER)])
    assert [type(item) for item in result.items] == [PeriodSealed, FillReceipt]
    await history.correcting.bust(ACCOUNT, known.fill_id, expected_revision=1)


async def test_an_entry_never_commits_after_the_seal(history: History) -> None:
    """Writers under way and a seal meet in the account's log: whatever was accepted lies before it."""
    desk = history.desk
    await desk.fills.record(_fill(history, at=AFTER))
    others = [desk.fills.record(_fill(history)) for _ in range(30)]

    async def sealed() -> None:
        await asyncio.sleep(0.01)
        await _seal(desk)

    results = await asyncio.gather(*others, sealed(), return_exceptions=True)
    assert all(isinstance(result, FillReceipt | PeriodSealed) for result in results[:-1]), results
    late = await desk.rows(
        "SELECT f.fill_id FROM fills f JOIN account_commits c USING (account, commit_id) WHERE f.executed_at < $1 "
        "AND c.seq > (SELECT seq FROM account_commits WHERE cause = 'account')",
        DATE,
    )
    assert late == []


async def test_a_writer_that_looked_before_the_seal_is_refused_when_it_commits(history: History) -> None:
    desk = history.desk
    await desk.fills.record(_fill(history, at=AFTER))
    late = _fill(history)
    tried: list[bool] = []

    async def write() -> None:
        async with desk.ledger.transaction(cause="fill") as book:
            await book.accounts([ACCOUNT], make=None)
            records = await book.instruments([late.key.instrument])
            await book.insert_fills([late], records)
            await book.touch([ACCOUNT])
            if not tried:
                tried.append(True)
                await _seal(desk)

    with pytest.raises(Exception, match="sealed meanwhile"):
        await write()
    assert await desk.rows("SELECT FROM fills WHERE fill_id = $1", FillId(late.fill_id)) == []


async def test_the_seal_moves_forward_freely_and_back_only_where_that_is_said(database_url: str) -> None:
    book = Book(database_url)
    await book.begin()
    await book.record(fill("a", "1", "48000"))
    async with Shelf(book).served() as steelyard:
        first, second = NOW - timedelta(days=9), NOW - timedelta(days=2)
        for moment in (first, second, second):
            change = await steelyard.upsert_account(Account(account="desk", sealed_before=moment))
            assert change.account.sealed_before == moment
        with pytest.raises(SealedForCaller):
            await steelyard.upsert_account(Account(account="desk", sealed_before=first))
        with pytest.raises(InvalidField):
            await steelyard.upsert_account(Account(account="desk", sealed_before=NOW + timedelta(seconds=1)))
        kept = await steelyard.upsert_account(Account(account="desk", time_zone="UTC"))
        assert kept.account.sealed_before == second
        back = await steelyard.upsert_account(Account(account="desk", sealed_before=first), unseal=True)
        assert back.account.sealed_before == first
        gone = await steelyard.upsert_account(Account(account="desk"), unseal=True)
        assert gone.account.sealed_before is None
    await book.close()
