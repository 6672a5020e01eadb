"""Taking an import back: what goes, what stays because somebody else attests it, and how it comes again."""

import uuid

import pytest

from steelyard.accounting.entries import Fill, Side
from steelyard.accounting.errors import NotFound, PeriodSealed, RequestIdReused
from steelyard.accounting.keys import Account, FillId
from steelyard.accounting.units import parse_decimal
from steelyard.operations.apply_fills import WriteOptions
from steelyard.operations.building import BuildState, RequestMark
from steelyard.operations.importing import ImportCounts, ImportFilter, ImportState
from steelyard.operations.roll_back_import import RollBackImport
from steelyard.storage.import_rollback import PostgresRollback
from tests.builds.desk import Desk, clock, generic, key

ROWS = [
    "a1,ACC,main,ES SEP25,BUY,2,6000,1.50,USD,2025-06-20T13:00:00Z",
    "a2,ACC,main,ES SEP25,SELL,2,6001,1.50,USD,2025-06-20T13:01:00Z",
    "a3,ACC,main,NQ SEP25,BUY,1,21000,,,2025-06-20T13:02:00Z",
]


def rollback(desk: Desk) -> RollBackImport:
    return RollBackImport(PostgresRollback(desk.database), clock)


async def states(desk: Desk) -> dict[str, str]:
    return {row["fill_id"]: row["state"] for row in await desk.rows("SELECT fill_id, state FROM fills")}


async def test_an_import_is_withdrawn_and_its_positions_become_flat(desk: Desk) -> None:
    receipt = await desk.load(generic(ROWS))
    await desk.run(receipt.record.build_id)
    done = await rollback(desk).run(receipt.record.import_id)
    assert (done.record.state, done.record.withdrawn, done.is_replayed) == (ImportState.ROLLED_BACK, 3, False)
    assert [commit.account for commit in done.commits] == ["ACC"]
    assert (await desk.run(done.build_id)).state is BuildState.SUCCEEDED
    assert {row["quantity"] for row in (await desk.positions()).values()} == {0}
    assert {row["version"] for row in (await desk.positions()).values()} == {2}
    assert await desk.value("SELECT count(*) FROM round_trips") == 0
    revisions = await desk.rows("SELECT fill_id, revision, state FROM fill_revisions ORDER BY fill_id")
    assert [tuple(row) for row in revisions] == [("a1", 1, "LIVE"), ("a2", 1, "LIVE"), ("a3", 1, "LIVE")]


async def test_a_second_roll_back_says_that_it_was_done(desk: Desk) -> None:
    receipt = await desk.load(generic(ROWS))
    first = await rollback(desk).run(receipt.record.import_id)
    again = await rollback(desk).run(receipt.record.import_id)
    assert again.is_replayed
    assert again.record == first.record


async def test_recording_the_rows_again_brings_them_back(desk: Desk) -> None:
    receipt = await desk.load(generic(ROWS))
    await desk.run(receipt.record.build_id)
    right = await desk.book()
    await desk.run((await rollback(desk).run(receipt.record.import_id)).build_id)
    again = await desk.load(generic(ROWS))
    assert again.record.counts == ImportCounts(row_count=3, recorded=3)
    await desk.run(again.record.build_id)
    assert await desk.book() == right
    assert set((await states(desk)).values()) == {"LIVE"}
    assert await desk.value("SELECT min(revision) FROM fills") == 3


async def test_what_another_import_attests_stays_until_that_one_goes_too(desk: Desk) -> None:
    first = await desk.load(generic(ROWS[:2]))
    second = await desk.load(generic(ROWS))
    done = await rollback(desk).run(first.record.import_id)
    assert (done.record.withdrawn, done.build_id) == (0, None)
    assert await states(desk) == {"a1": "LIVE", "a2": "LIVE", "a3": "LIVE"}
    assert (await rollback(desk).run(second.record.import_id)).record.withdrawn == 3
    assert set((await states(desk)).values()) == {"WITHDRAWN"}


async def test_an_import_that_was_taken_back_attests_nothing_any_more(desk: Desk) -> None:
    first = await desk.load(generic(ROWS[:2]))
    second = await desk.load(generic(ROWS))
    assert (await rollback(desk).run(second.record.import_id)).record.withdrawn == 1
    assert (await rollback(desk).run(first.record.import_id)).record.withdrawn == 2
    assert await desk.value("SELECT count(*) FROM fill_attestations") == 0


async def test_what_a_caller_recorded_or_repeated_stays(desk: Desk) -> None:
    desk.fills.start()
    await desk.load(generic(ROWS[2:]))
    fill = Fill(
        key=key("ACC", "main", "ES SEP25"),
        fill_id=FillId("a1"),
        side=Side.BUY,
        quantity=parse_decimal("2", field="q"),
        price=parse_decimal("6000", field="p"),
        fee=parse_decimal("1.5", field="f"),
        executed_at=clock().replace(2025, 6, 20, 13, 0, 0, 0),
    )
    await desk.fills.record(fill, options=WriteOptions(), caller="test")
    receipt = await desk.load(generic(ROWS[:2]))
    assert receipt.record.counts == ImportCounts(row_count=2, recorded=1, repeated=1)
    repeated = Fill(
        key=fill.key,
        fill_id=FillId("a2"),
        side=Side.SELL,
        quantity=fill.quantity,
        price=parse_decimal("6001", field="p"),
        fee=fill.fee,
        executed_at=fill.executed_at.replace(minute=1),
    )
    await desk.fills.record(repeated, options=WriteOptions(), caller="test")
    assert (await rollback(desk).run(receipt.record.import_id)).record.withdrawn == 0
    assert await states(desk) == {"a1": "LIVE", "a2": "LIVE", "a3": "LIVE"}
    await desk.fills.close()


async def test_what_cannot_be_taken_back_is_refused(desk: Desk) -> None:
    receipt = await desk.load(generic(ROWS))
    with pytest.raises(NotFound):
        await rollback(desk).run(uuid.uuid4())
    await desk.plant("UPDATE accounts SET sealed_before = '2025-06-20 13:00:30Z'")
    with pytest.raises(PeriodSealed):
        await rollback(desk).run(receipt.record.import_id)
    assert set((await states(desk)).values()) == {"LIVE"}


async def test_a_request_id_is_not_used_for_another_import(desk: Desk) -> None:
    receipts = [await desk.load(generic([row])) for row in ROWS[:2]]
    marks = [RequestMark("builds", uuid.UUID(int=9), "RollbackImport", body) for body in (b"first", b"second")]
    assert (await rollback(desk).run(receipts[0].record.import_id, marks[0])).record.withdrawn == 1
    assert (await rollback(desk).run(receipts[0].record.import_id, marks[0])).is_replayed
    with pytest.raises(RequestIdReused):
        await rollback(desk).run(receipts[1].record.import_id, marks[1])


async def test_imports_are_listed_newest_first_by_account_and_page(desk: Desk) -> None:
    receipts = [await desk.load(generic([row.replace("ACC", name)])) for row, name in zip(ROWS, "ABA", strict=True)]
    ids = [receipt.record.import_id for receipt in reversed(receipts)]
    first = await desk.store.page(ImportFilter(), size=2, after=None)
    second = await desk.store.page(ImportFilter(), size=2, after=first.next_after)
    assert [record.import_id for record in [*first.rows, *second.rows]] == ids
    of_a = await desk.store.page(ImportFilter(account=Account("A")), size=5, after=None)
    assert [record.import_id for record in of_a.rows] == [ids[0], ids[2]]
    only = await desk.store.page(ImportFilter(import_id=ids[1]), size=5, after=None)
    assert [record.import_id for record in only.rows] == [ids[1]]
