"""The service and its workers as processes of their own, as they run in production."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from steelyard.client import Steelyard
from tests.bench.harness import BenchUnavailable

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0
LOOK_INTERVAL_S = 0.1
LOGS = Path(".work") / "bench" / "logs"
_SERVES = re.compile(r"serves on (\S+?):? ")


@asynccontextmanager
async def serving(url: str, *, variables: Mapping[str, str] | None = None) -> AsyncIterator[Steelyard]:
    """A service without a worker on a database, and a client of it; `variables` are settings of it."""
    async with serving_at(url, variables=variables) as address, Steelyard.connect(address) as client:
        yield client


@asynccontextmanager
async def serving_at(url: str, *, variables: Mapping[str, str] | None = None) -> AsyncIterator[str]:
    """The same; gives its address, for callers with clients of their own."""
    async with _running(url, "serve", "--port", "0", "--no-worker", variables=variables) as process:
        address = await _address(process)
        reading = asyncio.create_task(_discard(process))
        try:
            yield address
        finally:
            reading.cancel()


@asynccontextmanager
async def working(url: str) -> AsyncIterator[None]:
    """One more worker on a database, from when it waits for jobs on."""
    connection = await asyncpg.connect(url)
    try:
        before = await _workers(connection)
        async with _running(url, "work", "--owned") as process:
            reading = asyncio.create_task(_discard(process))
            try:
                await _until_more(connection, before, process=process)
                yield
            finally:
                reading.cancel()
    finally:
        await connection.close()


@asynccontextmanager
async def _running(url: str, *command: str, variables: Mapping[str, str] | None = None) -> AsyncIterator[Process]:
    LOGS.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STEELYARD_")}
    # What it logs is kept until the next start, for those who want to know why it failed.
    with (LOGS / f"{command[0]}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "steelyard.app", *command),
            stdin=PIPE,
            stdout=PIPE,
            stderr=log,
            env={**environment, "STEELYARD_DATABASE_URL": url, "STEELYARD_LOG_LEVEL": "warning", **(variables or {})},
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


async def _address(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(START_TIMEOUT_S):
        while line := (await process.stdout.readline()).decode():
            if found := _SERVES.search(line):
                return found[1]
    raise BenchUnavailable(f"the service ended with status {await process.wait()}; see {LOGS}")


async def _discard(process: Process) -> None:
    assert process.stdout is not None
    while await process.stdout.readline():
        pass


async def _workers(connection: asyncpg.Connection) -> int:
    count: int = await connection.fetchval("SELECT count(*) FROM procrastinate_workers")
    return count


async def _until_more(connection: asyncpg.Connection, before: int, *, process: Process) -> None:
    """Waits until the worker has registered with the task engine."""
    async with asyncio.timeout(START_TIMEOUT_S):
        while await _workers(connection) <= before:
            if process.returncode is not None:
                raise BenchUnavailable(f"a worker ended with status {process.returncode}; see {LOGS}")
            await asyncio.sleep(LOOK_INTERVAL_S)
    await asyncio.sleep(1)
