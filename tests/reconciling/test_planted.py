"""Every kind of damage to a book is found in one run, and what may be fixed is fixed with a record and a version."""

from dataclasses import dataclass

import pytest

from steelyard.accounting.keys import PositionKey
from steelyard.operations.reconciling import DiscrepancyState
from tests.questions.books import fill, key
from tests.reconciling.desk import LONG, LOTS, ORDERED, REPORTED, ReconcileDesk, correction, kinds

MNQ, INVERSE, SWING, FLAT = key("MNQ MAR26"), key("BTCUSD"), key("ETHUSDT", book="swing"), key("XRPUSDT")
OF_KEY = "account = $1 AND book = $2 AND instrument = $3 AND leg = $4"


@dataclass(frozen=True, slots=True)
class Plant:
    """Damage to one key, and what must be said of it."""

    key: PositionKey
    statement: str
    kinds: set[str]


FOLD_DAMAGE = {
    "size": Plant(MNQ, f"UPDATE positions SET quantity = quantity - 1 WHERE {OF_KEY}", {"SIZE"}),
    "side": Plant(INVERSE, f"UPDATE positions SET quantity = -quantity WHERE {OF_KEY}", {"SIDE"}),
    "average": Plant(SWING, f"UPDATE positions SET average_price = average_price + 1 WHERE {OF_KEY}", {"AVERAGE"}),
    "cost of lots": Plant(LOTS, f"UPDATE positions SET cost_lots = cost_lots + 1 WHERE {OF_KEY}", {"AVERAGE"}),
    "pnl": Plant(key(), f"UPDATE positions SET gross_average = gross_average + 0.01 WHERE {OF_KEY}", {"PNL"}),
    "funding": Plant(key(), f"UPDATE positions SET funding = 0 WHERE {OF_KEY}", {"PNL"}),
    "missing": Plant(LONG, f"DELETE FROM positions WHERE {OF_KEY}", {"MISSING", "ORPHAN_FILLS"}),
    "extra": Plant(
        FLAT, f"WITH gone AS (DELETE FROM fills WHERE {OF_KEY}) UPDATE positions SET quantity = 5, average_price = 1 "
        f"WHERE {OF_KEY}", {"EXTRA", "CLOSED_NOT_FLAT", "ROUND_TRIPS"},
    ),
    "closed but not flat": Plant(
        REPORTED, f"UPDATE positions SET closed_at = now() WHERE {OF_KEY}", {"CLOSED_NOT_FLAT", "ROUND_TRIPS"}
    ),
    "flat with a lot open": Plant(
        FLAT,
        "INSERT INTO lots SELECT account, book, instrument, leg, now(), 0, 'ghost', 1, 1, 1 FROM positions "
        f"WHERE {OF_KEY}",
        {"CLOSED_NOT_FLAT", "ROUND_TRIPS"},
    ),
    "unmatched quantity of a leg": Plant(LONG, f"UPDATE positions SET unmatched = 1 WHERE {OF_KEY}", {"LEG"}),
    "a lot too many": Plant(
        LOTS, f"UPDATE lots SET quantity = quantity + 1 WHERE {OF_KEY} AND opened_entry_id = 'lot0'", {"ROUND_TRIPS"}
    ),
    "a round trip gone": Plant(
        key(), f"DELETE FROM round_trips WHERE {OF_KEY} AND opened_entry_id = 'flip0'", {"ROUND_TRIPS"}
    ),
    "a finished trip's figures": Plant(
        key(),
        f"UPDATE round_trips SET gross_average = gross_average + 1 WHERE {OF_KEY} AND closed_at IS NOT NULL",
        {"ROUND_TRIPS"},
    ),
    "fill count": Plant(SWING, f"UPDATE positions SET fill_count = 9 WHERE {OF_KEY}", {"ROUND_TRIPS"}),
    "figures that nobody refolds": Plant(
        SWING, f"UPDATE positions SET figures_state = 'REFOLDING' WHERE {OF_KEY}", {"ROUND_TRIPS"}
    ),
}  # fmt: skip


ROUNDS = (
    ("size", "side", "average", "pnl", "missing", "cost of lots", "closed but not flat", "flat with a lot open"),
    ("funding", "fill count", "a lot too many", "unmatched quantity of a leg"),
    ("a round trip gone", "figures that nobody refolds", "extra"),
    ("a finished trip's figures",),
)
UNTOLD = {"version", "updated_at", "created_at", "since_checkpoint"}


async def folded(desk: ReconcileDesk) -> list[list[tuple[tuple[str, object], ...]]]:
    """Everything folded, without versions and times of writing."""
    found = [
        await desk.rows("SELECT * FROM positions ORDER BY account, book, instrument, leg"),
        await desk.rows("SELECT * FROM lots ORDER BY 1, 2, 3, 4, 5, 6, 7"),
        await desk.rows("SELECT * FROM round_trips ORDER BY account, trip_id"),
    ]
    return [[tuple((n, v) for n, v in row.items() if n not in UNTOLD) for row in rows] for rows in found]


@pytest.mark.parametrize("names", ROUNDS)
async def test_damage_to_folded_rows_is_found_in_one_run_and_mended_with_a_record_and_a_version_each(
    desk: ReconcileDesk, names: tuple[str, ...]
) -> None:
    await desk.fill_with_everything()
    healthy = await folded(desk)
    plants = [FOLD_DAMAGE[name] for name in names]
    versions = {plant.key: await desk.version(plant.key) for plant in plants}
    planted = {(plant.key, kind) for plant in plants for kind in plant.kinds}
    for plant in plants:
        await desk.damage(plant.statement, *plant.key)

    answer = await desk.look()
    assert {(finding.key, finding.kind.value) for finding in answer.findings} == planted
    assert (answer.run.tally.found, answer.run.tally.keys_fixed) == (len(planted), 0)

    answer = await desk.look(is_fixing=True)
    assert (answer.run.tally.found_new, answer.run.tally.keys_fixed) == (0, len(plants))
    records = await desk.found()
    assert {(record.finding.key, record.finding.kind.value) for record in records} == planted
    for record in records:
        assert (record.state, record.occurrences) == (DiscrepancyState.RESOLVED, 2)
        assert (record.resolution, record.fixed_version) == ("REBUILT", versions[record.finding.key] + 1)
    for of, version in versions.items():
        events = await desk.rows(f"SELECT version, cause FROM position_events WHERE {OF_KEY} ORDER BY version", *of)
        assert [event["version"] for event in events] == list(range(1, version + 2))
        assert events[-1]["cause"] == "reconcile"
    if "extra" not in names:
        assert await folded(desk) == healthy
    assert (await desk.look()).findings == []


def test_every_damage_stands_in_a_round() -> None:
    assert sorted(name for names in ROUNDS for name in names) == sorted(FOLD_DAMAGE)


async def test_a_position_whose_row_and_history_are_gone_is_made_anew(desk: ReconcileDesk) -> None:
    await desk.record(fill("a", "1", "100"), fill("b", "-1", "110", minute=1), fill("c", "2", "100", minute=2))
    await desk.damage("DELETE FROM positions")
    await desk.damage("DELETE FROM position_events")
    assert (await desk.look(is_fixing=True)).run.tally.keys_fixed == 1
    assert await desk.version(key()) == 1
    assert (await desk.look()).findings == []


async def test_a_leg_closed_beyond_what_it_held_is_told_and_left_as_it_is(desk: ReconcileDesk) -> None:
    await desk.record(fill("a", "1", "90", of=LONG), fill("b", "-3", "91", of=LONG, minute=1))
    answer = await desk.look(is_fixing=True)
    assert [(each.kind.value, str(each.ours)) for each in answer.findings] == [("LEG", "2")]
    assert answer.run.tally.keys_fixed == 0
    assert (await desk.found())[0].state is DiscrepancyState.OPEN
    await desk.record(fill("before", "2", "89", of=LONG, minute=-1))
    assert (await desk.look()).findings == []
    assert (await desk.found())[0].resolution == "FOUND_NO_MORE"


async def test_a_report_that_differs_is_the_record_that_it_made_itself(desk: ReconcileDesk) -> None:
    await desk.fill_with_everything()
    await desk.report(MNQ, "3", minute=40)
    (first,) = await desk.found()
    assert kinds([first]) == {("MNQ MAR26", "SIZE", "REPORT")}
    answer = await desk.look()
    assert answer.run.tally.found_new == 0
    (again,) = await desk.found()
    assert (again.discrepancy_id, again.occurrences) == (first.discrepancy_id, 2)
    await desk.record(fill("heard late", "4", "25000", of=MNQ, minute=39))
    assert (await desk.look()).findings == []
    assert (await desk.found())[0].state is DiscrepancyState.RESOLVED


async def test_a_report_over_two_books_is_held_against_both_at_its_time(desk: ReconcileDesk) -> None:
    await desk.record(fill("a", "2", "100", minute=0), fill("b", "3", "100", of=key(book="swing"), minute=1))
    await desk.report(key(), "5", minute=2)
    await desk.record(fill("c", "-3", "100", of=key(book="swing"), minute=3))
    assert (await desk.look()).findings == []
    await desk.damage("UPDATE venue_reports SET quantity = 4")
    answer = await desk.look()
    found = [(each.kind.value, each.compared.value, str(each.ours), str(each.theirs)) for each in answer.findings]
    assert found == [("SIZE", "REPORT", "5", "4")]


async def test_orders_filled_otherwise_than_is_said_of_them_are_found(desk: ReconcileDesk) -> None:
    await desk.fill_with_everything()
    await desk.damage("UPDATE order_states SET filled_quantity = 1.5 WHERE filled_quantity = 1.0")
    answer = await desk.look(is_fixing=True)
    assert [(each.key, each.kind.value, each.compared.value) for each in answer.findings] == [
        (ORDERED, "SIZE", "ORDERS")
    ]
    assert [(str(each.ours), str(each.theirs)) for each in answer.findings] == [("1.0", "1.5")]
    assert answer.run.tally.keys_fixed == 0


async def test_entries_whose_instrument_or_account_has_no_record_are_orphans(desk: ReconcileDesk) -> None:
    await desk.fill_with_everything()
    await desk.damage("DELETE FROM instruments WHERE instrument = 'BTCUSD'")
    await desk.damage("DELETE FROM accounts WHERE account = 'lots'")
    answer = await desk.look(is_fixing=True)
    assert {(each.key, each.kind.value, each.detail) for each in answer.findings} == {
        (INVERSE, "ORPHAN_FILLS", "the instrument has no record"),
        (LOTS, "ORPHAN_FILLS", "the account has no record"),
    }


async def test_a_key_whose_entries_wait_to_be_folded_is_left_for_later(desk: ReconcileDesk) -> None:
    await desk.record(fill("a", "1", "100"))
    await desk.store_only(fill("b", "1", "100", minute=1))
    answer = await desk.look(is_fixing=True)
    assert (answer.run.tally.keys_checked, answer.run.tally.keys_waiting, answer.findings) == (0, 1, [])


async def test_an_adjustment_is_part_of_what_a_position_is_held_against(desk: ReconcileDesk) -> None:
    await desk.record(fill("a", "1", "100"))
    await desk.adjust(correction("3", "50", minute=1))
    await desk.damage("UPDATE positions SET quantity = 1")
    answer = await desk.look(is_fixing=True)
    assert [(each.kind.value, str(each.ours), str(each.theirs)) for each in answer.findings] == [("SIZE", "1", "3")]
