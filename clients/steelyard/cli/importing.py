"""`steelyard import`: files of executions in, with a progress bar, a summary, and the rows that were refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from steelyard.cli.following import has_failed
from steelyard.cli.session import FAILED, SERVER_DEFAULT, JsonOption, ServerOption, ask, fail, tell
from steelyard.cli.taking import ImportWishes, summary, take_files
from steelyard.cli.watched_folder import WatchedFolder
from steelyard.client import ImportFormat


def import_files(
    files: Annotated[list[Path] | None, typer.Argument(metavar="FILE...", help="Files of executions.")] = None,
    account: Annotated[str, typer.Option("--account", "-a", help="Account of rows that name none.")] = "",
    time_zone: Annotated[str, typer.Option("--zone", help="IANA zone of times without one.")] = "",
    format: Annotated[  # noqa: A002 - the option's name
        str, typer.Option("--format", help="Refuse any other: ninjatrader, generic_csv, bybit, binance.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--validate-only", help="Only check; record nothing.")] = False,
    no_build: Annotated[bool, typer.Option("--no-build", help="Store the fills; build later.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not follow the build to its end.")] = False,
    watch: Annotated[
        Path | None, typer.Option("--watch", metavar="DIR", help="Keep importing what is put into this folder.")
    ] = None,
    server: ServerOption = SERVER_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Import files of executions; rows known already are repeated, never recorded twice."""
    if bool(files) == bool(watch):
        fail("name FILES to import, or a folder to --watch")
    wishes = ImportWishes(account, time_zone, _format(format), is_validate_only=dry_run, has_build=not no_build)
    if watch is not None:
        ask(server, WatchedFolder(watch, wishes, as_json=as_json).run)
        return
    for file in files or ():
        if not file.is_file():
            fail(f"there is no file {file}")
    taken = ask(server, lambda steelyard: take_files(steelyard, files or [], wishes=wishes, waits=not no_wait))
    tell(taken, as_json=as_json, table=lambda: summary(taken))
    if any(one.build is not None and has_failed(one.build) for one in taken if not no_wait):
        raise typer.Exit(FAILED)


def _format(word: str) -> ImportFormat | None:
    if not word:
        return None
    try:
        return ImportFormat(word.upper().replace("-", "_"))
    except ValueError:
        known = ", ".join(one.lower() for one in ImportFormat)
        fail(f"--format: {word!r} is none of {known}")
