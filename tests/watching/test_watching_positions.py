"""Watchers are told everything once, in order, and can be taken up again where they were."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from steelyard.accounting import keys
from steelyard.accounting.errors import ResumeTokenExpired
from steelyard.operations import account_tail
from steelyard.operations.account_tail import AccountTail
from steelyard.operations.mark_tail import MarkTail
from steelyard.operations.read_events import PositionEvent
from steelyard.operations.watch_positions import (
    ChangeKind,
    MessageKind,
    ResumePoint,
    WatchMessage,
    WatchMode,
    WatchPositions,
    WatchRequest,
)
from steelyard.storage.change_reads import ChangeReads
from steelyard.storage.marks import MarkTable
from tests.recording.desk import NOW, Desk, key_of, make_fill

ACCOUNT = keys.Account("desk")
REQUEST = WatchRequest(account=ACCOUNT, min_interval_s=0.01, heartbeat_s=0.3)


class Watching:
    """The watch side of the service on a desk's database."""

    def __init__(self, desk: Desk) -> None:
        self.store = ChangeReads(desk.database)
        self.tail = AccountTail(self.store, interval_s=0.01)
        marks = MarkTail(MarkTable(desk.database), interval_s=0.01)
        self.positions = WatchPositions(self.store, self.tail, marks=marks, clock=lambda: NOW)


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    desk = Desk(database_url)
    desk.recording.start()
    yield desk
    await desk.recording.close()
    await desk.database.close()


@pytest.fixture
async def watching(desk: Desk) -> AsyncIterator[Watching]:
    watching = Watching(desk)
    watching.tail.start()
    yield watching
    await watching.tail.close()


async def until(stream: AsyncIterator[WatchMessage], kind: MessageKind, count: int = 1) -> list[WatchMessage]:
    """Messages up to and with the count-th of a kind; heartbeats are left out unless asked for."""
    messages: list[WatchMessage] = []
    async with asyncio.timeout(20):
        async for message in stream:
            if message.kind is not MessageKind.HEARTBEAT or kind is MessageKind.HEARTBEAT:
                messages.append(message)
            count -= message.kind is kind
            if not count:
                return messages
    raise AssertionError("the stream ended")


def told(messages: list[WatchMessage]) -> list[tuple[ChangeKind | None, int]]:
    return [(message.change, message.row.version) for message in messages if message.row is not None]


async def test_a_watcher_is_told_what_is_held_and_then_each_change(desk: Desk, watching: Watching) -> None:
    await desk.recording.record(make_fill(1, "BUY", "1", "21000"))
    stream = watching.positions.watch(replace(REQUEST, mode=WatchMode.EVERY_VERSION))
    begin = await until(stream, MessageKind.SNAPSHOT_END)
    assert [message.kind for message in begin] == [
        MessageKind.SNAPSHOT_BEGIN,
        MessageKind.CHANGE,
        MessageKind.SNAPSHOT_END,
    ]
    for number, side in ((2, "BUY"), (3, "SELL"), (4, "SELL"), (5, "SELL")):
        await desk.recording.record(make_fill(number, side, "1", "21000"))
    changes = await until(stream, MessageKind.CHANGE, 4)
    assert told(changes) == [
        (ChangeKind.UPDATED, 2),
        (ChangeKind.UPDATED, 3),
        (ChangeKind.CLOSED, 4),
        (ChangeKind.ADDED, 5),
    ]


async def test_a_conflated_watcher_sees_the_last_state_and_no_version_twice(desk: Desk, watching: Watching) -> None:
    stream = watching.positions.watch(replace(REQUEST, min_interval_s=0.1))
    await until(stream, MessageKind.SNAPSHOT_END)
    for number in range(60):
        await desk.recording.record(make_fill(number, "BUY", "1", "21000"))
    versions: list[int] = []
    while not versions or versions[-1] < 60:
        versions += [version for _, version in told(await until(stream, MessageKind.CHANGE))]
    assert versions == sorted(set(versions))
    assert len(versions) < 60


async def test_a_stream_taken_up_at_any_place_has_neither_gap_nor_repeat(desk: Desk, watching: Watching) -> None:
    other = key_of()._replace(book=keys.Book("b"))
    every = replace(REQUEST, mode=WatchMode.EVERY_VERSION)
    stream = watching.positions.watch(every)
    point = (await until(stream, MessageKind.SNAPSHOT_END))[-1].point
    await stream.aclose()
    seen: list[tuple[str, int]] = []
    for number in range(0, 12, 2):
        pair = [make_fill(number, "BUY", "1", "21000"), make_fill(number + 1, "BUY", "1", "21000")._replace(key=other)]
        await desk.recording.record_batch(pair)
        # One message at a time: also between two changes of one commit the stream can be left and taken up.
        for _ in range(2):
            stream = watching.positions.watch(replace(every, resume=point))
            (message,) = await until(stream, MessageKind.CHANGE)
            await stream.aclose()
            assert message.row is not None
            seen.append((message.row.key.book, message.row.version))
            point = message.point
    expected = [(book, version) for version in range(1, 7) for book in ("b", "main")]
    assert seen == expected


async def test_changes_while_nobody_watched_are_told_on_return(desk: Desk, watching: Watching) -> None:
    stream = watching.positions.watch(REQUEST)
    point = (await until(stream, MessageKind.SNAPSHOT_END))[-1].point
    await stream.aclose()
    for number in range(5):
        await desk.recording.record(make_fill(number, "BUY", "1", "21000"))
    (message,) = await until(watching.positions.watch(replace(REQUEST, resume=point)), MessageKind.CHANGE)
    assert told([message]) == [(ChangeKind.ADDED, 5)]


class SlowPast(ChangeReads):
    """Takes its time to read what lies behind one place; whatever is newer comes at once."""

    slow_after = account_tail.Place(0)

    async def changes(
        self, after: Mapping[keys.Account, account_tail.Place], *, limit: int
    ) -> Mapping[keys.Account, Sequence[PositionEvent]]:
        found = await super().changes(after, limit=limit)
        if self.slow_after in after.values():
            await asyncio.sleep(0.5)
        return found


@pytest.mark.parametrize("mode", WatchMode)
async def test_what_comes_while_a_watcher_catches_up_is_told_after_what_he_missed(desk: Desk, mode: WatchMode) -> None:
    watching, request = Watching(desk), replace(REQUEST, mode=mode)
    watching.store = SlowPast(desk.database)
    watching.tail = AccountTail(watching.store, interval_s=0.01)
    marks = MarkTail(MarkTable(desk.database), interval_s=0.01)
    watching.positions = WatchPositions(watching.store, watching.tail, marks=marks, clock=lambda: NOW)
    watching.tail.start()
    await desk.recording.record(make_fill(1, "BUY", "1", "21000"))
    point = (await until(watching.positions.watch(request), MessageKind.SNAPSHOT_END))[-1].point
    for number in (2, 3):
        await desk.recording.record(make_fill(number, "BUY", "1", "21000"))
    SlowPast.slow_after = point.place
    stream = watching.positions.watch(replace(request, resume=point))
    coming = asyncio.create_task(until(stream, MessageKind.CHANGE))
    await asyncio.sleep(0.2)
    for number in (4, 5):
        await desk.recording.record(make_fill(number, "BUY", "1", "21000"))
    versions = [version for _, version in told(await coming)]
    while versions[-1] < 5:
        versions += [version for _, version in told(await until(stream, MessageKind.CHANGE))]
    assert versions == ([2, 3, 4, 5] if mode is WatchMode.EVERY_VERSION else [5])
    await watching.tail.close()


async def test_a_heartbeat_carries_the_place_while_nothing_happens(watching: Watching) -> None:
    messages = await until(watching.positions.watch(REQUEST), MessageKind.HEARTBEAT)
    assert messages[-1].point.account == ACCOUNT


async def test_another_database_resets_the_stream_and_begins_anew(desk: Desk, watching: Watching) -> None:
    await desk.recording.record(make_fill(1, "BUY", "1", "21000"))
    point = ResumePoint("another", ACCOUNT, account_tail.Place(7), NOW)
    messages = await until(watching.positions.watch(replace(REQUEST, resume=point)), MessageKind.SNAPSHOT_END)
    assert [message.kind for message in messages][:2] == [MessageKind.RESET, MessageKind.SNAPSHOT_BEGIN]
    assert told(messages) == [(ChangeKind.ADDED, 1)]


async def test_an_old_resume_point_is_refused(watching: Watching) -> None:
    epoch = await watching.store.epoch()
    point = ResumePoint(epoch, ACCOUNT, account_tail.Place(0), NOW - timedelta(hours=25))
    with pytest.raises(ResumeTokenExpired):
        await until(watching.positions.watch(replace(REQUEST, resume=point)), MessageKind.CHANGE)


async def test_a_slow_reader_of_every_version_is_reset(
    desk: Desk, watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_tail, "EVERY_VERSION_MAX", 10)
    stream = watching.positions.watch(replace(REQUEST, mode=WatchMode.EVERY_VERSION))
    await until(stream, MessageKind.SNAPSHOT_END)
    for number in range(20):
        await desk.recording.record(make_fill(number, "BUY", "1", "21000"))
    await asyncio.sleep(0.3)
    messages = await until(stream, MessageKind.RESET)
    assert messages[-1].reason == "SLOW_READER"


async def test_a_leaving_service_says_so_with_a_place_to_resume(desk: Desk, watching: Watching) -> None:
    stream = watching.positions.watch(REQUEST)
    await until(stream, MessageKind.SNAPSHOT_END)
    await watching.tail.close()
    messages = await until(stream, MessageKind.GOING_AWAY)
    assert messages[-1].point.place.seq == 0


async def test_only_the_watched_instruments_are_told(desk: Desk, watching: Watching) -> None:
    stream = watching.positions.watch(replace(REQUEST, instruments=frozenset({keys.InstrumentName("ES SEP25")})))
    await until(stream, MessageKind.SNAPSHOT_END)
    await desk.recording.record(make_fill(1, "BUY", "1", "21000"))
    await desk.recording.record(make_fill(2, "BUY", "1", "5000")._replace(key=key_of(instrument="ES SEP25")))
    (message,) = await until(stream, MessageKind.CHANGE)
    assert message.row is not None
    assert message.row.key.instrument == "ES SEP25"
