"""Connections that speak no HTTP/2, or speak it badly, while a good client works on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from steelyard.client import Steelyard
from tests.app.processes import Serving, serving
from tests.client.desk import make_fill

SHORT, LONG = 300, 6_000
AT_ONCE = 40
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


def frame(kind: int, flags: int, *, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def badly(chance: random.Random) -> bytes:
    """What one bad connection sends."""
    headers = frame(1, 4, stream=1, payload=b"\x82\x86\x84")
    return chance.choice(
        (
            b"",
            chance.randbytes(chance.randrange(1, 2_000)),
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            PREFACE[: chance.randrange(len(PREFACE))],
            PREFACE + chance.randbytes(500),
            PREFACE + SETTINGS + headers * 50,  # the same stream again and again
            PREFACE + SETTINGS + frame(0, 0, stream=1, payload=b"data before headers"),
            PREFACE + SETTINGS + b"".join(frame(3, 0, stream=2 * n + 1, payload=bytes(4)) for n in range(200)),
            PREFACE + SETTINGS + b"".join(headers_of(2 * n + 1) + reset(2 * n + 1) for n in range(200)),
            PREFACE + SETTINGS + frame(6, 0, stream=0, payload=bytes(8)) * 500,  # pings
            PREFACE + SETTINGS + frame(4, 0, stream=0, payload=b"\x00\x04\xff\xff\xff\xff") * 50,
            PREFACE + SETTINGS + frame(8, 0, stream=0, payload=bytes(4)),  # a window grown by nothing
            PREFACE + SETTINGS + frame(1, 0, stream=1, payload=b"\x82") + frame(9, 0, stream=1, payload=b"\x40") * 500,
            PREFACE + SETTINGS + (2**24 - 1).to_bytes(3, "big") + b"\x00\x00\x00\x00\x00\x01" + bytes(1_000),
        )
    )


def headers_of(stream: int) -> bytes:
    """A request that begins and says nothing."""
    return frame(1, 4, stream=stream, payload=b"\x83\x86\x84\x41\x01x")


def reset(stream: int) -> bytes:
    """Its sender has thought better of it."""
    return frame(3, 0, stream=stream, payload=b"\x00\x00\x00\x08")


async def attack(address: str, *, count: int, seed: int) -> None:
    """So many bad connections, some at a time; some are left hanging for a while."""
    host, _, port = address.rpartition(":")
    chance = random.Random(seed)
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(sent: bytes, *, lingers_s: float) -> None:
        async with limit:
            with suppress(OSError, TimeoutError):
                reader, writer = await asyncio.open_connection(host, int(port))
                with closing(writer):
                    writer.write(sent)
                    await writer.drain()
                    async with asyncio.timeout(lingers_s):
                        await reader.read()

    await asyncio.gather(*(one(badly(chance), lingers_s=chance.choice((0.01, 0.01, 0.3))) for _ in range(count)))


async def work(steelyard: Steelyard, stop: asyncio.Event) -> tuple[int, float]:
    """A good client's work meanwhile: how many fills it recorded, and the slowest of them in seconds."""
    loop, number, slowest_s = asyncio.get_running_loop(), 0, 0.0
    while not stop.is_set():
        begun = loop.time()
        await steelyard.record_fill(make_fill(number))
        slowest_s = max(slowest_s, loop.time() - begun)
        number += 1
        await asyncio.sleep(0.005)
    return number, slowest_s


async def hold(running: Serving, *, count: int, record: Callable[[str, object], None]) -> None:
    """Attacks, with a good client beside it."""
    process = psutil.Process(running.process.pid)
    stop = asyncio.Event()
    async with Steelyard.connect(running.address, timeout_s=10) as steelyard:
        await steelyard.record_fill(make_fill(99_999))
        await attack(running.address, count=AT_ONCE, seed=0)
        rss_before = process.memory_info().rss
        working = asyncio.create_task(work(steelyard, stop))
        await attack(running.address, count=count, seed=7)
        stop.set()
        recorded, slowest_s = await working
        position = await steelyard.get_position("desk", "MNQ SEP25")
    grown_mib = (process.memory_info().rss - rss_before) / 2**20
    record("connections", count)
    record("recorded_meanwhile", recorded)
    record("slowest_s", round(slowest_s, 3))
    record("grown_mib", round(grown_mib, 1))
    assert running.process.poll() is None
    assert position.quantity == recorded + 1
    assert recorded > 10
    assert grown_mib < 100


async def test_a_good_client_works_on_beside_hostile_connections(
    database_url: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with serving(tmp_path, "--no-worker", STEELYARD_DATABASE_URL=database_url) as running:
        await hold(running, count=SHORT, record=record_property)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_six_thousand_hostile_connections(
    database_url: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with serving(tmp_path, "--no-worker", STEELYARD_DATABASE_URL=database_url) as running:
        await hold(running, count=LONG, record=record_property)
