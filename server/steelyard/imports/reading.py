"""The parser behind the port that importing sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

from steelyard.imports.parsing import ParsedPart, ParseRequest, declared_by
from steelyard.imports.process import FileParser
from steelyard.imports.rows import RowError, split_row
from steelyard.operations.importing import ReadRequest

HEADER_BYTES_MAX = 64 * 1024


class ParsedFiles:
    """Reads spooled files; fulfils the port `FileReader`."""

    def __init__(self, parser: FileParser | None = None) -> None:
        self._parser = parser or FileParser()

    async def format_of(self, path: str, request: ReadRequest) -> str:
        """The format that the file's header declares; blank where it is none of ours, which parsing then refuses."""
        return request.format or await asyncio.to_thread(_declared, Path(path))

    def parts(self, path: str, request: ReadRequest) -> AsyncGenerator[ParsedPart]:
        """The parts of a file, in order; at least one. Raises `InvalidField` for a file that is refused."""
        return self._parser.parse_in_process(Path(path), _asked(request))


def _asked(request: ReadRequest) -> ParseRequest:
    return ParseRequest(
        format=request.format,
        time_zone=request.time_zone,
        default_account=request.default_account,
        max_bytes=request.max_bytes,
        max_rows=request.max_rows,
        max_row_bytes=request.max_row_bytes,
    )


def _declared(path: Path) -> str:
    with path.open("rb") as stream:
        header = stream.readline(HEADER_BYTES_MAX).decode("utf-8-sig", "replace")
    try:
        names = [name.strip() for name in split_row(header.rstrip("\r\n"))]
    except RowError:
        return ""
    return declared_by(names)
