"""The reference of calls: a bare grpc.aio server that answers one method with an equal message, and a loop of calls.

The echo is a process of its own on the product's event loop, without interceptors: it parses the same request and puts
the same answer into bytes again for each call, as the least servicer there can be would. Both are asked by the same
client loop through the same stub, so that their ratio is what the product's own work costs.

    python -m tests.bench.echo METHOD MODULE:REQUEST MODULE:ANSWER   (the answer's bytes on standard input)
"""

from __future__ import annotations

import asyncio
import importlib
import os
import statistics
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from tests.bench.harness import BenchUnavailable

START_TIMEOUT_S = 120.0
WARM_UP_S = 0.5
P99 = 0.99


@dataclass(frozen=True, slots=True)
class Calls:
    """What a loop of calls came to."""

    count: int
    per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float


async def measure(ask: Callable[[], Awaitable[Any]], *, in_flight: int, lasting_s: float) -> Calls:
    """Calls `ask` with so many at a time for so long, after half a second that does not count. Any error is raised."""
    await _loop(ask, in_flight=in_flight, lasting_s=WARM_UP_S)
    started = time.perf_counter()
    took = await _loop(ask, in_flight=in_flight, lasting_s=lasting_s)
    return calls_of(took, lasting_s=time.perf_counter() - started)


def calls_of(took_s: list[float], *, lasting_s: float) -> Calls:
    """The figures of calls that took so long each, in seconds."""
    ordered = sorted(took_s)
    return Calls(
        count=len(ordered),
        per_s=len(ordered) / lasting_s,
        p50_ms=statistics.median(ordered) * 1e3,
        p99_ms=ordered[int((len(ordered) - 1) * P99)] * 1e3,
        max_ms=ordered[-1] * 1e3,
    )


async def _loop(ask: Callable[[], Awaitable[Any]], *, in_flight: int, lasting_s: float) -> list[float]:
    until = time.perf_counter() + lasting_s
    took: list[float] = []

    async def caller() -> None:
        begun = time.perf_counter()
        while begun < until:
            await ask()
            ended = time.perf_counter()
            took.append(ended - begun)
            begun = ended

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(caller())
    return took


@asynccontextmanager
async def echoing(method: str, *, request: type[Message], answer: Message) -> AsyncIterator[str]:
    """An echo of `answer` for a method (`/steelyard.v1.PositionService/GetPosition`); gives its address."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.echo", method, _named(request), _named(type(answer))),
        stdin=PIPE,
        stdout=PIPE,
        env={**os.environ, "GRPC_VERBOSITY": "ERROR"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(answer.SerializeToString())
        process.stdin.write_eof()
        async with asyncio.timeout(START_TIMEOUT_S):
            address = (await process.stdout.readline()).decode().strip()
        if not address:
            raise BenchUnavailable(f"the echo ended with status {await process.wait()}")
        yield address
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _named(message: type[Message]) -> str:
    return f"{message.__module__}:{message.__qualname__}"


def _found(name: str) -> type[Message]:
    module, _, message = name.partition(":")
    found: type[Message] = getattr(importlib.import_module(module), message)
    return found


async def _serve(method: str, request: type[Message], answer: Message) -> None:
    async def echo(_request: Message, _context: object) -> Message:
        return answer

    _, service, name = method.split("/")
    handler = grpc.unary_unary_rpc_method_handler(
        echo, request_deserializer=request.FromString, response_serializer=type(answer).SerializeToString
    )
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


def main() -> None:
    """Serves until it is ended."""
    import uvloop

    method, request, answer = sys.argv[1:]
    message = _found(answer).FromString(sys.stdin.buffer.read())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(method, _found(request), message))


if __name__ == "__main__":
    main()
