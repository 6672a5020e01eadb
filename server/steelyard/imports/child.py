"""The child process that parses one file: a request on its standard input, framed parts on its standard output.

A pipe holds little, so a parser that is ahead of its reader waits; when the reader is gone, the next part cannot be
written and the process ends. It outlives nobody by more than one part.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from dataclasses import asdict, astuple
from pathlib import Path
from typing import BinaryIO

from steelyard.accounting.errors import InvalidField
from steelyard.imports.parsing import ParsedPart, ParseRequest, parse
from steelyard.imports.rows import RowResult

FRAME = struct.Struct("!II")
"""Before each message: the bytes of its JSON and the bytes of its lines."""


def message_of_request(path: Path, request: ParseRequest) -> bytes:
    """What the child reads from its standard input."""
    return json.dumps({"path": str(path), "request": asdict(request)}).encode()


def part_of_message(told: bytes, lines: bytes) -> ParsedPart | None:
    """A message of the child as a part; None is the end of the file. Raises the `InvalidField` it tells of."""
    message = json.loads(told)
    if "refused" in message:
        raise InvalidField(*message["refused"])
    if "row_count" not in message:
        return None
    return ParsedPart(
        lines=lines,
        row_count=message["row_count"],
        results=tuple(RowResult(*result) for result in message["results"]),
        bytes_done=message["bytes_done"],
    )


def main() -> None:
    """Parses the file that standard input names; ends quietly when nobody reads any more."""
    asked = json.load(sys.stdin.buffer)
    try:
        _serve(Path(asked["path"]), ParseRequest(**asked["request"]), out=sys.stdout.buffer)
    except BrokenPipeError:
        # What is left in the buffer would be written at exit, and fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _serve(path: Path, request: ParseRequest, *, out: BinaryIO) -> None:
    try:
        with path.open("rb") as stream:
            for part in parse(stream, request):
                told = {
                    "row_count": part.row_count,
                    "bytes_done": part.bytes_done,
                    "results": [astuple(result) for result in part.results],
                }
                _write(out, told, lines=part.lines)
        _write(out, {}, lines=b"")
    except InvalidField as refused:
        _write(out, {"refused": (refused.field, refused.why)}, lines=b"")


def _write(out: BinaryIO, told: dict[str, object], *, lines: bytes) -> None:
    message = json.dumps(told).encode()
    out.write(FRAME.pack(len(message), len(lines)))
    out.write(message)
    out.write(lines)
    out.flush()


if __name__ == "__main__":
    main()
