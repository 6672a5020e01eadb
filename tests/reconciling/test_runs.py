"""Runs and records: a trial writes nothing, a record is one however often it is seen, writers disturb nothing."""

import asyncio
import random
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from steelyard.accounting.errors import InvalidField, NotFound, RequestIdReused, VersionMismatch
from steelyard.accounting.keys import Account
from steelyard.operations.answering_once import RequestIdentity
from steelyard.operations.keep_discrepancies import Verdict
from steelyard.operations.ports import AccountRules
from steelyard.operations.reconcile import Reconcile
from steelyard.operations.reconciling import (
    Compared,
    Discrepancy,
    DiscrepancyFilter,
    DiscrepancyState,
    RunCause,
    RunState,
    Scope,
)
from steelyard.operations.record_fills import RecordFills
from steelyard.operations.sampling import Sampling
from tests.questions.books import fill, key
from tests.reconciling.desk import EVERYTHING, LOTS, ReconcileDesk, kinds

WRONG = "UPDATE positions SET quantity = quantity + 1 WHERE account = 'lots'"


def verdict(of: UUID, state: DiscrepancyState, *, account: str = "lots", version: int | None = None) -> Verdict:
    return Verdict(
        account=Account(account),
        discrepancy_id=of,
        state=state,
        reason="seen to by hand",
        by="risk",
        expected_version=version,
    )


async def test_a_trial_changes_no_table_and_finds_what_a_run_would(desk: ReconcileDesk) -> None:
    await desk.fill_with_everything()
    await desk.damage(WRONG)
    before = await desk.tables()
    trial = await desk.reconcile.try_out(EVERYTHING)
    assert await desk.tables() == before
    one = await desk.reconcile.validate(LOTS, is_fixing=True, is_trial=True)
    assert await desk.tables() == before
    real = await desk.look()
    assert list(trial.findings) == list(real.findings) == list(one.findings)
    assert len(real.findings) == 1


async def test_a_trial_of_too_much_is_refused(desk: ReconcileDesk) -> None:
    await desk.fill_with_everything()
    small = Reconcile(desk.looking, desk.runs, in_call_max=3)
    with pytest.raises(InvalidField):
        await small.try_out(EVERYTHING)


async def test_one_record_however_often_it_is_seen_and_told_to_others_once(desk: ReconcileDesk) -> None:
    await desk.fill_with_everything()
    told = "SELECT body FROM outbox WHERE topic = 'discrepancy_found'"
    assert await desk.rows(told) == []
    await desk.damage(WRONG)
    for _ in range(3):
        await desk.look()
    (record,) = await desk.found()
    assert (record.occurrences, record.state, record.version) == (3, DiscrepancyState.OPEN, 1)
    assert record.last_seen_at - record.found_at == timedelta(seconds=2)
    (message,) = await desk.rows(told)
    assert str(record.discrepancy_id) in message["body"]
    assert '"compared_with": "FOLD"' in message["body"]


async def test_what_is_seen_no_more_is_resolved_and_comes_back_as_a_new_record(desk: ReconcileDesk) -> None:
    await desk.fill_with_everything()
    await desk.damage(WRONG)
    await desk.look()
    await desk.damage(WRONG.replace("+", "-"))
    answer = await desk.look()
    assert answer.run.tally.resolved == 1
    (record,) = await desk.found()
    assert (record.state, record.resolved_by, record.resolution) == (
        DiscrepancyState.RESOLVED,
        "reconcile",
        "FOUND_NO_MORE",
    )
    await desk.damage(WRONG)
    await desk.look()
    assert [each.state.value for each in await desk.found()] == ["OPEN", "RESOLVED"]


async def test_what_somebody_ignores_is_left_alone_until_it_changes(desk: ReconcileDesk) -> None:
    await desk.fill_with_everything()
    await desk.damage(WRONG)
    await desk.look()
    (record,) = await desk.found()
    request = RequestIdentity(uuid4(), b"one")
    with pytest.raises(VersionMismatch):
        await desk.records.resolve(verdict(record.discrepancy_id, DiscrepancyState.IGNORED, version=7), request=request)
    ignored = await desk.records.resolve(
        verdict(record.discrepancy_id, DiscrepancyState.IGNORED, version=1), request=request
    )
    assert (ignored.record.version, ignored.record.resolved_by, len(ignored.commits)) == (2, "risk", 1)
    again = await desk.records.resolve(
        verdict(record.discrepancy_id, DiscrepancyState.IGNORED, version=1), request=request
    )
    assert again.is_replayed
    assert (await desk.look()).run.tally.found_new == 0
    assert [(each.state.value, each.occurrences) for each in await desk.found()] == [("IGNORED", 2)]
    await desk.damage(WRONG)
    assert (await desk.look()).run.tally.found_new == 1
    assert [each.state.value for each in await desk.found()] == ["OPEN", "IGNORED"]


async def test_a_resolved_record_is_resolved_once_and_an_unknown_one_never(desk: ReconcileDesk) -> None:
    await desk.fill_with_everything()
    await desk.damage(WRONG)
    await desk.look()
    (record,) = await desk.found()
    done = await desk.records.resolve(
        verdict(record.discrepancy_id, DiscrepancyState.RESOLVED), request=RequestIdentity(uuid4(), b"a")
    )
    assert done.record.resolution == "seen to by hand"
    with pytest.raises(InvalidField):
        await desk.records.resolve(
            verdict(record.discrepancy_id, DiscrepancyState.IGNORED), request=RequestIdentity(uuid4(), b"b")
        )
    with pytest.raises(NotFound):
        await desk.records.resolve(
            verdict(record.discrepancy_id, DiscrepancyState.IGNORED, account="desk"),
            request=RequestIdentity(uuid4(), b"c"),
        )
    assert (await desk.look()).run.tally.found_new == 1


async def test_records_are_listed_by_what_they_are_page_by_page(desk: ReconcileDesk) -> None:
    await desk.fill_with_everything()
    await desk.damage("UPDATE positions SET gross_average = gross_average + 1")
    await desk.look()
    whole = await desk.found()
    assert len(whole) == len(await desk.rows("SELECT FROM positions"))
    pages: list[Discrepancy] = []
    after = None
    while True:
        page = (await desk.records.page(DiscrepancyFilter(), size=3, after=after)).value
        pages += page.rows
        after = page.next_after
        if after is None:
            break
    assert pages == list(whole)
    assert kinds(await desk.found(instruments=["BTCUSD"])) == {("BTCUSD", "PNL", "FOLD")}
    assert await desk.found(compared=[Compared.VENUE]) == []
    assert len(await desk.found(accounts=["hedge"], states=[DiscrepancyState.OPEN])) == 2
    assert await desk.found(found_before=whole[0].found_at) == []


async def test_a_run_is_known_by_its_request_and_a_large_one_is_left_to_a_worker(desk: ReconcileDesk) -> None:
    await desk.fill_with_everything()
    await desk.damage(WRONG)
    small = Reconcile(desk.looking, desk.runs, in_call_max=3)
    request = (uuid4(), b"body")
    first = await small.run(EVERYTHING, is_fixing=True, is_background=False, request=request)
    assert (first.run.state, first.findings) == (RunState.PENDING, ())
    assert (await small.run(EVERYTHING, is_fixing=True, is_background=False, request=request)).is_replayed
    with pytest.raises(RequestIdReused):
        await small.run(EVERYTHING, is_fixing=True, is_background=False, request=(request[0], b"other"))
    (job,) = await desk.rows("SELECT task_name, queue_name FROM procrastinate_jobs WHERE status = 'todo'")
    assert job["task_name"] == "reconcile_waiting"
    assert await small.take_up() == 1
    run = await small.find(request[0])
    assert (run.state, run.tally.keys_fixed, run.tally.found) == (RunState.SUCCEEDED, 1, 1)
    assert run.tally.keys_checked == run.tally.keys_total == len(await desk.rows("SELECT FROM positions"))
    assert await small.take_up() == 0


async def test_a_run_that_its_worker_left_is_taken_up_by_another(desk: ReconcileDesk) -> None:
    await desk.record(fill("a", "1", "100"))
    run = (await desk.reconcile.run(EVERYTHING, is_fixing=True, is_background=True, request=(uuid4(), b""))).run
    assert await desk.runs.take(now=desk.now) is not None
    assert await desk.reconcile.take_up() == 0
    desk.now += timedelta(seconds=61)
    assert await desk.reconcile.take_up() == 1
    assert (await desk.reconcile.find(run.run_id)).state is RunState.SUCCEEDED


async def test_a_contradicted_size_has_its_position_looked_at_once(desk: ReconcileDesk) -> None:
    await desk.record(fill("a", "1", "100"))
    await desk.damage("UPDATE positions SET quantity = 2")
    await desk.report(key(), "3", minute=2)
    await desk.report(key(), "3", minute=3)
    assert await desk.reconcile.take_up() == 1
    (run,) = await desk.rows("SELECT cause, keys_fixed FROM reconciliation_runs")
    assert (run["cause"], run["keys_fixed"]) == (RunCause.REPORT, 1)


async def test_statistics_add_up_runs_and_open_records(desk: ReconcileDesk) -> None:
    await desk.fill_with_everything()
    await desk.damage(WRONG)
    await desk.look()
    await desk.look(Scope((Account("lots"),)))
    stats = await desk.reconcile.stats(())
    assert (stats.runs, stats.found, stats.found_new, stats.open_count) == (2, 2, 1, 1)
    assert (stats.found_by_kind, stats.open_by_kind) == ({"SIZE": 2}, {"SIZE": 1})
    assert stats.last_run is not None
    assert stats.last_run.scope.accounts == ("lots",)
    assert (await desk.reconcile.stats((Account("desk"),))).open_count == 0


async def test_a_few_positions_are_looked_at_all_the_time_each_in_its_turn(desk: ReconcileDesk) -> None:
    await desk.fill_with_everything()
    await desk.damage(WRONG)
    sampling = Sampling(desk.reconcile, desk.store, size=4, is_fixing=True)
    seen = 0
    while step := await sampling.next():
        seen += step
    assert seen == len(await desk.rows("SELECT DISTINCT account, instrument FROM positions"))
    assert await sampling.next() > 0
    (run,) = await desk.rows("SELECT cause, keys_fixed, found FROM reconciliation_runs")
    assert (run["cause"], run["keys_fixed"], run["found"]) == ("SAMPLE", 1, 1)
    assert (await desk.look()).findings == []


async def test_a_run_beside_writers_makes_no_false_finding(desk: ReconcileDesk) -> None:
    """Late fills, flips, amendments of order and reports go on while everything is looked at again and again."""
    await desk.record(*(fill(f"first-{n}", "1", "100", of=key(name), minute=n) for n, name in enumerate(NAMES * 5)))
    writer = RecordFills(desk.ledger, desk.clock, new_accounts=AccountRules(Account("desk")), jitter=random.random)
    writer.start()
    done = asyncio.Event()
    chance = random.Random(7)

    async def write(number: int) -> None:
        count = 0
        while not done.is_set():
            size = chance.choice(["1", "-2", "3", "-1"])
            late = chance.uniform(0, 120)
            of = key(chance.choice(NAMES), book=chance.choice(["main", "swing"]))
            await writer.record_batch([fill(f"w{number}-{count}", size, str(90 + count % 20), of=of, minute=late)])
            count += 1

    writers = [asyncio.ensure_future(write(number)) for number in range(4)]
    try:
        for _ in range(15):
            answer = await desk.reconcile.run(EVERYTHING, is_fixing=True, is_background=False, request=(uuid4(), b""))
            assert answer.findings == []
            assert answer.run.tally.keys_fixed == 0
    finally:
        done.set()
        await asyncio.gather(*writers)
        await writer.close()
    assert (await desk.look()).findings == []
    assert len(await desk.rows("SELECT FROM fills")) > 50


NAMES = ["BTCUSDT", "ETHUSDT", "XRPUSDT"]
