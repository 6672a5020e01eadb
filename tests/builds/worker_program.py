"""A worker process for tests: builds on the database it is given until it is told to stop."""

import asyncio
import signal
import sys
from datetime import UTC, datetime

from steelyard.builds.worker import WorkerSettings, run_worker
from steelyard.operations.build_positions import BuildPositions
from steelyard.storage.build_chunks import PostgresChunkWork
from steelyard.storage.build_sweep import PostgresSweep
from steelyard.storage.database import Database


def clock() -> datetime:
    return datetime.now(UTC)


async def main(url: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    database = Database(url)
    builder = BuildPositions(PostgresChunkWork(database, clock), clock)
    work = asyncio.ensure_future(
        run_worker(url, builder=builder, sweep=PostgresSweep(database), settings=WorkerSettings(), stop=stop)
    )
    print("working", flush=True)
    await work
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
