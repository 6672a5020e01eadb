"""Following a build to its end with a progress bar, and a portfolio for as long as one likes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from steelyard.cli import tables
from steelyard.cli.session import aside, json_line, screen
from steelyard.client import Build, BuildState, Portfolio, Steelyard

ENDED_WELL = {BuildState.SUCCEEDED}


async def follow(steelyard: Steelyard, build_id: str, *, as_json: bool = False) -> Build:
    """The build once it has ended; meanwhile a bar on standard error, or one JSON line per state on standard output."""
    if as_json:
        return await _lines(steelyard.watch_build(build_id))
    with Progress(
        TextColumn("building"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("keys {task.fields[key]}"),
        TimeRemainingColumn(),
        console=aside,
        transient=True,
    ) as bar:
        task = bar.add_task("build", total=None, key="")
        async with aclosing(steelyard.watch_build(build_id)) as states:
            async for build in states:
                progress, key = build.progress, build.progress.current_key
                bar.update(
                    task,
                    total=progress.keys_total or None,
                    completed=progress.keys_done,
                    key=f"{key.account} {key.instrument}" if key else "",
                )
    return build


async def watch_portfolio(
    steelyard: Steelyard, accounts: Sequence[str] | None, *, instruments: Sequence[str] | None, as_json: bool
) -> None:
    """The figures of a portfolio whenever they change: a table each time, or one JSON line."""
    async with aclosing(steelyard.watch_portfolio(accounts or (), instruments=instruments or ())) as changes:
        async for change in changes:
            if as_json:
                print(json_line(change), flush=True)
            else:
                told = Portfolio(currencies=change.currencies, positions=(), positions_truncated=False)
                screen.print(tables.portfolio_view(told))


def has_failed(build: Build) -> bool:
    """Whether the command that followed it must not end with status 0."""
    return build.state not in ENDED_WELL


async def _lines(states: AsyncIterator[Build]) -> Build:
    async for build in states:
        print(json_line(build), flush=True)
    return build
