"""A file being received: kept on disk while it is imported, hashed as it comes in."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from steelyard.imports.rows import RAW_MAX


class Spool:
    """One received file; fulfils the port `SpooledFile`."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream = stream
        self._path = path
        self._hash = hashlib.sha256()
        self._tail = 0
        self._breaks = 0
        self.size = 0
        self.longest_line = 0

    @property
    def path(self) -> str:
        """Where it lies."""
        return str(self._path)

    @property
    def digest(self) -> bytes:
        """SHA-256 of the bytes received so far."""
        return self._hash.digest()

    async def write(self, chunk: bytes) -> None:
        """Adds a chunk."""
        await asyncio.to_thread(self._write, chunk)

    def _write(self, chunk: bytes) -> None:
        self._stream.write(chunk)
        self._stream.flush()
        self._hash.update(chunk)
        self.size += len(chunk)
        *ended, rest = chunk.split(b"\n")
        if ended:
            self.longest_line = max(self.longest_line, self._tail + len(ended[0]), *map(len, ended))
            self._breaks += len(ended)
            self._tail = 0
        self._tail += len(rest)
        self.longest_line = max(self.longest_line, self._tail)

    @property
    def line_count(self) -> int:
        """Lines received so far, the last one with or without its line feed."""
        return self._breaks + bool(self._tail)

    async def lines(self, numbers: Sequence[int]) -> Mapping[int, str]:
        """The lines of these numbers (the first is 1), cut to a length that can be stored."""
        return await asyncio.to_thread(self._lines, frozenset(numbers))

    def _lines(self, numbers: frozenset[int]) -> Mapping[int, str]:
        found: dict[int, str] = {}
        with self._path.open("rb") as stream:
            for number, raw in enumerate(stream, 1):
                if number in numbers:
                    text = raw.rstrip(b"\r\n").decode("utf-8", "replace").replace("\x00", "\ufffd")
                    found[number] = text if len(text) <= RAW_MAX else text[:RAW_MAX] + "…"
                    if len(found) == len(numbers):
                        break
        return found


class SpoolFolder:
    """Where received files lie; fulfils the port `SpoolRoom`."""

    def __init__(self, folder: Path | None = None) -> None:
        """Without a folder the system's temporary one is used."""
        self._folder = folder

    @asynccontextmanager
    async def file(self) -> AsyncIterator[Spool]:
        """An empty file, removed on leaving."""
        stream = await asyncio.to_thread(
            tempfile.NamedTemporaryFile, prefix="steelyard-import-", dir=self._folder, delete=False
        )
        path = Path(stream.name)
        try:
            with stream:
                yield Spool(stream, path)  # type: ignore[arg-type]  # the wrapper of a binary file
        finally:
            with contextlib.suppress(FileNotFoundError):
                await asyncio.to_thread(path.unlink)
