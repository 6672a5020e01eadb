"""Nothing is found where nothing is wrong."""

from steelyard.operations.examine_keys import told
from tests.reconciling.desk import ReconcileDesk


async def test_a_clean_book_of_every_sort_shows_nothing(desk: ReconcileDesk) -> None:
    await desk.fill_with_everything()
    before = await desk.tables("reconciliation_runs")
    answer = await desk.look(is_fixing=True)
    assert [told(finding) for finding in answer.findings] == []
    tally = answer.run.tally
    assert (tally.found, tally.keys_fixed, tally.keys_waiting) == (0, 0, 0)
    assert tally.keys_checked == tally.keys_total == len(await desk.rows("SELECT FROM positions"))
    assert await desk.tables("reconciliation_runs") == before
