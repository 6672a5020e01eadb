"""Commands that hold positions against what others say of them, and list where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from steelyard.cli.session import FAILED, SERVER_DEFAULT, JsonOption, ServerOption, aside, ask, fail, tell
from steelyard.cli.tables import moment, shown
from steelyard.client import (
    Discrepancy,
    DiscrepancySeverity,
    DiscrepancyState,
    Reconciliation,
    ReconciliationRun,
    ReconciliationState,
    Steelyard,
)

ROWS_MAX = 200
_STYLES = {DiscrepancySeverity.ERROR: "red", DiscrepancySeverity.WARNING: "yellow"}

AccountsOption = Annotated[list[str] | None, typer.Option("--account", "-a", help="Only this one; again for more.")]
InstrumentsOption = Annotated[
    list[str] | None, typer.Option("--instrument", "-i", help="Only this one; again for more.")
]


def reconcile(
    account: AccountsOption = None,
    instrument: InstrumentsOption = None,
    fix: Annotated[bool, typer.Option("--fix/--no-fix", help="Whether what may be fixed is fixed.")] = False,
    validate_only: Annotated[bool, typer.Option("--validate-only", help="Look, and write nothing down.")] = False,
    background: Annotated[bool, typer.Option("--background", help="Leave it to a worker, and follow it.")] = False,
    server: ServerOption = SERVER_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Holds positions against their own entries, their venue and their orders. Exit status 1 where something is
    wrong and was not fixed."""
    if validate_only and (fix or background):
        fail("--validate-only writes nothing: it goes with neither --fix nor --background")

    async def question(steelyard: Steelyard) -> Reconciliation:
        answer = await steelyard.run_reconciliation(
            account or (),
            instruments=instrument or (),
            fix_discrepancies=fix,
            validate_only=validate_only,
            in_background=background,
        )
        if answer.run.state.is_terminal:
            return answer
        run = await _follow(steelyard, answer.run)
        found = steelyard.list_discrepancies(run_id=run.run_id)
        seen = [each async for each in found]
        return Reconciliation(run=run, discrepancies=tuple(seen[:ROWS_MAX]), replayed=answer.replayed)

    done = ask(server, question)
    tell(done, as_json=as_json, table=lambda: run_view(done.run, done.discrepancies))
    run = done.run
    if run.state is not ReconciliationState.SUCCEEDED or run.venue_error or (run.found and not run.keys_fixed):
        raise typer.Exit(FAILED)


def discrepancies(
    account: AccountsOption = None,
    instrument: InstrumentsOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are settled.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 50,
    server: ServerOption = SERVER_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Where positions are not as they should be, the newest first."""

    async def question(steelyard: Steelyard) -> list[Discrepancy]:
        found: list[Discrepancy] = []
        states = () if everything else (DiscrepancyState.OPEN,)
        async for each in steelyard.list_discrepancies(
            account or (), instruments=instrument or (), states=states, page_size=min(limit, 1_000)
        ):
            found.append(each)
            if len(found) == limit:
                break
        return found

    found = ask(server, question)
    tell(found, as_json=as_json, table=lambda: discrepancies_table(found))


async def _follow(steelyard: Steelyard, asked: ReconciliationRun) -> ReconciliationRun:
    columns = (TextColumn("reconciling"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[found]} found"))
    with Progress(*columns, console=aside, transient=True) as bar:
        task = bar.add_task("reconciling", total=None, found=0)
        run = asked
        async for run in steelyard.follow_reconciliation(asked.run_id):
            done = run.keys_checked + run.keys_waiting
            bar.update(task, completed=done, total=run.keys_total or None, found=run.found)
    return run


def run_view(run: ReconciliationRun, found: Sequence[Discrepancy]) -> RenderableType:
    """A run in a few lines, and what it found."""
    parts: list[RenderableType] = [_summary(run)]
    if run.venue_error:
        parts.append(Text(f"the venue was not asked: {run.venue_error}", style="yellow"))
    if run.error:
        parts.append(Text(f"it ended early: {run.error}", style="red"))
    if found:
        parts.append(discrepancies_table(found))
    return Group(*parts)


def _summary(run: ReconciliationRun) -> str:
    parts = [f"{run.keys_checked} positions looked at", f"{run.found} found"]
    if not run.validate_only:
        parts += [f"{run.found_new} new", f"{run.keys_fixed} fixed", f"{run.resolved} found no more"]
    if run.keys_waiting:
        parts.append(f"{run.keys_waiting} left for later")
    return ", ".join(parts) + (" (nothing was written)" if run.validate_only else "")


def discrepancies_table(found: Sequence[Discrepancy]) -> RenderableType:
    """Discrepancies, one a row."""
    if not found:
        return "no discrepancies"
    table = Table(box=SIMPLE_HEAD)
    for name in ("account", "instrument", "what", "against"):
        table.add_column(name)
    for name in ("ours", "theirs"):
        table.add_column(name, justify="right")
    for name in ("", "state", "last seen"):
        table.add_column(name)
    for each in found:
        key, style = each.key, _STYLES.get(each.severity, "")
        table.add_row(
            key.account if key.book == "main" else f"{key.account}/{key.book}",
            key.instrument if key.leg == "NET" else f"{key.instrument} {key.leg}",
            Text(each.kind.lower().replace("_", " "), style=style),
            each.compared_with.lower(),
            shown(each.ours),
            shown(each.theirs),
            each.detail,
            _state(each),
            moment(each.last_seen_at) if each.discrepancy_id else "",
        )
    return table


def _state(each: Discrepancy) -> str:
    if not each.discrepancy_id:
        return ""
    return each.state.lower() if each.resolution is None else f"{each.state.lower()}: {each.resolution.lower()}"
