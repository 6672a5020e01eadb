"""Commands about builds: start, watch, cancel, retry, list."""

from __future__ import annotations

from typing import Annotated

import typer

from steelyard.cli import tables
from steelyard.cli.following import follow, has_failed
from steelyard.cli.session import FAILED, SERVER_DEFAULT, JsonOption, ServerOption, ask, fail, tell
from steelyard.client import Build, BuildMode, Steelyard

build = typer.Typer(name="build", help="Builds: the jobs that make positions of what is stored.", no_args_is_help=True)

BuildArgument = Annotated[str, typer.Argument(metavar="BUILD", help="The build's id.")]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Do not follow it to its end.")]


@build.command()
def start(
    account: Annotated[
        list[str] | None, typer.Option("--account", "-a", help="Whole accounts; may be repeated.")
    ] = None,
    pair: Annotated[list[str] | None, typer.Option("--pair", help="ACCOUNT:INSTRUMENT; may be repeated.")] = None,
    full: Annotated[bool, typer.Option("--full", help="From the first entry, not only what is new.")] = False,
    dry_run: Annotated[bool, typer.Option("--validate-only", help="Only tell what would change.")] = False,
    no_wait: NoWaitOption = False,
    server: ServerOption = SERVER_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Start a build of everything, or of accounts, or of instruments of accounts, and follow it."""
    if account and pair:
        fail("--account and --pair exclude each other")
    pairs = [_pair(text) for text in pair or ()]

    async def work(steelyard: Steelyard) -> Build:
        handle = await steelyard.create_build(
            accounts=account or (),
            pairs=pairs,
            mode=BuildMode.FULL if full else BuildMode.INCREMENTAL,
            validate_only=dry_run,
        )
        return await _followed(steelyard, handle.build_id, is_followed=not no_wait)

    _told(ask(server, work), as_json=as_json, is_followed=not no_wait)


@build.command()
def watch(
    build_id: BuildArgument,
    server: ServerOption = SERVER_DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line for each state.")] = False,
) -> None:
    """Follow a build to its end; exit status 1 unless it succeeded."""
    ended = ask(server, lambda steelyard: follow(steelyard, build_id, as_json=as_json))
    if not as_json:
        tell(ended, as_json=False, table=lambda: tables.build_view(ended))
    if has_failed(ended):
        raise typer.Exit(FAILED)


@build.command()
def cancel(build_id: BuildArgument, server: ServerOption = SERVER_DEFAULT, as_json: JsonOption = False) -> None:
    """Ask a build to stop; what is built stays built."""
    _told(ask(server, lambda steelyard: steelyard.cancel_build(build_id)), as_json=as_json, is_followed=False)


@build.command()
def retry(
    build_id: BuildArgument,
    no_wait: NoWaitOption = False,
    server: ServerOption = SERVER_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Build again what failed in a build, and follow that."""

    async def work(steelyard: Steelyard) -> Build:
        handle = await steelyard.retry_build(build_id)
        return await _followed(steelyard, handle.build_id, is_followed=not no_wait)

    _told(ask(server, work), as_json=as_json, is_followed=not no_wait)


@build.command(name="list")
def list_builds(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000, help="How many at most.")] = 20,
    server: ServerOption = SERVER_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """The newest builds."""

    async def question(steelyard: Steelyard) -> list[Build]:
        found: list[Build] = []
        async for one in steelyard.list_builds(page_size=limit):
            found.append(one)
            if len(found) == limit:
                break
        return found

    found = ask(server, question)
    tell(found, as_json=as_json, table=lambda: tables.builds_table(found))


async def _followed(steelyard: Steelyard, build_id: str, *, is_followed: bool) -> Build:
    return await follow(steelyard, build_id) if is_followed else await steelyard.get_build(build_id)


def _told(found: Build, *, as_json: bool, is_followed: bool) -> None:
    tell(found, as_json=as_json, table=lambda: tables.build_view(found))
    if is_followed and has_failed(found):
        raise typer.Exit(FAILED)


def _pair(text: str) -> tuple[str, str]:
    account, colon, instrument = text.partition(":")
    if not (account and colon and instrument):
        fail(f"--pair: {text!r} is not ACCOUNT:INSTRUMENT")
    return account, instrument
