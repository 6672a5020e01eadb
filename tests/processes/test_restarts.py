"""Real server processes that come and go under load: no call fails, and a watcher misses nothing and hears no lie."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, aclosing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from steelyard.client import PositionChange, Steelyard, WatchMode
from steelyard.client.errors import Unavailable
from tests.app.processes import Serving, serving
from tests.client.desk import make_fill
from tests.processes.cluster import TOKEN_KEY, own_client

T = TypeVar("T")
Record = Callable[[str, Any], None]
CALLERS = 4
BUSY_CALLS = 100
BUSY_CHANGES = 10
BOOKS = ("main", "swing", "hedge")
PATIENCE_S = 0.2
OVERLAP_S = 1.0
"""How long old and new serve side by side in a rollover."""


def variables(url: str) -> dict[str, str]:
    return {
        "STEELYARD_DATABASE_URL": url,
        "STEELYARD_PAGE_TOKEN_KEY": TOKEN_KEY,
        "STEELYARD_POOL_SIZE": "4",
        "STEELYARD_SHARES_PORT": "true",
    }


class Load:
    """Callers that write and read one after the other, until told to stop; a failed call ends the test, unless they
    are patient and repeat what found no server."""

    def __init__(self, address: str, *, pause_s: float = 0.0, is_patient: bool = False) -> None:
        self._address = address
        self._is_patient = is_patient
        self._pause_s = pause_s
        self._is_over = False
        self._tasks: list[asyncio.Task[None]] = []
        self.calls = 0
        self.slowest_s = 0.0
        self.fills: Counter[str] = Counter()

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._call(number)) for number in range(CALLERS)]

    async def stop(self) -> None:
        self._is_over = True
        await asyncio.gather(*self._tasks)

    def check(self) -> None:
        """Raises what a caller met."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def _call(self, caller: int) -> None:
        async with own_client(self._address) as client:
            number = 0
            while not self._is_over:
                number += 1
                book = BOOKS[(caller + number) % len(BOOKS)]
                fill = make_fill(number * CALLERS + caller, book=book, quantity="0.1")
                begun = time.monotonic()
                recorded = await self._done(partial(client.record_fill, fill))
                self.fills[book] += 1
                position = await self._done(partial(client.get_position, "desk", "MNQ SEP25", book=book))
                assert position.version >= recorded.receipt.version
                self.slowest_s = max(self.slowest_s, time.monotonic() - begun)
                self.calls += 2
                await asyncio.sleep(self._pause_s)

    async def _done(self, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await call()
            except Unavailable:
                if not self._is_patient:
                    raise
                await asyncio.sleep(PATIENCE_S)


class Watcher:
    """Everything that one watch of the client library was told."""

    def __init__(self, address: str, mode: WatchMode) -> None:
        self._address = address
        self.mode = mode
        self.versions: dict[str, list[int]] = defaultdict(list)
        self.last: dict[str, PositionChange] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        """How many versions it was told."""
        return sum(map(len, self.versions.values()))

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        async with own_client(self._address) as client:
            watching = client.watch_positions(
                "desk", mode=self.mode, heartbeat=timedelta(seconds=2), min_interval=timedelta(milliseconds=20)
            )
            async with aclosing(watching) as changes:
                async for change in changes:
                    self.versions[change.position.book].append(change.position.version)
                    self.last[change.position.book] = change

    async def has_seen(self, client: Steelyard) -> None:
        """Waits until the last state of every key has been told, and holds all that was told against the guarantees."""
        assert self._task is not None
        wanted = {position.book: position async for position in client.list_positions(["desk"])}
        async with asyncio.timeout(60):
            while any(versions[-1:] != [wanted[book].version] for book, versions in self._told(wanted)):
                assert not self._task.done(), self._task
                await asyncio.sleep(0.1)
        self._task.cancel()
        for book, versions in self.versions.items():
            assert versions == sorted(set(versions)), "a version twice, or out of order"
            if self.mode is WatchMode.EVERY_VERSION:
                assert versions == list(range(versions[0], versions[-1] + 1)), "a gap"
            assert self.last[book].position.quantity == wanted[book].quantity

    def _told(self, wanted: dict[str, Any]) -> list[tuple[str, list[int]]]:
        return [(book, self.versions[book]) for book in wanted]


async def started(stack: ExitStack, folder: Path, url: str, *, port: str = "0") -> Serving:
    folder.mkdir()
    return await asyncio.to_thread(stack.enter_context, serving(folder, "--port", port, **variables(url)))


async def busy(load: Load, watchers: Sequence[Watcher]) -> None:
    """Waits until a server has done enough to be missed: callers have written through it, watchers were told of it."""
    calls, told = load.calls + BUSY_CALLS, [watcher.count + BUSY_CHANGES for watcher in watchers]
    async with asyncio.timeout(60):
        while load.calls < calls or any(watcher.count < least for watcher, least in zip(watchers, told, strict=True)):
            load.check()
            await asyncio.sleep(0.05)


async def restarts(folder: Path, url: str, *, count: int, record: Record) -> None:
    """A watcher of each kind, writers, and one server after another on one port."""
    with ExitStack() as stack:
        service = await started(stack, folder / "0", url)
        port = service.address.rsplit(":", 1)[1]
        watchers = [Watcher(service.address, mode) for mode in WatchMode]
        load = Load(service.address, pause_s=0.02, is_patient=True)
        for watcher in watchers:
            watcher.start()
        load.start()
        for number in range(1, count + 1):
            await busy(load, watchers)
            await asyncio.to_thread(service.end)
            service = await started(stack, folder / str(number), url, port=port)
        await busy(load, watchers)
        await load.stop()
        async with own_client(service.address) as client:
            for watcher in watchers:
                await watcher.has_seen(client)
            found = {position.book: position.fill_count async for position in client.list_positions(["desk"])}
        assert found == dict(load.fills)
        record("restarts", count)
        record("versions_told", {watcher.mode.value: watcher.count for watcher in watchers})
        record("calls", load.calls)
        print(f"\n{count} restarts, {load.calls} calls,", {each.mode.value: each.count for each in watchers})
        assert await asyncio.to_thread(service.end) == 0


async def rollovers(folder: Path, url: str, *, count: int, record: Record) -> None:
    """Under load a new server takes the port while the old one drains."""
    with ExitStack() as stack:
        service = await started(stack, folder / "0", url)
        port = service.address.rsplit(":", 1)[1]
        load = Load(service.address)
        load.start()
        for number in range(1, count + 1):
            newer = await started(stack, folder / str(number), url, port=port)
            await asyncio.sleep(OVERLAP_S)
            assert await asyncio.to_thread(service.end) == 0
            load.check()
            service = newer
        await asyncio.sleep(OVERLAP_S)
        await load.stop()
        async with own_client(service.address) as client:
            found = {position.book: position.fill_count async for position in client.list_positions(["desk"])}
        assert found == dict(load.fills)
        record("rollovers", count)
        record("calls", load.calls)
        record("slowest_pair_of_calls_s", round(load.slowest_s, 3))
        print(f"\n{count} rollovers: {load.calls} calls, 0 failed, slowest pair {load.slowest_s:.2f} s")
        assert await asyncio.to_thread(service.end) == 0


@pytest.mark.slow
@pytest.mark.faults
async def test_no_call_fails_while_servers_are_rolled_over(
    tmp_path: Path, database_url: str, record_property: Record
) -> None:
    await rollovers(tmp_path, database_url, count=1, record=record_property)


@pytest.mark.long
@pytest.mark.faults
@pytest.mark.timeout(900)
async def test_no_call_fails_in_twelve_rollovers(tmp_path: Path, database_url: str, record_property: Record) -> None:
    await rollovers(tmp_path, database_url, count=12, record=record_property)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.timeout(400)
async def test_watchers_are_told_every_last_state_through_restarts(
    tmp_path: Path, database_url: str, record_property: Record
) -> None:
    await restarts(tmp_path, database_url, count=1, record=record_property)


@pytest.mark.long
@pytest.mark.faults
@pytest.mark.timeout(1_200)
async def test_watchers_are_told_every_last_state_through_twenty_restarts(
    tmp_path: Path, database_url: str, record_property: Record
) -> None:
    await restarts(tmp_path, database_url, count=20, record=record_property)
