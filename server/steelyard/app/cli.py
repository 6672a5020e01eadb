"""The command line: the processes of the service, and the commands that ask it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from steelyard.app import running
from steelyard.app.failures import FAILED, told
from steelyard.cli.keys import keys
from steelyard.cli.registration import register

HostOption = Annotated[str | None, typer.Option("--host", help="Address to listen on.", show_default="127.0.0.1")]
PortOption = Annotated[
    int | None, typer.Option("--port", help="Port to listen on; 0: a free one.", show_default="4800")
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Folder of the embedded database.", show_default="~/.steelyard", file_okay=False),
]

OwnedOption = Annotated[bool, typer.Option("--owned", hidden=True, help="End when standard input does.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

commands = typer.Typer(
    name="steelyard",
    help="Fills in, exact positions out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@commands.command()
def serve(
    host: HostOption = None,
    port: PortOption = None,
    data: DataOption = None,
    worker: Annotated[
        bool | None,
        typer.Option("--worker/--no-worker", help="Run a worker beside it; unless said, on the embedded database."),
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", help="How many processes serve on the port.", show_default="1")
    ] = None,
    owned: OwnedOption = False,
) -> None:
    """Serve gRPC. Without STEELYARD_DATABASE_URL: on an embedded PostgreSQL, with a worker beside it."""
    from steelyard.app.serve import serve as run_service
    from steelyard.app.settings import read_settings

    settings = read_settings(host=host, port=port, data_directory=data, processes=processes)
    _run(lambda stop: run_service(settings, has_worker=worker, say=_say, stop=stop, is_owned=owned))


@commands.command()
def work(
    data: DataOption = None,
    owned: OwnedOption = False,
) -> None:
    """Build positions. A worker on the database of STEELYARD_DATABASE_URL; start as many as you like."""
    from steelyard.app.settings import read_settings
    from steelyard.app.work import work as run_worker

    settings = read_settings(data_directory=data)
    _run(lambda stop: run_worker(settings, is_owned=owned, stop=stop))


@commands.command()
def migrate(
    to: Annotated[str, typer.Option("--to", help="Revision to bring it to; `base` takes everything down.")] = "head",
    data: DataOption = None,
) -> None:
    """Bring the database to the newest schema. That of STEELYARD_DATABASE_URL, or the embedded one."""
    from steelyard.app.migrate import migrate as run_migration
    from steelyard.app.settings import read_settings

    settings = read_settings(data_directory=data)
    _run(lambda _stop: run_migration(settings, revision=to, say=_say))


@commands.command("doctor")
def examine(
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at everything the service stands on, and say what to do. Exit status 1 when something fails."""
    from steelyard.app.assembly import system_clock
    from steelyard.app.doctor import doctor
    from steelyard.app.doctor_checks import CHECKS
    from steelyard.app.settings import read_settings

    _run(
        lambda _stop: doctor(
            lambda: read_settings(data_directory=data), checks=CHECKS, clock=system_clock, as_json=as_json, say=_say
        )
    )


@commands.command()
def demo(
    file: Annotated[
        list[Path] | None,
        typer.Option("--file", help="Import this file instead; may be given again."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a day of trading, start to end. On a private database that is gone afterwards."""
    from rich.console import Console

    from steelyard.app.demo import Demo
    from steelyard.app.settings import read_settings

    if as_json and not file:
        raise typer.BadParameter("needs --file", param_hint="--json")
    settings = read_settings(host="127.0.0.1", port=0, log_level="error", drain_wait_s=0, api_keys="off")
    # Where the width is not known, lines are as long as they need to be.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 110
    show = Demo(settings, out=Console(width=width), aside=Console(stderr=True, width=width))
    _run(lambda stop: running.unless_stopped(stop, show.run_files(file, as_json=as_json) if file else show.run_day()))


@commands.command()
def sample(
    format: Annotated[  # noqa: A002 - what it is called everywhere
        str, typer.Argument(help="ninjatrader, generic_csv, bybit or binance.")
    ],
    fills: Annotated[int, typer.Option("--fills", min=0, max=5_000_000, help="How many executions.")] = 200,
    seed: Annotated[int, typer.Option("--seed", min=0, max=10**6, help="The same seed gives the same file.")] = 1,
) -> None:
    """Print an invented file of executions to try an import with."""
    from steelyard.app.sample_files import SAMPLES

    if format not in SAMPLES:
        raise typer.BadParameter(f"{format!r} is none of {', '.join(SAMPLES)}", param_hint="FORMAT")
    for line in SAMPLES[format](seed, fills=fills):
        sys.stdout.write(line)


register(commands)


@keys.command("first")
def first_key(
    owner: Annotated[str, typer.Option("--owner", help="Who is to use it.")] = "admin",
    data: DataOption = None,
) -> None:
    """Make a key for everything in the database itself. No call can make the first one."""
    from steelyard.app.first_key import first_key as make_key
    from steelyard.app.settings import read_settings

    settings = read_settings(data_directory=data)
    _run(lambda _stop: make_key(settings, owner=owner, say=_say))


def main() -> None:
    """Runs the command line; a failure is one clear line on standard error and an exit status above 0."""
    try:
        commands()
    except Exception as error:
        line = told(error)
        if line is None:
            raise
        print(f"steelyard: {line.text}", file=sys.stderr)
        sys.exit(line.status)


def _say(line: str) -> None:
    print(line, flush=True)


def _run(main: Callable[[asyncio.Event], Coroutine[Any, Any, bool]]) -> None:
    """Runs a process of ours to its end; False means that it did not end well."""
    if not running.run(main):
        raise typer.Exit(FAILED)
