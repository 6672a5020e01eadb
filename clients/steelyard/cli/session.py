"""What every command has in common: where the service is, how the answer is told, and how a failure looks."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console, RenderableType

from steelyard.client import DEFAULT_ADDRESS, InvalidField, Steelyard, SteelyardCallError

T = TypeVar("T")

FAILED = 1
INTERRUPTED = 130

ServerOption = Annotated[
    str, typer.Option("--server", envvar="STEELYARD_SERVER", help="Where the service is, as host:port.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, decimals as text.")]
SERVER_DEFAULT = DEFAULT_ADDRESS

_MICROSECOND = timedelta(microseconds=1)

_HUNG_UP = ("Socket closed", "Connection reset", "Broken pipe")

PIPE_WIDTH = 200
"""Columns of a table that no terminal limits."""

screen = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
"""Answers, on standard output."""
aside = Console(stderr=True, highlight=False)
"""Progress and remarks, on standard error."""


def ask(server: str, question: Callable[[Steelyard], Awaitable[T]]) -> T:
    """Runs a question against the service; a failed one is one clear line on standard error and exit status 1."""
    try:
        return asyncio.run(_asked(server, question))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except SteelyardCallError as error:
        fail(failure_line(error, server=server))
    except (OSError, TimeoutError, ValueError) as error:
        fail(str(error) or type(error).__name__)


def connected(server: str) -> Steelyard:
    """A client of the service, with the key in STEELYARD_API_KEY, over TLS where STEELYARD_TLS_CA names a PEM file of
    authorities. Raises `OSError` where that cannot be read."""
    authorities = os.environ.get("STEELYARD_TLS_CA")
    return Steelyard.connect(
        server,
        api_key=os.environ.get("STEELYARD_API_KEY") or None,
        authorities=Path(authorities).read_bytes() if authorities else None,
    )


def tell(records: Any, *, as_json: bool, table: Callable[[], RenderableType]) -> None:
    """Prints an answer: as JSON, or as the table that is made only then."""
    if as_json:
        print(json_text(records))
    else:
        screen.print(table())


async def first(rows: AsyncIterator[T], limit: int) -> AsyncIterator[T]:
    """At most `limit` rows; the pages after them are never asked for."""
    left = limit
    async for row in rows:
        yield row
        left -= 1
        if left == 0:
            return


def fail(line: str) -> NoReturn:
    """Ends the command with one line on standard error and exit status 1."""
    print(f"steelyard: {' '.join(line.split())}", file=sys.stderr)
    raise typer.Exit(FAILED)


def failure_line(error: SteelyardCallError, *, server: str) -> str:
    """What went wrong, on one line: the reason a program would branch on, and the words for a person."""
    if isinstance(error, InvalidField) and error.violations:
        return "; ".join(f"{violation.field}: {violation.why}" for violation in error.violations)
    if not error.reason and error.code.name == "UNAVAILABLE":
        return _unreached(error.message, server=server)
    return f"{error.reason or error.code.name}: {error.message}"


def _unreached(why: str, *, server: str) -> str:
    if "Connection refused" in why:
        return f"no service at {server} (start one with: steelyard serve)"
    if any(words in why for words in _HUNG_UP):
        return f"{server} hung up; if it speaks TLS, STEELYARD_TLS_CA has to name a file of its authorities"
    return f"{server} cannot be reached: {why}"


def json_text(value: Any) -> str:
    """One JSON document: decimals as text, times in ISO 8601 UTC, spans in seconds, absent values as null."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=False)


def json_line(value: Any) -> str:
    """The same on one line."""
    return json.dumps(_plain(value), ensure_ascii=False)


async def _asked(server: str, question: Callable[[Steelyard], Awaitable[T]]) -> T:
    async with connected(server) as steelyard:
        return await question(steelyard)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return format(Decimal(value // _MICROSECOND).scaleb(-6).normalize(), "f")
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(one) for one in value]
    return value
