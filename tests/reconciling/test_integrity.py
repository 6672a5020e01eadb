"""What is wrong beside positions: imports taken back, sessions that did not end flat, builds that stand still."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from steelyard.accounting.keys import Account
from steelyard.operations import fix_positions
from steelyard.operations.importing import RowCategory, RowResult
from steelyard.operations.ports import AccountRules
from steelyard.operations.reconciling import DiscrepancyState
from steelyard.operations.roll_back_import import RollBackImport
from steelyard.storage.import_rollback import PostgresRollback
from tests.builds.desk import Desk as BuildDesk
from tests.builds.desk import clock, generic
from tests.questions.books import fill, key
from tests.reconciling.desk import ReconcileDesk, kinds

SESSION = AccountRules(
    Account("futures"),
    day_rule={"kind": "SESSION", "close_time": "15:00", "time_zone": "America/Los_Angeles", "weekdays_only": "true"},
)
HELD, FLAT = key("MNQ MAR26", account="futures"), key("ETHUSDT", account="futures")


@pytest.fixture
async def builds(database_url: str) -> AsyncIterator[BuildDesk]:
    desk = BuildDesk(database_url)
    yield desk
    await desk.close()


def row(fill_id: str, instrument: str, quantity: int, *, minute: int) -> str:
    side = "BUY" if quantity > 0 else "SELL"
    return f"{fill_id},desk,,{instrument},{side},{abs(quantity)},100,0,,2026-03-02T15:{minute:02}:00Z"


async def test_a_session_that_did_not_end_flat_is_found_and_over_with_the_next_close(desk: ReconcileDesk) -> None:
    # 15:00 in Los Angeles is 23:00 UTC in winter; the desk's clock stands on Friday 6 March, 12:00 UTC.
    thursday = datetime(2026, 3, 5, 22, 59, tzinfo=UTC)
    await desk.record(
        fill("in", "2", "25000", of=HELD, at=thursday),
        fill("out", "-2", "25010", of=HELD, at=thursday + timedelta(minutes=1)),
        fill("a", "1", "3000", of=FLAT, at=thursday),
        fill("b", "-1", "3001", of=FLAT, at=thursday + timedelta(seconds=59)),
        rules=SESSION,
    )
    answer = await desk.look(is_fixing=True)
    (found,) = answer.findings
    assert (found.key, found.kind.value, str(found.ours), found.severity.value) == (
        HELD,
        "SESSION_NOT_FLAT",
        "2",
        "INFO",
    )
    assert found.at == datetime(2026, 3, 5, 23, tzinfo=UTC)
    assert (await desk.look()).run.tally.found_new == 0
    desk.now += timedelta(days=1)
    assert (await desk.look()).findings == []
    assert [each.state for each in await desk.found()] == [DiscrepancyState.RESOLVED]


async def test_accounts_of_calendar_days_have_no_close_to_be_flat_at(desk: ReconcileDesk) -> None:
    await desk.record(fill("a", "1", "100"))
    assert (await desk.look()).findings == []


async def test_rows_of_an_import_that_was_taken_back_are_found_while_they_count(
    desk: ReconcileDesk, builds: BuildDesk
) -> None:
    receipt = await builds.load(generic([row("a", "BTCUSDT", 1, minute=1), row("b", "ETHUSDT", 2, minute=2)]))
    await builds.run(receipt.record.build_id)
    rolled = await RollBackImport(PostgresRollback(builds.database), clock).run(receipt.record.import_id)
    await builds.run(rolled.build_id)
    assert (await desk.look()).findings == []
    await desk.damage("UPDATE fills SET state = 'LIVE' WHERE fill_id = 'b'")
    answer = await desk.look()
    assert {(each.key.instrument, each.kind.value, each.compared.value) for each in answer.findings} == {
        ("ETHUSDT", "ROLLED_BACK_ROWS", "BOOK"),
        *(("ETHUSDT", kind, "FOLD") for kind in ("SIZE", "PNL", "ROUND_TRIPS")),
    }
    assert str(receipt.record.import_id) in next(e.detail for e in answer.findings if e.kind == "ROLLED_BACK_ROWS")


async def test_taking_an_import_back_leaves_every_other_key_byte_for_byte(
    desk: ReconcileDesk, builds: BuildDesk
) -> None:
    names = ["BTCUSDT", "ETHUSDT", "XRPUSDT"]
    first = await builds.load(generic([row(f"a{n}", name, 2, minute=n) for n, name in enumerate(names)]))
    second = await builds.load(generic([row("b", "ETHUSDT", -1, minute=5), row("c", "XRPUSDT", -2, minute=6)]))
    touched = {"ETHUSDT", "XRPUSDT"}
    statement = "SELECT p::text AS row FROM {} p WHERE instrument <> ALL($1::text[]) ORDER BY 1"
    tables = ("positions", "round_trips", "lots", "position_events", "checkpoints")
    for receipt in (first, second):
        await builds.run(receipt.record.build_id)
    before = [await desk.rows(statement.format(table), list(touched)) for table in tables]
    versions = {row["instrument"]: row["version"] for row in await desk.rows("SELECT * FROM positions")}
    rolled = await RollBackImport(PostgresRollback(builds.database), clock).run(second.record.import_id)
    build = await builds.run(rolled.build_id)
    assert {result.key.instrument for result in build.results} == touched
    assert [await desk.rows(statement.format(table), list(touched)) for table in tables] == before
    after = {
        row["instrument"]: (row["version"], str(row["quantity"])) for row in await desk.rows("SELECT * FROM positions")
    }
    assert after == {name: (versions[name] + (name in touched), "2") for name in names}


async def test_a_roll_back_finds_the_fills_of_an_import_by_the_index(desk: ReconcileDesk) -> None:
    await desk.damage("INSERT INTO accounts (account) SELECT 'a' || n FROM generate_series(1, 10) n")
    await desk.damage(
        "INSERT INTO fills (account, fill_id, book, instrument, leg, delta, price, executed_at, import_id, commit_id) "
        "SELECT 'a' || n % 10 + 1, n, 'main', 'BTCUSDT', 'NET', 1, 1, now(), ('0000000' || n % 8 || "
        "'-0000-4000-8000-000000000000')::uuid, 1 FROM generate_series(1, 8000) n"
    )
    await desk.damage("ANALYZE fills")
    plan = await desk.rows(
        "EXPLAIN SELECT FROM fills f WHERE f.account IN (SELECT account FROM accounts) "
        "AND f.import_id = '00000001-0000-4000-8000-000000000000' AND f.state = 'LIVE'"
    )
    assert any("fills_by_import" in line["QUERY PLAN"] for line in plan), plan


async def test_builds_and_waiting_entries_without_progress_are_found(desk: ReconcileDesk, builds: BuildDesk) -> None:
    desk.now = clock()
    receipt = await builds.load(generic([row("a", "BTCUSDT", 1, minute=1)]))
    assert kinds(await desk.found()) == set()
    assert (await desk.look()).findings == []
    desk.now += timedelta(seconds=61)
    answer = await desk.look(is_fixing=True)
    assert [(each.kind.value, each.detail) for each in answer.findings] == [
        ("BUILD_STALLED", f"build {receipt.record.build_id} stands still")
    ]
    assert answer.run.tally.keys_waiting == 1
    await desk.damage("DELETE FROM builds")
    answer = await desk.look()
    assert [each.detail for each in answer.findings] == ["entries wait for a build that nobody makes"]
    await builds.sweep.sweep()
    (again,) = await desk.rows("SELECT build_id FROM builds")
    await builds.run(again["build_id"])
    assert (await desk.look()).findings == []
    assert [each.resolution for each in await desk.found()] == ["FOUND_NO_MORE"]


async def test_row_results_of_an_import_come_page_by_page_and_by_category(
    desk: ReconcileDesk, builds: BuildDesk
) -> None:
    good = [row(f"a{n}", "BTCUSDT", 1, minute=n) for n in range(3)]
    bad = [
        row("x", "BTCUSDT", 1, minute=9).replace("BUY", "HOLD"),
        row("y", "BTCUSDT", 1, minute=9).replace(",100,", ",no,"),
    ]
    receipt = await builds.load(generic([*good, *bad, good[0]]))
    import_id = receipt.record.import_id
    whole = await builds.store.results_page(import_id, categories=(), size=10, after=None)
    assert [said.row_number for said in whole.rows] == [5, 6, 7]
    pages: list[RowResult] = []
    after = None
    while True:
        page = await builds.store.results_page(import_id, categories=(), size=1, after=after)
        pages += page.rows
        after = page.next_after
        if after is None:
            break
    assert pages == list(whole.rows)
    only = await builds.store.results_page(import_id, categories=[RowCategory.DUPLICATE], size=10, after=None)
    assert [said.row_number for said in only.rows] == [7]


async def test_a_position_of_very_many_entries_is_mended_by_a_build(
    desk: ReconcileDesk, builds: BuildDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fix_positions, "FOLDED_HERE_MAX", 1)
    await desk.record(fill("a", "1", "100"), fill("b", "1", "101", minute=1))
    await desk.damage("UPDATE positions SET quantity = 9")
    answer = await desk.look(is_fixing=True)
    assert (answer.run.tally.found, answer.run.tally.keys_fixed) == (1, 0)
    assert [each.state for each in await desk.found()] == [DiscrepancyState.OPEN]
    (build,) = await desk.rows("SELECT build_id, mode FROM builds")
    assert build["mode"] == "FULL"
    await builds.run(build["build_id"])
    assert (await desk.look()).findings == []
    assert [each.resolution for each in await desk.found()] == ["FOUND_NO_MORE"]
