"""Parsing off the event loop: a small file in a thread, a larger one in a process of its own.

A million rows are seconds of pure Python, and a thread would share the interpreter with every other request. A process
costs about a tenth of a second to start, which a file of a few thousand rows does not repay.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from steelyard.accounting.errors import InvalidField, InvariantBroken
from steelyard.imports.child import FRAME, message_of_request, part_of_message
from steelyard.imports.parsing import ParsedPart, ParseRequest, parse

SMALL_BYTES = 256 * 1024
"""Files up to this size are parsed in a thread."""
PIPE_BYTES = 1024 * 1024
"""How far the child may be ahead, beside the part being read."""
STDERR_MAX = 2_000


class FileParser:
    """Parses files of executions without ever holding up the event loop."""

    async def parse_in_process(self, path: Path, request: ParseRequest) -> AsyncGenerator[ParsedPart, None]:
        """The parts of a file, as `parse` gives them. Raises `InvalidField` for a file that is refused.

        Close the iterator when leaving it early (`contextlib.aclosing`): the child ends at once. Cancelling does too.
        """
        size = (await asyncio.to_thread(path.stat)).st_size
        if size > request.max_bytes:
            raise InvalidField("file", f"is larger than {request.max_bytes} bytes")
        if size <= SMALL_BYTES:
            for part in await asyncio.to_thread(_parse_all, path, request):
                yield part
            return
        child = await _start()
        try:
            async with aclosing(_parts(child, message_of_request(path, request))) as parts:
                async for part in parts:
                    yield part
        finally:
            if child.returncode is None:
                child.kill()
            await child.wait()


def _parse_all(path: Path, request: ParseRequest) -> list[ParsedPart]:
    with path.open("rb") as stream:
        return list(parse(stream, request))


async def _start() -> Process:
    # The child finds the same packages as this process, also where they were put on the path at run time.
    paths = os.pathsep.join(dict.fromkeys(entry or os.curdir for entry in sys.path))
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "steelyard.imports.child",
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        limit=PIPE_BYTES,
        env={**os.environ, "PYTHONPATH": paths},
    )


async def _parts(child: Process, asked: bytes) -> AsyncGenerator[ParsedPart, None]:
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(asked)
        child.stdin.write_eof()
        while True:
            told_bytes, lines_bytes = FRAME.unpack(await child.stdout.readexactly(FRAME.size))
            told = await child.stdout.readexactly(told_bytes)
            part = part_of_message(told, await child.stdout.readexactly(lines_bytes))
            if part is None:
                return
            yield part
    except (asyncio.IncompleteReadError, ConnectionError):
        raise await _died(child) from None


async def _died(child: Process) -> InvariantBroken:
    assert child.stderr is not None
    last_words = (await child.stderr.read())[-STDERR_MAX:].decode("utf-8", "replace").strip()
    return InvariantBroken(f"the parser ended with status {await child.wait()}: {last_words}")
