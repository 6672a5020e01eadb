"""Taking a file: send it with a progress bar, follow its build, sum up what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TextColumn, TransferSpeedColumn

from steelyard.cli import tables
from steelyard.cli.following import follow
from steelyard.cli.session import aside
from steelyard.client import Build, ImportFormat, ImportOutcome, Steelyard


@dataclass(frozen=True, slots=True)
class ImportWishes:
    """How files are to be taken."""

    account: str = ""
    time_zone: str = ""
    format: ImportFormat | None = None
    is_validate_only: bool = False
    has_build: bool = True


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """A file that was taken, and the build it has started."""

    file: str
    outcome: ImportOutcome
    build: Build | None = None


async def take_files(
    steelyard: Steelyard, files: Sequence[Path], *, wishes: ImportWishes, waits: bool
) -> list[ImportedFile]:
    """Imports files one after the other, in the order given."""
    return [await take_file(steelyard, file, wishes=wishes, waits=waits) for file in files]


async def take_file(
    steelyard: Steelyard, file: Path, *, wishes: ImportWishes, waits: bool, request_id: str | None = None
) -> ImportedFile:
    """Imports one file; `waits` follows the build it starts to its end. Raises `SteelyardCallError`."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=aside,
        transient=True,
    ) as bar:
        task = bar.add_task(file.name, total=None)
        outcome = await steelyard.import_trades(
            file,
            format=wishes.format,
            default_account=wishes.account,
            time_zone=wishes.time_zone,
            auto_build_positions=wishes.has_build,
            validate_only=wishes.is_validate_only,
            request_id=request_id,
            progress=lambda sent, total: bar.update(task, completed=sent, total=total),
        )
    build_id = outcome.trade_import.build_id
    build = await follow(steelyard, build_id) if build_id and waits else None
    return ImportedFile(str(file), outcome, build)


def summary(taken: Sequence[ImportedFile]) -> RenderableType:
    """What became of files: counts, the rows that something is wrong with, the builds that failed."""
    parts: list[RenderableType] = [tables.imports_table([(one.file, one.outcome) for one in taken])]
    for one in taken:
        if one.outcome.rows:
            parts += [f"\n{one.file}: rows to look at", tables.rows_table(one.outcome.rows)]
        if one.build is not None and one.build.state != "SUCCEEDED":
            parts += [f"\n{one.file}: its build has not succeeded", tables.build_view(one.build)]
    return Group(*parts)
