"""Importing files: what is recorded, repeated, conflicting and rejected, and what it leaves to build."""

import asyncio
import uuid
from datetime import timedelta
from decimal import Decimal

import pytest

from steelyard.accounting.errors import InvalidField, QueueFull, RequestIdReused
from steelyard.app import samples
from steelyard.operations.building import BuildPriority, BuildState
from steelyard.operations.import_trades import ImportLimits, ImportRequest
from steelyard.operations.importing import ImportCounts, ImportState, RowCategory
from tests.builds.desk import NINJATRADER_HEADER, Desk, chunked, clock, generic, reasons

MORNING = [
    "a1,ACC,main,ES SEP25,BUY,2,6000.25,1.50,USD,2025-06-20T13:00:00Z",
    "a2,ACC,main,ES SEP25,SELL,2,6001.25,1.50,USD,2025-06-20T13:01:00Z",
    "a3,ACC,main,NQ SEP25,BUY,1,21000,,,2025-06-20T13:02:00Z",
]
NOON = "a4,ACC,main,NQ SEP25,SELL,1,21010,,,2025-06-20T16:02:00Z"


async def test_a_file_is_recorded_once_and_its_keys_are_built(desk: Desk) -> None:
    receipt = await desk.load(generic(MORNING))
    assert receipt.record.state is ImportState.DONE
    assert receipt.record.counts == ImportCounts(row_count=3, recorded=3)
    assert receipt.results == []
    build = await desk.run(receipt.record.build_id)
    assert (build.state, build.priority, build.keys_done) == (BuildState.SUCCEEDED, BuildPriority.IMMEDIATE, 2)
    quantities = {key.instrument: row["quantity"] for key, row in (await desk.positions()).items()}
    assert quantities == {"ES SEP25": 0, "NQ SEP25": 1}
    assert await desk.value("SELECT count(*) FROM stale_keys") == 0


async def test_a_growing_file_records_only_its_new_rows_and_rebuilds_only_their_keys(desk: Desk) -> None:
    first = await desk.load(generic(MORNING))
    await desk.run(first.record.build_id)
    before = await desk.positions()
    second = await desk.load(generic([*MORNING, NOON]))
    assert second.record.counts == ImportCounts(row_count=4, recorded=1, repeated=3)
    build = await desk.run(second.record.build_id)
    assert [result.key.instrument for result in build.results] == ["NQ SEP25"]
    after = await desk.positions()
    untouched = next(key for key in before if key.instrument == "ES SEP25")
    assert after[untouched] == before[untouched]
    touched = next(key for key in before if key.instrument == "NQ SEP25")
    assert after[touched]["version"] == before[touched]["version"] + 1


async def test_a_repeat_that_brings_nothing_new_leaves_no_build(desk: Desk) -> None:
    await desk.load(generic(MORNING))
    again = await desk.load(generic(MORNING))
    assert again.record.counts == ImportCounts(row_count=3, repeated=3)
    assert again.record.build_id is None
    assert again.commits == []


async def test_a_request_id_gets_its_first_answer_again(desk: Desk) -> None:
    request_id = uuid.uuid4()
    first = await desk.load(generic(MORNING), request_id=request_id)
    again = await desk.load(generic(MORNING), request_id=request_id)
    assert again.is_replayed
    assert again.record == first.record
    with pytest.raises(RequestIdReused):
        await desk.load(generic([*MORNING, NOON]), request_id=request_id)
    assert await desk.value("SELECT count(*) FROM imports") == 1


async def test_two_calls_with_one_request_id_at_once_import_once(desk: Desk) -> None:
    request_id = uuid.uuid4()
    receipts = await asyncio.gather(*(desk.load(generic(MORNING), request_id=request_id) for _ in range(2)))
    assert sorted(receipt.is_replayed for receipt in receipts) == [False, True]
    assert receipts[0].record == receipts[1].record


async def test_the_same_id_with_other_content_is_a_conflict_and_changes_nothing(desk: Desk) -> None:
    await desk.load(generic(MORNING))
    other = MORNING[0].replace("6000.25", "6000.50").replace(",2,", ",3,")
    receipt = await desk.load(generic([other, NOON]))
    assert receipt.record.counts == ImportCounts(row_count=2, recorded=1, conflicting=1)
    (said,) = receipt.results
    assert (said.row_number, said.category, said.field) == (2, RowCategory.CONFLICT, "quantity")
    assert said.reason == "FILL_CONFLICT: fill a1 is recorded with another quantity, price"
    assert said.raw == other
    assert await desk.value("SELECT price FROM fills WHERE fill_id = 'a1'") == Decimal("6000.25")


async def test_a_row_that_stands_twice_in_a_file_is_recorded_once(desk: Desk) -> None:
    receipt = await desk.load(generic([*MORNING, MORNING[1], MORNING[2].replace("21000", "21001")]))
    assert receipt.record.counts == ImportCounts(row_count=5, recorded=3, conflicting=1, rejected=1)
    assert reasons(receipt) == [(5, RowCategory.DUPLICATE, None), (6, RowCategory.CONFLICT, "price")]


async def test_values_that_are_written_otherwise_are_the_same_content(desk: Desk) -> None:
    await desk.load(generic(MORNING))
    receipt = await desk.load(generic([MORNING[0].replace("6000.25", "6000.2500").replace("USD", "")]))
    assert receipt.record.counts == ImportCounts(row_count=1, repeated=1)


async def test_rows_that_the_store_refuses_leave_the_others(desk: Desk) -> None:
    await desk.load(generic(MORNING[:1]))
    await desk.plant("UPDATE accounts SET sealed_before = '2025-01-01Z' WHERE account = 'ACC'")
    later = (clock() + timedelta(minutes=10)).isoformat()
    rows = [
        "b1,ACC,main,XQZ SEP25,BUY,1,10,,,2025-06-20T13:00:00Z",
        "b2,ACC,main,ES SEP25,BUY,1,99999999999999999999,,,2025-06-20T13:00:00Z",
        f"b3,ACC,main,ES SEP25,BUY,1,6000,,,{later}",
        "b4,ACC,main,ES SEP25,BUY,1,6000,,,2024-12-31T23:59:59Z",
        "b5,ACC,main,ES SEP25,BUY,1,6000,,,2025-06-20T13:00:00Z",
        "b6,ACC,main,ES SEP25,HOLD,1,6000,,,2025-06-20T13:00:00Z",
    ]
    receipt = await desk.load(generic(rows))
    assert receipt.record.counts == ImportCounts(row_count=6, recorded=1, rejected=5)
    said = [(result.row_number, result.field, result.reason.split(":")[0]) for result in receipt.results]
    assert said[:4] == [
        (2, "instrument", "UNKNOWN_INSTRUMENT"),
        (3, "quantity", "NUMERIC_LIMIT"),
        (4, "executed_at", "lies more than 5 minutes in the future"),
        (5, "executed_at", "PERIOD_SEALED"),
    ]
    assert said[4][:2] == (7, "side")
    assert [result.raw for result in receipt.results[:4]] == rows[:4]
    assert await desk.store.import_results(receipt.record.import_id, limit=10) == receipt.results


async def test_a_day_with_every_kind_of_bad_row_adds_up(desk: Desk) -> None:
    receipt = await desk.load("".join(samples.bad_day(3)).encode())
    counts = receipt.record.counts
    assert (counts.recorded, counts.conflicting, counts.warnings) == (21, 1, 1)
    assert counts.row_count == counts.recorded + counts.repeated + counts.conflicting + counts.rejected
    assert {result.category for result in receipt.results} == set(RowCategory)


async def test_accounts_are_made_after_the_kind_of_file(desk: Desk) -> None:
    row = "MNQ SEP25,Buy,2,21850.25,6/20/2025 9:06:48 AM,1,Entry,2 L,,,$1.04,1,SIM,Live,"
    await desk.load(f"{NINJATRADER_HEADER}\n{row}\n".encode())
    await desk.load(generic(MORNING))
    rows = await desk.rows("SELECT account, cost_method, lot_method FROM accounts ORDER BY account")
    assert [tuple(row) for row in rows] == [("ACC", "AVERAGE", "FIFO"), ("SIM", "LOTS", "FIFO")]


@pytest.mark.parametrize("content", [b"", b"\n", b"a,b,c\n1,2,3\n", "x".encode("utf-16")])
async def test_a_file_of_no_known_format_is_refused_without_a_trace(desk: Desk, content: bytes) -> None:
    with pytest.raises(InvalidField):
        await desk.load(content)
    assert await desk.value("SELECT count(*) FROM imports") == 0


async def test_a_file_over_a_limit_is_refused_without_a_trace(database_url: str) -> None:
    desk = Desk(database_url, ImportLimits(file_bytes_max=1_000, rows_max=3, row_bytes_max=100))
    many = generic([f"c{number}," + MORNING[0].split(",", 1)[1] for number in range(4)])
    with pytest.raises(InvalidField, match="more than 3 rows"):
        await desk.load(many)
    with pytest.raises(InvalidField, match="row of more than 100 bytes"):
        await desk.load(generic([MORNING[0] + "0" * 100]))
    with pytest.raises(InvalidField, match="larger than 1000 bytes"):
        await desk.load(many * 4)
    with pytest.raises(InvalidField, match="chunk"):
        await desk.imports.run(ImportRequest(uuid.uuid4(), "big"), chunked(b"x" * 3_000_000, size=3_000_000))
    assert await desk.value("SELECT count(*) FROM fills") == 0
    await desk.close()


async def test_checking_a_file_counts_everything_and_keeps_nothing(desk: Desk) -> None:
    await desk.load(generic(MORNING[:1]))
    heads = await desk.rows("SELECT * FROM account_heads")
    receipt = await desk.load(generic([*MORNING, MORNING[2]]), is_validate_only=True)
    assert receipt.record.counts == ImportCounts(row_count=4, recorded=2, repeated=1, rejected=1)
    assert receipt.record.is_validated_only
    assert receipt.commits == ()
    assert await desk.value("SELECT count(*) FROM fills") == 1
    assert await desk.value("SELECT count(*) FROM imports") == 1
    assert await desk.rows("SELECT * FROM account_heads") == heads


async def test_fills_of_an_import_without_build_wait_until_somebody_asks(desk: Desk) -> None:
    receipt = await desk.load(generic(MORNING), is_auto_build=False)
    assert receipt.record.build_id is None
    assert await desk.sweep.sweep() == 0
    assert await desk.positions() == {}
    build = await desk.run((await desk.create()).build_id)
    assert (build.state, build.keys_done) == (BuildState.SUCCEEDED, 2)
    assert len(await desk.positions()) == 2


async def test_an_import_succeeds_though_its_build_fails(desk: Desk) -> None:
    receipt = await desk.load(generic(MORNING))
    await desk.plant("UPDATE fills SET price = -1")
    build = await desk.run(receipt.record.build_id)
    assert build.state is BuildState.FAILED
    record = await desk.store.import_record(receipt.record.import_id)
    assert record is not None
    assert record.state is ImportState.DONE
    assert await desk.value("SELECT count(*) FROM fills") == 3


async def test_a_repeat_keeps_the_smaller_sequence_and_refolds_its_key(desk: Desk) -> None:
    header = "fill_id,account,book,instrument,side,quantity,price,fee,fee_currency,executed_at,source_sequence"
    row = "s{id},ACC,main,ES SEP25,{side},1,{price},,,2025-06-20T13:00:00Z,{sequence}"
    buy, sell = row.format(id=1, side="BUY", price=100, sequence=1), row.format(id=2, side="SELL", price=90, sequence=5)
    first = await desk.load(generic([buy, sell], header))
    await desk.run(first.record.build_id)
    assert await desk.value("SELECT direction FROM round_trips") == "LONG"
    earlier = await desk.load(generic([sell.replace(",5", ",0")], header))
    assert earlier.record.counts == ImportCounts(row_count=1, repeated=1)
    await desk.run(earlier.record.build_id)
    assert await desk.value("SELECT direction FROM round_trips") == "SHORT"
    later = await desk.load(generic([sell.replace(",5", ",9")], header))
    assert later.record.build_id is None


async def test_parts_are_merged_in_transactions_of_bounded_size(database_url: str) -> None:
    desk = Desk(database_url, ImportLimits(part_rows_max=25_000))
    content = "".join(samples.generic_csv(5, fills=60_000, accounts=2)).encode()
    receipt = await desk.load(content)
    assert receipt.record.counts == ImportCounts(row_count=60_000, recorded=60_000)
    sizes = [row[0] for row in await desk.rows("SELECT count(*) FROM fills GROUP BY commit_id")]
    assert len(sizes) == 3
    assert max(sizes) <= 25_000
    again = await desk.load(content)
    assert again.record.counts == ImportCounts(row_count=60_000, repeated=60_000)
    await desk.close()


async def test_a_file_half_known_is_told_apart_in_large_parts(desk: Desk) -> None:
    lines = list(samples.generic_csv(6, fills=10_000, accounts=2))
    await desk.load("".join(lines[:5_001]).encode())
    receipt = await desk.load("".join(lines).encode())
    assert receipt.record.counts == ImportCounts(row_count=10_000, recorded=5_000, repeated=5_000)


async def test_imports_beyond_those_that_may_run_are_turned_away(database_url: str) -> None:
    desk = Desk(database_url, ImportLimits(running_max=1))
    receipts = await asyncio.gather(desk.load(generic(MORNING)), desk.load(generic(MORNING)), return_exceptions=True)
    assert sum(isinstance(receipt, QueueFull) for receipt in receipts) == 1
    await desk.close()


async def test_an_import_whose_process_died_is_noted_and_a_repeat_completes_it(desk: Desk) -> None:
    receipt = await desk.load(generic(MORNING), request_id=(request_id := uuid.uuid4()))
    await desk.plant("UPDATE imports SET state = 'RUNNING', build_id = NULL")
    await desk.plant("DELETE FROM builds")
    await desk.sweep.sweep()
    record = await desk.store.import_record(receipt.record.import_id)
    assert record is not None
    assert record.state is ImportState.FAILED
    again = await desk.load(generic(MORNING), request_id=request_id)
    assert again.record.counts == ImportCounts(row_count=3, repeated=3)
    assert not again.is_replayed


async def test_a_caller_who_leaves_does_not_stop_an_import(desk: Desk) -> None:
    content = "".join(samples.generic_csv(7, fills=20_000, accounts=2)).encode()
    work = asyncio.ensure_future(desk.load(content))
    while not await desk.value("SELECT count(*) FROM imports"):  # noqa: ASYNC110 - the store is looked at
        await asyncio.sleep(0.01)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    (row,) = await desk.rows("SELECT state, recorded FROM imports")
    assert tuple(row) == ("DONE", 20_000)


async def test_the_kept_row_results_are_bounded_and_the_counts_complete(database_url: str) -> None:
    desk = Desk(database_url, ImportLimits(results_kept=5, results_answered=2))
    bad = [replace_id(number) for number in range(20)]
    receipt = await desk.load(generic([*MORNING, *bad]))
    assert receipt.record.counts == ImportCounts(row_count=23, recorded=3, rejected=20)
    assert len(receipt.results) == 2
    assert len(await desk.store.import_results(receipt.record.import_id, limit=100)) == 5
    await desk.close()


def replace_id(number: int) -> str:
    return f"r{number},ACC,main,ES SEP25,BUY,0,6000,,,2025-06-20T13:00:00Z"


async def test_names_that_cannot_be_right_are_refused(desk: Desk) -> None:
    with pytest.raises(InvalidField, match="file_name"):
        await desk.load(generic(MORNING), file_name="x" * 300)
    with pytest.raises(InvalidField, match="default_account"):
        await desk.load(generic(MORNING), default_account="a\tb")
