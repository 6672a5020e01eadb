"""Fills that were withdrawn and come again, by file or by call, in any order: the book is that of what is attested."""

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from uuid import UUID

import pytest

from steelyard.accounting.entries import Fill, Side
from steelyard.accounting.keys import Account, FillId, PositionKey
from steelyard.operations.building import BuildMode
from steelyard.operations.correct_fills import CorrectFills
from steelyard.operations.late_entries import RefoldLimits
from steelyard.operations.roll_back_import import RollBackImport
from steelyard.storage.import_rollback import PostgresRollback
from tests.builds.desk import Desk, clock, generic, key
from tests.builds.oracle_check import oracle_book, stored_book

START = datetime(2025, 6, 20, 13, tzinfo=UTC)
CALLER = UUID(int=0)


def fill_of(number: int, *, sequence: int = 0) -> Fill:
    """The same content for a number, whatever its sequence; few different times, so that sequences decide."""
    chance = random.Random(number)
    return Fill(
        key=key("ACC", "main", chance.choice(("ES SEP25", "NQ SEP25"))),
        fill_id=FillId(f"f{number:02}"),
        side=chance.choice((Side.BUY, Side.SELL)),
        quantity=Decimal(chance.randint(1, 4)),
        price=Decimal(chance.randint(24_000, 24_400)) / 4,
        fee=Decimal(chance.randint(0, 9)) / 4,
        executed_at=START + timedelta(seconds=number // 6),
        source_sequence=sequence,
    )


def row_of(fill: Fill) -> str:
    at = fill.executed_at.isoformat()
    return f"{fill.fill_id},ACC,main,{fill.key.instrument},{fill.side},{fill.quantity},{fill.price},{fill.fee},USD,{at}"


async def take_back(desk: Desk, import_id: UUID) -> None:
    await RollBackImport(PostgresRollback(desk.database), clock).run(import_id)


async def build(desk: Desk, mode: BuildMode = BuildMode.INCREMENTAL) -> None:
    await desk.run((await desk.create(mode=mode)).build_id)


@pytest.mark.parametrize("sequences", [(0, 0), (5, 7), (0, 3)])
async def test_a_withdrawn_fill_that_a_caller_records_comes_back_to_its_place(
    desk: Desk, sequences: tuple[int, int]
) -> None:
    desk.fills.start()
    receipt = await desk.load(generic([row_of(fill_of(number)) for number in (0, 1)]))
    await desk.run(receipt.record.build_id)
    right = await desk.book()
    await take_back(desk, receipt.record.import_id)
    await build(desk)
    for number, sequence in enumerate(sequences):
        came = await desk.fills.record(fill_of(number, sequence=sequence), caller="desk")
        assert (came.is_replayed, came.is_pending) == (False, False)
    assert await desk.book() == right
    await desk.fills.close()


async def test_a_withdrawn_fill_comes_back_to_a_smaller_sequence_and_keeps_the_old_one_with_its_revision(
    desk: Desk,
) -> None:
    desk.fills.start()
    # Three rows of one instrument and second, so of the ranks 0, 1 and 2.
    of_key = [[number for number in range(6) if fill_of(number).key == fill_of(one).key] for one in range(6)]
    numbers = max(of_key, key=len)[:3]
    receipt = await desk.load(generic([row_of(fill_of(number)) for number in numbers]))
    await take_back(desk, receipt.record.import_id)
    await desk.fills.record(fill_of(numbers[2], sequence=1), caller="desk")
    stored = "SELECT source_sequence FROM {} WHERE fill_id = $1 ORDER BY revision"
    fill_id = fill_of(numbers[2]).fill_id
    assert await desk.value(stored.format("fills"), fill_id) == 1
    assert [row[0] for row in await desk.rows(stored.format("fill_revisions"), fill_id)] == [2, 2]
    await desk.fills.close()


async def test_one_batch_that_tells_a_fill_twice_folds_it_at_the_smaller_sequence(desk: Desk) -> None:
    desk.fills.start()
    told = [fill_of(0, sequence=9), fill_of(1, sequence=4), fill_of(0, sequence=2)]
    result = await desk.fills.record_batch(told, caller="desk")
    assert [item.is_replayed for item in result.items if not isinstance(item, Exception)] == [False, False, True]
    folded = await desk.book()
    await build(desk, BuildMode.FULL)
    assert await desk.book() == folded
    await desk.fills.close()


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_is_imported_recorded_and_taken_back_the_book_is_that_of_what_is_attested(
    desk: Desk, seed: int
) -> None:
    chance, attests, files = random.Random(seed), defaultdict[int, set[UUID]](set), list[UUID]()
    desk.fills.start()
    for _ in range(25):
        numbers = sorted(chance.sample(range(24), chance.randint(1, 8)))
        act = chance.choice(("import", "import", "record", "record", "take back", "build"))
        if act == "import":
            receipt = await desk.load(generic([row_of(fill_of(number)) for number in numbers]), is_auto_build=False)
            files.append(receipt.record.import_id)
        elif act == "record":
            given = [fill_of(number, sequence=chance.randrange(4)) for number in numbers]
            await desk.fills.record_batch([*given, *chance.sample(given, 1)], caller="desk")
        elif act == "take back" and files:
            gone = files.pop(chance.randrange(len(files)))
            await take_back(desk, gone)
            for attesting in attests.values():
                attesting.discard(gone)
        elif act == "build":
            await build(desk)
        if act in ("import", "record"):
            for number in numbers:
                attests[number].add(files[-1] if act == "import" else CALLER)
    await build(desk)
    await desk.fills.close()
    live = {row[0] for row in await desk.rows("SELECT fill_id FROM fills WHERE state = 'LIVE'")}
    assert live == {fill_of(number).fill_id for number, attesting in attests.items() if attesting}
    await assert_right(desk)


async def assert_right(desk: Desk) -> None:
    """The book is what the oracle makes of the stored fills, and what a rebuild makes of them."""
    book = await desk.book()
    oracle = await oracle_book(desk, "ACC")
    assert {key: figures for key, figures in (await stored_book(desk, "ACC")).items() if key in oracle} == oracle
    await build(desk, BuildMode.FULL)
    assert await desk.book() == book


@pytest.mark.parametrize("seed", range(6))
async def test_a_fill_that_was_amended_goes_and_comes_back_as_it_was_amended(desk: Desk, seed: int) -> None:
    chance = random.Random(seed)
    desk.fills.start()
    correcting = CorrectFills(desk.ledger, clock, jitter=chance.random, limits=RefoldLimits())
    numbers = range(12)
    receipts = [await desk.load(generic([row_of(fill_of(number)) for number in numbers[part::2]])) for part in range(2)]
    for receipt in receipts:
        await desk.run(receipt.record.build_id)
    for number in chance.sample(numbers, 6):
        fill_id, other = fill_of(number).fill_id, fill_of(chance.choice(numbers))
        amendment = partial(amended, key=other.key, price=other.price)
        await correcting.amend(Account("ACC"), fill_id, expected_revision=1, amendment=amendment)
    await take_back(desk, receipts[0].record.import_id)
    if chance.random() < 0.5:
        await build(desk)
    for number in chance.sample(numbers, 8):
        await desk.fills.record(fill_of(number, sequence=chance.randrange(3)), caller="desk")
    await build(desk)
    await assert_right(desk)
    await desk.fills.close()


async def test_a_withdrawn_fill_that_is_amended_back_adds_itself_to_what_waits_and_takes_nothing_away(
    desk: Desk,
) -> None:
    receipt = await desk.load(generic([row_of(fill_of(number)) for number in range(4)]))
    await desk.run(receipt.record.build_id)
    await take_back(desk, receipt.record.import_id)
    await build(desk)
    correcting = CorrectFills(desk.ledger, clock, jitter=lambda: 0.5, limits=RefoldLimits(0, 0))
    fill = fill_of(0)
    amendment = partial(amended, key=fill.key, price=Decimal(6_123))
    await correcting.amend(Account("ACC"), fill.fill_id, expected_revision=2, amendment=amendment)
    waits = (await desk.positions())[fill.key]
    assert (waits["pending_quantity"], waits["pending_fees"], waits["pending_fills"]) == (fill.delta, fill.fee, 1)
    await build(desk)
    await assert_right(desk)


def amended(fill: Fill, *, key: PositionKey, price: Decimal) -> Fill:
    """The same fill on another key at another price."""
    return fill._replace(key=key, price=price)
