"""B6: a file streamed to the service until its positions are built, against a bare COPY of the same rows."""

from __future__ import annotations

import time

import asyncpg

from steelyard.client import BuildState, Steelyard
from steelyard.embedded import EmbeddedPostgres
from tests.bench.book_files import COPIED, KEYS, BookFiles, account_of, instruments
from tests.bench.harness import BenchUnavailable, Run, say
from tests.bench.service import serving, working
from tests.bench.store import copy_database, drop_database, make_instruments, new_database, open_database, settle

TIMEOUT_S = 600.0
TEMPLATE = "empty_book"


async def import_run(
    postgres: EmbeddedPostgres, files: BookFiles, *, number: int, has_reference: bool
) -> tuple[str, Run]:
    """One run; the url of the database that the import filled, and the seconds of both."""
    copied = await copy_seconds(postgres, files) if has_reference else 0.0
    url = await empty_book(postgres, f"book{number}")
    async with serving(url) as client, working(url), working(url):
        started = time.perf_counter()
        stored = await _import(client, files)
        imported = time.perf_counter() - started
    reference = f", bare COPY {copied:.1f} s" if has_reference else ""
    say(f"book imported in {imported:.1f} s ({stored:.1f} s until stored){reference}")
    return url, Run(imported, copied)


async def _import(client: Steelyard, files: BookFiles) -> float:
    """Imports the file and waits until its positions can be asked for; the seconds until its fills were stored."""
    started = time.perf_counter()
    outcome = await client.import_trades(files.csv, timeout_s=TIMEOUT_S)
    stored = time.perf_counter() - started
    done = outcome.trade_import
    if done.recorded != files.fills or done.build_id is None:
        raise BenchUnavailable(f"the import recorded {done.recorded} of {files.fills} fills")
    build = await client.build(done.build_id).wait(timeout_s=TIMEOUT_S)
    if build.state is not BuildState.SUCCEEDED:
        raise BenchUnavailable(f"the import's build ended {build.state}: {build.error}")
    found = [position async for position in client.list_positions([account_of(0)])]
    if len(found) != min(files.fills, KEYS // 20):
        raise BenchUnavailable(f"{len(found)} positions are found in an account of {KEYS // 20}")
    return stored


async def copy_seconds(postgres: EmbeddedPostgres, files: BookFiles) -> float:
    """How long a bare COPY of the rows takes into an empty table of fills, with its indexes and its commit."""
    url = await empty_book(postgres, "copied")
    connection = await asyncpg.connect(url)
    try:
        started = time.perf_counter()
        await connection.copy_to_table("fills", source=files.copy, columns=COPIED, timeout=TIMEOUT_S)
        taken = time.perf_counter() - started
    finally:
        await connection.close()
    await drop_database(postgres, "copied")
    return taken


async def make_template(postgres: EmbeddedPostgres) -> None:
    """A database that knows the instruments and nothing else, for `empty_book` to copy."""
    database = open_database(await new_database(postgres, TEMPLATE))
    try:
        await make_instruments(database, instruments())
    finally:
        await database.close()


async def empty_book(postgres: EmbeddedPostgres, name: str, *, template: str = TEMPLATE) -> str:
    """The url of a new copy of a template, everything before it being on disk."""
    url = await copy_database(postgres, name, template=template)
    database = open_database(url)
    try:
        await settle(database)
    finally:
        await database.close()
    return url
