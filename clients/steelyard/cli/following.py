"""Following a build to its end with a progress bar."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from steelyard.cli.session import aside, json_line
from steelyard.client import Build, BuildState, Steelyard

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


def has_failed(build: Build) -> bool:
    """Whether the command that followed it must not end with status 0."""
    return build.state not in ENDED_WELL


async def _lines(states: AsyncIterator[Build]) -> Build:
    async for build in states:
        print(json_line(build), flush=True)
    return build
