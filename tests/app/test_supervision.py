"""A service of which a part dies ends, and says which one it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from steelyard.accounting.errors import StoreUnavailable
from steelyard.app.assembly import Service
from steelyard.app.supervision import PartEnded, until_one_ends
from steelyard.operations.fill_writer import FillWriter
from tests.client.desk import serving_book
from tests.recording.desk import make_fill
from tests.rpc.trouble import LogLines


class Broken(Exception):
    """A mistake of ours."""


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[Service]:
    async with serving_book(database_url) as service:
        yield service


def background(service: Service) -> dict[str, asyncio.Task[None]]:
    return {task.get_name(): task for task in service._operations.background if task is not None}


async def test_every_task_that_follows_or_writes_is_watched(service: Service) -> None:
    assert {"fill_writer", "account_tail", "watch_limits", "mark_tail", "portfolio_feeds"} <= set(background(service))


@pytest.mark.parametrize("name", ["fill_writer", "account_tail", "watch_limits"])
async def test_a_task_that_dies_ends_the_wait_for_the_service(service: Service, name: str) -> None:
    waiting = asyncio.create_task(service.wait())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    background(service)[name].cancel()
    async with asyncio.timeout(10):
        with pytest.raises(PartEnded, match=name):
            await waiting


async def test_what_a_task_raised_is_raised_and_logged() -> None:
    async def break_down() -> None:
        raise Broken

    async def last() -> None:
        await asyncio.Event().wait()

    log: Any = LogLines()
    lasting = asyncio.create_task(last())
    with pytest.raises(Broken):
        await until_one_ends([lasting, asyncio.create_task(break_down(), name="tail")], log=log)
    assert log.lines == [{"event": "background_task_died", "task": "tail", "error": "Broken"}]
    assert not lasting.done()
    lasting.cancel()


async def test_a_task_that_was_never_started_is_one_that_has_ended() -> None:
    with pytest.raises(PartEnded):
        await until_one_ends([None], log=LogLines())


async def test_a_writer_that_dies_leaves_nobody_waiting() -> None:
    begun = asyncio.Event()

    async def commit(*round_of_fills: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()

    writer = FillWriter(commit)
    writer.start()
    first = asyncio.create_task(writer.submit([make_fill(1, "BUY", "1", "1")], caller="a"))
    await begun.wait()
    second = asyncio.create_task(writer.submit([make_fill(2, "BUY", "1", "1")], caller="b"))
    await asyncio.sleep(0)
    assert writer.task is not None
    writer.task.cancel()
    for waiting in (first, second):
        (answer,) = await waiting
        assert isinstance(answer, StoreUnavailable)
    with pytest.raises(StoreUnavailable):
        await writer.submit([make_fill(3, "BUY", "1", "1")], caller="a")
    await writer.close()
