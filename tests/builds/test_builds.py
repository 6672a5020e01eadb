"""Builds: which keys they fold, what they leave alone, how they end, and who does the work."""

import asyncio
import uuid
from decimal import Decimal

import pytest

from steelyard.accounting.errors import BuildAlreadyDone, InvalidField, NotFound, RequestIdReused
from steelyard.accounting.keys import Account
from steelyard.app import samples
from steelyard.operations.building import (
    BuildFilter,
    BuildMode,
    BuildPriority,
    BuildScope,
    BuildState,
    BuildTrigger,
    KeyState,
    RequestMark,
)
from tests.builds.desk import Desk, failed_checks, generic, key, scope
from tests.builds.oracle_check import oracle_book, stored_book

ROWS = [
    "a1,ACC,main,ES SEP25,BUY,2,6000,1.50,USD,2025-06-20T13:00:00Z",
    "a2,ACC,main,ES SEP25,SELL,2,6001,1.50,USD,2025-06-20T13:01:00Z",
    "a3,ACC,main,NQ SEP25,BUY,1,21000,,,2025-06-20T13:02:00Z",
    "a4,ACC,swing,NQ SEP25,SELL,1,21010,,,2025-06-20T16:02:00Z",
    "b1,OTHER,main,NQ SEP25,SELL,3,21010,,,2025-06-20T16:02:00Z",
]
LATE = "a0,ACC,main,ES SEP25,SELL,1,5999,,,2025-06-20T12:00:00Z"


def mark(body: bytes = b"body", method: str = "CreateBuild") -> RequestMark:
    return RequestMark("builds", uuid.UUID(int=7), method, body)


async def built(desk: Desk, rows: list[str] = ROWS) -> None:
    receipt = await desk.load(generic(rows))
    assert (await desk.run(receipt.record.build_id)).state is BuildState.SUCCEEDED


async def versions(desk: Desk) -> dict[tuple[str, ...], int]:
    return {tuple(key): row["version"] for key, row in (await desk.positions()).items()}


@pytest.mark.parametrize(
    ("wanted", "keys"),
    [
        (BuildScope(), 4),
        (scope(accounts=("ACC",)), 3),
        (scope(pairs=(("ACC", "NQ SEP25"),)), 2),
        (scope(pairs=(("ACC", "NQ SEP25"), ("OTHER", "NQ SEP25"))), 3),
        (scope(fills=(("ACC", "a1"), ("ACC", "a2"))), 1),
        (scope(accounts=("NOBODY",)), 0),
    ],
)
@pytest.mark.parametrize("mode", [BuildMode.FULL, BuildMode.INCREMENTAL])
async def test_a_build_folds_the_keys_of_its_scope(desk: Desk, wanted: BuildScope, keys: int, mode: BuildMode) -> None:
    await desk.load(generic(ROWS), is_auto_build=False)
    build = await desk.run((await desk.create(wanted, mode)).build_id)
    assert (build.state, build.keys_total, build.keys_done) == (BuildState.SUCCEEDED, keys, keys)
    assert build.percent == 100
    assert len(await desk.positions()) == keys
    assert await desk.value("SELECT count(*) FROM stale_keys") == 4 - keys


async def test_a_fill_that_is_unknown_makes_no_build(desk: Desk) -> None:
    await built(desk)
    with pytest.raises(NotFound, match="nobody"):
        await desk.create(scope(fills=(("ACC", "a1"), ("ACC", "nobody"))))


async def test_an_incremental_build_with_nothing_stale_is_done_at_once(desk: Desk) -> None:
    await built(desk)
    build = await desk.create()
    assert (build.state, build.keys_total) == (BuildState.SUCCEEDED, 0)
    assert build.percent == 100


async def test_a_full_build_of_keys_that_come_out_the_same_steps_no_version(desk: Desk) -> None:
    await built(desk)
    before = await desk.positions()
    events = await desk.value("SELECT count(*) FROM position_events")
    build = await desk.run((await desk.create(mode=BuildMode.FULL)).build_id)
    assert build.state is BuildState.SUCCEEDED
    assert await desk.positions() == before
    assert await desk.value("SELECT count(*) FROM position_events") == events


async def test_a_full_build_repairs_what_was_changed_behind_its_back(desk: Desk) -> None:
    await built(desk)
    right = await desk.book()
    await desk.plant("UPDATE positions SET gross_average = 77, cash_average = 77 WHERE instrument = 'ES SEP25'")
    await desk.plant("UPDATE round_trips SET entered_value = 1 WHERE instrument = 'ES SEP25'")
    await desk.plant("DELETE FROM lots")
    await desk.run((await desk.create(mode=BuildMode.FULL)).build_id)
    assert await desk.book() == right
    assert sorted((await versions(desk)).values()) == [2, 2, 2, 2]


async def test_a_late_fill_is_folded_in_its_place_and_others_stay_as_they_are(desk: Desk) -> None:
    await built(desk)
    before = await desk.positions()
    receipt = await desk.load(generic([LATE]))
    build = await desk.run(receipt.record.build_id)
    assert build.state is BuildState.SUCCEEDED
    after = await desk.positions()
    changed = [key for key in before if after[key] != before[key]]
    assert [key.instrument for key in changed] == ["ES SEP25"]
    assert after[changed[0]]["quantity"] == -1
    trips = await desk.rows("SELECT direction FROM round_trips WHERE instrument = 'ES SEP25' ORDER BY opened_at")
    assert [row["direction"] for row in trips] == ["SHORT", "LONG", "SHORT"]


async def test_every_way_of_building_ends_in_the_same_book(desk: Desk) -> None:
    lines = list(samples.generic_csv(11, fills=3_000, accounts=3))
    for part in (lines[1_500:], lines[500:1_000], lines[:500], lines[1_000:1_500]):
        content = "".join(part if part[0] == lines[0] else [lines[0], *part]).encode()
        receipt = await desk.load(content)
        await desk.run(receipt.record.build_id)
    by_parts = await desk.book()
    assert await stored_book(desk, "DESK-00002") == await oracle_book(desk, "DESK-00002")
    await desk.plant("TRUNCATE positions, round_trips, lots, checkpoints, position_events")
    await desk.plant(
        "INSERT INTO stale_keys SELECT account, book, instrument, leg, min(executed_at), 0, '!', max(executed_at), 0, "
        "'~', count(*), 1, 'IMPORT', false FROM fills GROUP BY 1, 2, 3, 4"
    )
    await desk.run((await desk.create()).build_id)
    assert await desk.book() == by_parts


async def test_a_check_tells_what_would_change_and_changes_nothing(desk: Desk) -> None:
    await built(desk)
    before, stale = await desk.positions(), await desk.rows("SELECT * FROM stale_keys")
    await desk.load(generic([LATE]), is_auto_build=False)
    build = await desk.run((await desk.create(mode=BuildMode.FULL, is_validate_only=True)).build_id)
    assert build.state is BuildState.SUCCEEDED
    previews = {result.key.instrument + result.key.book: result.preview for result in build.results}
    late = previews["ES SEP25main"]
    assert late is not None
    assert late.changes
    assert (late.quantity_before, late.quantity_after) == (Decimal(0), Decimal(-1))
    assert (late.round_trips_before, late.round_trips_after) == (1, 3)
    assert (late.net_before, late.net_after) == (Decimal(97), Decimal(-3))
    same = previews["NQ SEP25swing"]
    assert same is not None
    assert not same.changes
    assert await desk.positions() == before
    assert stale == []
    assert await desk.value("SELECT count(*) FROM stale_keys") == 1


async def test_a_build_is_immediate_when_it_is_small(desk: Desk) -> None:
    await desk.load(generic(ROWS), is_auto_build=False)
    assert (await desk.create()).priority is BuildPriority.IMMEDIATE
    assert (await desk.create(priority=BuildPriority.BULK)).priority is BuildPriority.BULK
    large = await desk.load("".join(samples.generic_csv(8, fills=1_001, accounts=1)).encode())
    assert large.record.build_id is not None
    assert (await desk.build(large.record.build_id)).priority is BuildPriority.BULK


async def test_a_request_for_a_build_is_answered_once(desk: Desk) -> None:
    await desk.load(generic(ROWS), is_auto_build=False)
    first = await desk.create(mark=mark())
    again = await desk.create(mark=mark())
    assert again.build_id == first.build_id
    with pytest.raises(RequestIdReused):
        await desk.create(mark=mark(b"another body"))
    assert await desk.value("SELECT count(*) FROM builds") == 1


async def test_a_failed_key_keeps_its_rows_and_a_retry_builds_only_it(desk: Desk) -> None:
    await built(desk)
    before = await desk.positions()
    receipt = await desk.load(generic([LATE, "a9,ACC,main,NQ SEP25,SELL,1,21020,,,2025-06-20T17:02:00Z"]))
    await desk.plant("UPDATE fills SET price = -5 WHERE fill_id = 'a0'")
    build = await desk.run(receipt.record.build_id)
    assert (build.state, build.keys_done, build.keys_failed) == (BuildState.PARTIALLY_SUCCEEDED, 2, 1)
    assert failed_checks(build.results) == {"ES SEP25": ["prices"]}
    assert build.results[0].errors[0].fill_id == "a0"
    failed = key("ACC", "main", "ES SEP25")
    assert (await desk.positions())[failed] == before[failed]
    assert await desk.sweep.sweep() == 0, "what failed waits for somebody who asks"
    await desk.plant("UPDATE fills SET price = 5999 WHERE fill_id = 'a0'")
    again = await desk.retry(build.build_id)
    assert (again.retry_of, again.keys_total, again.trigger) == (build.build_id, 1, BuildTrigger.RETRY)
    assert (await desk.run(again.build_id)).state is BuildState.SUCCEEDED
    assert (await desk.positions())[failed]["quantity"] == -1
    with pytest.raises(BuildAlreadyDone):
        await desk.retry(again.build_id)


async def test_a_build_that_was_not_started_is_cancelled_at_once(desk: Desk) -> None:
    receipt = await desk.load(generic(ROWS))
    build, _ = await desk.cancel(receipt.record.build_id, None)
    assert build.state is BuildState.CANCELLED
    assert await desk.run(build.build_id) == await desk.build(build.build_id)
    assert await desk.positions() == {}
    assert await desk.sweep.sweep() == 0, "what was cancelled is not swept up"
    with pytest.raises(BuildAlreadyDone):
        await desk.cancel(build.build_id, None)
    with pytest.raises(NotFound):
        await desk.cancel(uuid.uuid4(), None)
    again = await desk.run((await desk.retry(build.build_id)).build_id)
    assert (again.state, again.keys_done) == (BuildState.SUCCEEDED, 4)


async def test_a_running_build_stops_between_keys_and_keeps_what_is_finished(desk: Desk) -> None:
    receipt = await desk.load("".join(samples.generic_csv(9, fills=150_000, accounts=10)).encode())
    work = asyncio.ensure_future(desk.run(receipt.record.build_id))
    while not await desk.value("SELECT count(*) FROM positions"):  # noqa: ASYNC110 - the store is looked at
        await asyncio.sleep(0.01)
    asked, _ = await desk.cancel(receipt.record.build_id, mark(method="CancelBuild"))
    replayed, is_replayed = await desk.cancel(receipt.record.build_id, mark(method="CancelBuild"))
    assert is_replayed
    assert replayed.build_id == asked.build_id
    build = await work
    assert build.state is BuildState.CANCELLED
    finished = [result for result in build.results if result.state is KeyState.SUCCEEDED]
    assert 0 < len(finished) < build.keys_total
    assert len(await desk.positions()) == len(finished)
    waiting = (await desk.load(generic(ROWS))).record.build_id
    assert waiting is not None
    with pytest.raises(InvalidField, match="build_id"):
        await desk.retry(waiting)


async def test_a_build_out_of_time_fails_with_what_is_left(desk: Desk) -> None:
    receipt = await desk.load(generic(ROWS))
    await desk.plant("UPDATE builds SET timeout_s = 0")
    build = await desk.run(receipt.record.build_id)
    assert build.state is BuildState.FAILED
    assert set(failed_checks(build.results)) == {"ES SEP25", "NQ SEP25"}


async def test_the_sweep_ends_builds_whose_time_is_over(desk: Desk) -> None:
    receipt = await desk.load(generic(ROWS))
    await desk.plant("UPDATE builds SET state = 'RUNNING', timeout_s = 1, started_at = now() - interval '1 minute'")
    await desk.sweep.sweep()
    assert receipt.record.build_id is not None
    build = await desk.build(receipt.record.build_id)
    assert (build.state, build.error) == (BuildState.FAILED, "the build took longer than it may")


async def test_the_sweep_builds_stale_keys_that_nobody_builds(desk: Desk) -> None:
    await desk.load(generic(ROWS))
    assert await desk.sweep.sweep() == 0, "the import's own build has them"
    await desk.plant("DELETE FROM builds")
    assert await desk.sweep.sweep() == 1
    assert await desk.sweep.sweep() == 0
    (row,) = await desk.rows("SELECT build_id, trigger, priority FROM builds")
    assert tuple(row)[1:] == ("STALE", "IMMEDIATE")
    assert (await desk.run(row["build_id"])).state is BuildState.SUCCEEDED


async def test_builds_are_listed_newest_first_by_filter_and_page(desk: Desk) -> None:
    receipts = [await desk.load(generic([row])) for row in ROWS]
    ids = [receipt.record.build_id for receipt in reversed(receipts)]
    first = await desk.builds.page(BuildFilter(), size=3, after=None)
    second = await desk.builds.page(BuildFilter(), size=3, after=first.next_after)
    assert [build.build_id for build in [*first.rows, *second.rows]] == ids
    assert second.next_after is None
    of_other = await desk.builds.page(BuildFilter(account=Account("OTHER")), size=10, after=None)
    assert [build.build_id for build in of_other.rows] == ids[:1]
    wanted = BuildFilter(states=(BuildState.PENDING,), import_id=receipts[0].record.import_id)
    assert [build.build_id for build in (await desk.builds.page(wanted, size=10, after=None)).rows] == ids[-1:]


async def test_old_builds_are_forgotten(desk: Desk) -> None:
    await built(desk)
    await desk.plant("UPDATE builds SET finished_at = now() - interval '31 days'")
    await desk.sweep.tidy()
    assert await desk.value("SELECT count(*) FROM builds") == 0


async def test_a_worker_takes_an_imports_build_and_watchers_see_its_end(desk: Desk) -> None:
    async with desk.worker():
        receipt = await desk.load("".join(samples.generic_csv(10, fills=30_000, accounts=10)).encode())
        assert receipt.record.build_id is not None
        seen = [build async for build in desk.feed.watch(receipt.record.build_id)]
    assert seen[-1].state is BuildState.SUCCEEDED
    assert all(not build.state.is_terminal for build in seen[:-1])
    percents = [build.percent for build in seen]
    assert percents == sorted(percents)
    assert len(seen[-1].results) == 50
    assert len(seen[-1].commits) == 10
    again = [build async for build in desk.feed.watch(receipt.record.build_id)]
    assert [build.state for build in again] == [BuildState.SUCCEEDED]
    assert await desk.value("SELECT count(*) FROM procrastinate_jobs") == 0


async def test_watching_an_unknown_build_says_so(desk: Desk) -> None:
    with pytest.raises(NotFound):
        async for _ in desk.feed.watch(uuid.uuid4()):
            pass


async def test_many_watchers_of_a_build_share_one_poller(desk: Desk) -> None:
    async with desk.worker():
        receipt = await desk.load("".join(samples.generic_csv(10, fills=20_000, accounts=10)).encode())
        build_id = receipt.record.build_id
        assert build_id is not None

        async def last() -> BuildState:
            state = BuildState.PENDING
            async for build in desk.feed.watch(build_id):
                state = build.state
            return state

        assert await asyncio.gather(*(last() for _ in range(20))) == [BuildState.SUCCEEDED] * 20


async def test_writers_that_are_faster_make_a_build_fold_again(desk: Desk) -> None:
    content = "".join(samples.generic_csv(12, fills=40_000, accounts=1, instruments=("ES SEP25",))).encode()
    receipt = await desk.load(content)
    work = asyncio.ensure_future(desk.run(receipt.record.build_id))
    more = []
    number = 0
    while not work.done():
        number += 1
        row = (
            f"x{number},DESK-00001,main,ES SEP25,BUY,1,6000,,,2025-06-20T23:{number // 60 % 60:02d}:{number % 60:02d}Z"
        )
        more.append((await desk.load(generic([row]))).record.build_id)
    assert (await work).state is BuildState.SUCCEEDED
    for build_id in more:
        assert (await desk.run(build_id)).state is BuildState.SUCCEEDED
    total = await desk.value("SELECT sum(delta) FROM fills")
    assert await desk.value("SELECT quantity FROM positions") == total
    assert await desk.value("SELECT count(*) FROM stale_keys") == 0


async def test_builds_of_one_key_wait_for_each_other_and_none_is_lost(desk: Desk) -> None:
    await desk.load("".join(samples.generic_csv(13, fills=20_000, accounts=2)).encode(), is_auto_build=False)
    builds = [await desk.create(mode=BuildMode.FULL) for _ in range(3)]
    done = await asyncio.gather(*(desk.run(build.build_id) for build in builds))
    assert [build.state for build in done] == [BuildState.SUCCEEDED] * 3
    assert set((await versions(desk)).values()) == {1}


def second(number: int) -> str:
    return f"2025-06-20T{13 + number // 3_600:02d}:{number // 60 % 60:02d}:{number % 60:02d}"


async def test_a_refold_that_stops_early_equals_one_from_the_start(desk: Desk) -> None:
    """Thousands of trips follow the late ones; what was being read of them when the fold stopped is let go."""
    flat = [
        f"f{number},ACC,main,ES SEP25,{'BUY' if number % 2 else 'SELL'},1,{6000 + number % 7},,,{second(number)}Z"
        for number in range(1, 16_001)
    ]
    await desk.run((await desk.load(generic(flat))).record.build_id)
    late = [
        f"l1,ACC,main,ES SEP25,SELL,2,6010,,,{second(10)}.500Z",
        f"l2,ACC,main,ES SEP25,BUY,2,6000,,,{second(10)}.600Z",
    ]
    ended = await desk.run((await desk.load(generic(late))).record.build_id)
    assert (ended.state, ended.results[0].version) == (BuildState.SUCCEEDED, 2)
    assert ended.results[0].round_trips == 8_001
    stopped_early = await desk.book()
    await desk.run((await desk.create(mode=BuildMode.FULL)).build_id)
    assert await desk.book() == stopped_early
    assert set((await versions(desk)).values()) == {2}
