"""Hostile requests to every method: each is answered, none as a bug of ours, and none that is refused changes anything.

Runs against a real `steelyard serve` as a process of its own, so that a crash is a crash and memory is its own.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import grpc.aio
import psutil
import pytest

from tests.access.desk import METHODS, reason_of
from tests.app.processes import SERVING, Serving, serving
from tests.guard.hostile import Hostile

SHORT, LONG = 1_500, 100_000
AT_ONCE = 8
LOOK_EVERY = 50
"""One refusal of so many is held to have changed nothing, by everything that the database holds."""
DEADLINE_S = 10.0
WAITING_S = 0.25
"""The deadline of calls that may wait by their nature; to run out is their good right."""
STREAM_S = 0.15
BUGS = ("INTERNAL", "UNKNOWN", "DATA_LOSS", "UNAVAILABLE STORE_UNAVAILABLE")
"""Ends that no request may bring about, whatever it holds."""
Record = Callable[[str, object], None]


class Fuzzing:
    """Sends hostile requests and keeps what came of them."""

    def __init__(self, channel: grpc.aio.Channel, *, seed: int) -> None:
        self._channel = channel
        self._hostile = Hostile(seed)
        self._next = 0
        self.codes: Counter[tuple[str, str]] = Counter()
        self.bugs: list[str] = []
        self.cut: list[str] = []
        """Calls that no answer of ours ended: their connection was lost, with all that were on it."""
        self.slowest = 0.0, ""
        """How long the slowest call took in seconds, and which that was."""

    async def send(self, count: int) -> None:
        """So many requests, some at a time, to all methods in turn."""
        limit = asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            async with limit:
                await self.call()

        await asyncio.gather(*(one() for _ in range(count)))

    async def call(self) -> grpc.StatusCode:
        """One request to the next method."""
        names = sorted(METHODS)
        method = names[self._next % len(names)]
        self._next += 1
        described = METHODS[method]
        messages = [self._hostile.request(described.input_type) for _ in range(3 if described.client_streaming else 1)]
        begun = time.monotonic()
        code, reason = await self._ended(method, messages, deadline_s=self._deadline_s(method))
        took_s = time.monotonic() - begun
        self.codes[method, code.name] += 1
        # Whoever would take older figures is told that the store is away when it is slower than his deadline.
        is_impatient = "max_staleness" in described.input_type.fields_by_name and reason == "STORE_UNAVAILABLE"
        if not is_impatient and (f"{code.name} {reason}".strip() in BUGS or code.name in BUGS[:3]):
            self.bugs.append(f"{method}: {code.name} {reason} for {[each.hex() for each in messages]}"[:2_000])
        if code is not grpc.StatusCode.DEADLINE_EXCEEDED:
            self.slowest = max(self.slowest, (took_s, f"{method}: {code.name} {reason}".strip()))
        return code

    def _deadline_s(self, method: str) -> float:
        described = METHODS[method]
        if described.server_streaming:
            return STREAM_S
        may_wait = described.name == "WaitBuild" or "min_commit" in described.input_type.fields_by_name
        return WAITING_S if may_wait else DEADLINE_S

    async def _ended(self, method: str, messages: list[bytes], *, deadline_s: float) -> tuple[grpc.StatusCode, str]:
        described = METHODS[method]
        make: Any = {
            (False, False): self._channel.unary_unary,
            (False, True): self._channel.unary_stream,
            (True, False): self._channel.stream_unary,
            (True, True): self._channel.stream_stream,
        }[described.client_streaming, described.server_streaming]
        call = make(method)(iter(messages) if described.client_streaming else messages[0], timeout=deadline_s)
        try:
            if described.server_streaming:
                async for _ in call:
                    pass
            else:
                await call
        except grpc.aio.AioRpcError as error:
            trailers = dict(error.trailing_metadata() or ())
            if described.client_streaming and "x-request-id" not in trailers:
                # Refused while the client was still sending: grpcio's client makes an INTERNAL of its own of that.
                return grpc.StatusCode.CANCELLED, ""
            if error.code() is grpc.StatusCode.UNAVAILABLE and "x-request-id" not in trailers:
                self.cut.append(f"{method}: {error.debug_error_string()}"[:500])
            return error.code(), reason_of(trailers)
        return grpc.StatusCode.OK, ""


async def contents(connection: asyncpg.Connection) -> dict[str, str]:
    """A digest of every table there is."""
    tables = await connection.fetch("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'")
    ours = [row["name"] for row in tables if not row["name"].startswith("procrastinate")]
    parts = [
        f"SELECT '{name}' AS name, md5(coalesce(string_agg(t::text, ',' ORDER BY t::text), '')) AS digest"
        f' FROM "{name}" t'
        for name in ours
    ]
    return {row["name"]: row["digest"] for row in await connection.fetch(" UNION ALL ".join(parts))}


async def send_and_look(fuzzing: Fuzzing, connection: asyncpg.Connection, *, count: int) -> int:
    """Sends requests; one in `LOOK_EVERY` alone, and if it is refused nothing may have changed. Gives how many of those
    were refused."""
    refused = 0
    for _ in range(count // LOOK_EVERY):
        await fuzzing.send(LOOK_EVERY - 1)
        before = await contents(connection)
        code = await fuzzing.call()
        if code not in (grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
            refused += 1
            after = await contents(connection)
            assert after == before, f"refused with {code.name}, and changed something"
    return refused


async def fuzz(running: Serving, database_url: str, *, count: int, seed: int, record: Record) -> Fuzzing:
    """Sends so many requests and holds the service to it all."""
    process = psutil.Process(running.process.pid)
    connection = await asyncpg.connect(database_url)
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(running.address, options=options) as channel:
        fuzzing = Fuzzing(channel, seed=seed)
        await fuzzing.send(len(METHODS) * 3)  # everything is loaded once
        rss_before = process.memory_info().rss
        refused = await send_and_look(fuzzing, connection, count=count)
        grown_mib = (process.memory_info().rss - rss_before) / 2**20
    await connection.close()
    record("requests", sum(fuzzing.codes.values()))
    record("slowest", fuzzing.slowest)
    record("grown_mib", round(grown_mib, 1))
    record("calls_cut_off", len(fuzzing.cut))
    assert not fuzzing.bugs, "\n".join(fuzzing.bugs[:20])
    assert '"rpc_bug"' not in running.log.read_text()
    # HTTP/2 may end a connection that resets streams by the thousand; clients repeat what was on it.
    assert len(fuzzing.cut) <= max(AT_ONCE, sum(fuzzing.codes.values()) // 1_000), fuzzing.cut[:3]
    assert refused > 0
    assert {method for method, _ in fuzzing.codes} == set(METHODS)
    assert running.process.poll() is None
    assert await asyncio.to_thread(running.health) == SERVING
    assert grown_mib < 150
    return fuzzing


async def test_hostile_requests_are_answered_and_change_nothing(
    database_url: str, tmp_path: Path, record_property: Record
) -> None:
    with serving(tmp_path, "--no-worker", STEELYARD_DATABASE_URL=database_url) as running:
        fuzzing = await fuzz(running, database_url, count=SHORT, seed=20261120, record=record_property)
    good = sum(count for (_, code), count in fuzzing.codes.items() if code == "OK")
    assert good > SHORT // 20, "requests that never get past the first field show nothing"


@pytest.mark.long
@pytest.mark.timeout(3_600)
async def test_a_hundred_thousand_hostile_requests(database_url: str, tmp_path: Path, record_property: Record) -> None:
    with serving(tmp_path, "--no-worker", STEELYARD_DATABASE_URL=database_url) as running:
        fuzzing = await fuzz(running, database_url, count=LONG, seed=1, record=record_property)
    print(f"{sum(fuzzing.codes.values()):,} requests, slowest {fuzzing.slowest}, cut off: {fuzzing.cut[:3]}")
