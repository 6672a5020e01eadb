"""A program that owns an embedded server, for tests of what becomes of the server when its owner ends.

Usage: owner_program.py DIRECTORY|- TEMPORARY_PARENT|- wait|raise|exit|fork|stop
Prints one line of JSON once the server runs.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import asyncpg

from steelyard.embedded import EmbeddedPostgres


async def answer(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SELECT 1"))
    finally:
        await connection.close()


def path(word: str) -> Path | None:
    return None if word == "-" else Path(word)


def main(directory: str, temporary_parent: str, ending: str) -> None:
    postgres = EmbeddedPostgres.start_blocking(
        path(directory), durable=directory != "-", temporary_parent=path(temporary_parent)
    )
    postmaster = postgres.data_directory / "postgres" / "postmaster.pid"
    facts = {
        "url": postgres.url,
        "port": postgres.port,
        "data_directory": str(postgres.data_directory),
        "server": int(postmaster.read_text().split()[0]),
        "answer": asyncio.run(answer(postgres.url)),
        "user": os.geteuid(),
    }
    if ending == "fork" and os.fork() == 0:
        sys.exit(0)  # The child runs the exit handlers it inherited.
    if ending == "fork":
        os.wait()
        facts["after_fork"] = asyncio.run(answer(postgres.url))
    print(json.dumps(facts), flush=True)
    if ending == "wait":
        time.sleep(60)
    if ending == "raise":
        raise RuntimeError("the owner fails")
    if ending == "stop":
        postgres.stop_blocking()


main(*sys.argv[1:])
