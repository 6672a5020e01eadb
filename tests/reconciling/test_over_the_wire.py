"""ReconciliationService through a channel, by the client and by the commands; a worker takes up what is left to it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
import typer
from typer.testing import CliRunner

from steelyard.app.assembly import Worker
from steelyard.app.settings import Settings
from steelyard.cli import register
from steelyard.client import (
    ComparedWith,
    DiscrepancyKind,
    DiscrepancyState,
    InvalidField,
    NotFound,
    PositionEventCause,
    ReconciliationState,
    Steelyard,
    VersionMismatch,
)
from steelyard.telemetry.logs import silent_log
from tests.client.desk import client_of, make_fill, serving_book

MNQ = "MNQ SEP25"
COMMANDS = typer.Typer()
register(COMMANDS)


class Served:
    """A client, and the database behind its service."""

    def __init__(self, steelyard: Steelyard, *, url: str, address: str) -> None:
        self.steelyard = steelyard
        self.url = url
        self.address = address

    async def damage(self, statement: str) -> None:
        connection = await asyncpg.connect(self.url)
        await connection.execute(statement)
        await connection.close()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """A worker in this process."""
        stop = asyncio.Event()
        worker = Worker(Settings(worker_bulk_jobs=1), url=self.url, log=silent_log())
        task = asyncio.create_task(worker.run(stop))
        yield
        stop.set()
        await task
        await worker.close()


@pytest.fixture
async def served(database_url: str) -> AsyncIterator[Served]:
    async with serving_book(database_url) as service, client_of(service.address) as steelyard:
        await steelyard.record_fill(make_fill(1, quantity="3"))
        await steelyard.record_fill(make_fill(2, quantity="1"))
        yield Served(steelyard, url=database_url, address=service.address)


async def test_a_position_is_validated_and_fixed_unless_told_otherwise(served: Served) -> None:
    steelyard = served.steelyard
    good = await steelyard.validate_position("desk", MNQ)
    assert (good.is_valid, good.error_message, good.discrepancies, good.fixed) == (True, "", (), False)
    assert good.updated_position is not None
    await served.damage("UPDATE positions SET quantity = 9")
    trial = await steelyard.validate_position("desk", MNQ, validate_only=True)
    (found,) = trial.discrepancies
    assert (found.discrepancy_id, found.kind, found.compared_with) == (None, DiscrepancyKind.SIZE, ComparedWith.FOLD)
    assert (found.ours, found.theirs) == (Decimal(9), Decimal(4))
    assert trial.error_message == "SIZE against FOLD: 9 and 4"
    with pytest.raises(VersionMismatch):
        await steelyard.validate_position("desk", MNQ, expected_version=1)
    left = await steelyard.validate_position("desk", MNQ, fix_discrepancies=False)
    assert (left.is_valid, left.fixed) == (False, False)
    fixed = await steelyard.validate_position("desk", MNQ, expected_version=2)
    assert (fixed.is_valid, fixed.fixed) == (False, True)
    assert fixed.updated_position is not None
    assert (fixed.updated_position.quantity, fixed.updated_position.version) == (Decimal(4), 3)
    events = [each async for each in steelyard.list_position_events("desk", MNQ)]
    assert PositionEventCause.RECONCILE in {event.cause for event in events}
    assert (await steelyard.validate_position("desk", MNQ)).is_valid
    with pytest.raises(NotFound):
        await steelyard.validate_position("desk", "BTCUSDT")


async def test_runs_records_and_statistics(served: Served) -> None:
    steelyard = served.steelyard
    await served.damage("UPDATE positions SET gross_average = 5")
    trial = await steelyard.run_reconciliation(validate_only=True)
    assert (trial.run.validate_only, trial.run.found, len(trial.discrepancies)) == (True, 1, 1)
    assert [each async for each in steelyard.list_discrepancies()] == []
    done = await steelyard.run_reconciliation(["desk"], fix_discrepancies=False)
    assert (done.run.state, done.run.found_new) == (ReconciliationState.SUCCEEDED, 1)
    again = await steelyard.run_reconciliation(["desk"], fix_discrepancies=False, request_id=done.run.run_id)
    assert again.replayed
    (record,) = [each async for each in steelyard.list_discrepancies(["desk"], kinds=[DiscrepancyKind.PNL])]
    assert (record.state, record.run_id) == (DiscrepancyState.OPEN, done.run.run_id)
    assert record.discrepancy_id is not None
    resolved = await steelyard.resolve_discrepancy(
        "desk", record.discrepancy_id, reason="known", state=DiscrepancyState.IGNORED, expected_version=record.version
    )
    assert (resolved.discrepancy.resolution, resolved.discrepancy.resolved_by) == ("known", "caller")
    stats = await steelyard.get_reconciliation_stats()
    assert (stats.runs, stats.found, stats.open) == (1, 1, 0)
    assert stats.last_run is not None
    assert stats.last_run.run_id == done.run.run_id
    with pytest.raises(InvalidField):
        await steelyard.run_reconciliation(validate_only=True, in_background=True)
    with pytest.raises(NotFound):
        await steelyard.get_reconciliation_run("00000000-0000-4000-8000-000000000000")


async def test_a_worker_takes_up_what_is_left_to_it_at_once(served: Served) -> None:
    steelyard = served.steelyard
    await served.damage("UPDATE positions SET quantity = 9")
    asked = await steelyard.run_reconciliation(in_background=True)
    assert asked.run.state is ReconciliationState.PENDING
    async with served.working(), asyncio.timeout(30):
        states = [run async for run in steelyard.follow_reconciliation(asked.run.run_id)]
    assert (states[-1].state, states[-1].keys_fixed) == (ReconciliationState.SUCCEEDED, 1)
    assert (await steelyard.get_position("desk", MNQ)).quantity == 4


async def test_row_results_of_an_import_are_listed(served: Served) -> None:
    steelyard = served.steelyard
    header = "fill_id,account,book,instrument,side,quantity,price,fee,fee_currency,executed_at\n"
    file = header + f"a,desk,,{MNQ},HOLD,1,1,0,,2026-03-02T15:00:00Z\n" * 3
    outcome = await steelyard.import_trades(file.encode())
    rows = [row async for row in steelyard.list_import_rows(outcome.trade_import.import_id, page_size=2)]
    assert [row.row_number for row in rows] == [2, 3, 4]
    with pytest.raises(NotFound):
        [row async for row in steelyard.list_import_rows("00000000-0000-4000-8000-000000000000")]


async def run_command(served: Served, *arguments: str) -> tuple[int, str]:
    """Exit status and output of a command; it runs in a thread, because the service lives in this loop."""
    result = await asyncio.to_thread(CliRunner().invoke, COMMANDS, (*arguments, "--server", served.address))
    return result.exit_code, result.output


async def test_the_commands_tell_it_in_tables_and_as_json(served: Served) -> None:
    assert await run_command(served, "reconcile") == (
        0,
        "1 positions looked at, 0 found, 0 new, 0 fixed, 0 found no more\n",
    )
    await served.damage("UPDATE positions SET quantity = 9")
    status, told = await run_command(served, "reconcile", "--validate-only")
    assert status == 1
    assert "nothing was written" in told
    assert "size" in told
    status, told = await run_command(served, "reconcile", "--fix")
    assert (status, "1 fixed" in told) == (0, True)
    _, told = await run_command(served, "discrepancies")
    assert told == "no discrepancies\n"
    _, told = await run_command(served, "discrepancies", "--all", "--json")
    records: list[dict[str, Any]] = json.loads(told)
    assert [(record["kind"], record["resolution"]) for record in records] == [("SIZE", "REBUILT")]
