"""Imports while the store's statistics say nothing yet of what they write, and while others seal."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from steelyard.accounting.errors import PeriodSealed
from steelyard.app import samples
from steelyard.operations.importing import ImportCounts
from steelyard.operations.roll_back_import import RollBackImport
from steelyard.storage.import_rollback import PostgresRollback
from tests.builds.desk import Desk, clock, generic
from tests.support.lock_waits import until_waiting

FILLS = 30_000
"""So many that comparing each with each takes half a minute."""
BY_INDEX_S = 15.0

ROWS = [
    "a1,ACC,main,ES SEP25,BUY,1,6000,,,2025-06-20T12:00:00Z",
    "a2,ACC,main,ES SEP25,BUY,1,6000,,,2025-06-20T13:00:00Z",
    "a3,ACC,main,ES SEP25,SELL,1,6000,,,2025-06-20T14:00:00Z",
]
T = TypeVar("T")


def file_of(seed: int) -> bytes:
    return "".join(samples.generic_csv(seed, fills=FILLS, accounts=20)).encode()


async def test_statistics_older_than_the_rows_do_not_hold_up_a_file_nor_its_way_back(desk: Desk) -> None:
    await desk.load(file_of(21), is_auto_build=False)
    # From here on the planner takes every new commit, import and state for one row.
    await desk.plant("ANALYZE fills, accounts, imports")
    async with asyncio.timeout(BY_INDEX_S):
        second = await desk.load(file_of(22), is_auto_build=False)
    assert second.record.counts == ImportCounts(row_count=FILLS, recorded=FILLS)
    async with asyncio.timeout(BY_INDEX_S):
        back = await RollBackImport(PostgresRollback(desk.database), clock).run(second.record.import_id)
    assert back.record.withdrawn == FILLS
    async with asyncio.timeout(BY_INDEX_S):
        third = await desk.load(file_of(22), is_auto_build=False)
    assert third.record.counts == ImportCounts(row_count=FILLS, recorded=FILLS)


@asynccontextmanager
async def sealing_meanwhile(desk: Desk, work: Coroutine[Any, Any, T], *, before: str) -> AsyncIterator[asyncio.Task[T]]:
    """Seals the account while this work waits for its head."""
    async with desk.database.write() as sealing:
        await sealing.execute("SELECT FROM account_heads WHERE account = 'ACC' FOR UPDATE")
        working = asyncio.ensure_future(work)
        await until_waiting(desk.database)
        await sealing.execute(f"UPDATE accounts SET sealed_before = '{before}' WHERE account = 'ACC'")
    yield working


async def test_no_row_of_a_file_comes_after_a_seal_that_was_set_meanwhile(desk: Desk) -> None:
    await desk.load(generic(ROWS[:1]), is_auto_build=False)
    async with sealing_meanwhile(desk, desk.load(generic(ROWS)), before="2025-06-20T13:00:01Z") as importing:
        with pytest.raises(PeriodSealed, match="sealed while"):
            await importing
    assert await desk.value("SELECT count(*) FROM fills") == 1


async def test_a_seal_before_all_rows_lets_a_file_pass(desk: Desk) -> None:
    await desk.load(generic(ROWS[:1]), is_auto_build=False)
    async with sealing_meanwhile(desk, desk.load(generic(ROWS)), before="2025-06-20T13:00:00Z") as importing:
        assert (await importing).record.counts == ImportCounts(row_count=3, recorded=2, repeated=1)


async def test_no_fill_is_taken_back_after_a_seal_that_was_set_meanwhile(desk: Desk) -> None:
    receipt = await desk.load(generic(ROWS), is_auto_build=False)
    back = RollBackImport(PostgresRollback(desk.database), clock).run(receipt.record.import_id)
    async with sealing_meanwhile(desk, back, before="2025-06-20T13:00:01Z") as rolling_back:
        with pytest.raises(PeriodSealed, match="sealed while"):
            await rolling_back
    assert await desk.value("SELECT count(*) FROM fills WHERE state = 'LIVE'") == 3
