"""`steelyard import --watch DIR`: imports what is put into a folder, once it lies still.

A platform appends to its export all day, so a file is looked at again whenever it has changed. It is read when nothing
about it (size, times, identity) has changed for 5 seconds. What was read is known by its content alone: a copy under
another name is not sent again, and new content under an old name and an old date is. Only rows that are new are
recorded by the service, so sending a grown file whole is right.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from steelyard.cli.session import aside, failure_line, json_line, screen
from steelyard.cli.taking import ImportedFile, ImportWishes, summary, take_file
from steelyard.client import Steelyard, SteelyardCallError, TryLater, Unavailable

STILL_S = 5.0
LOOK_EVERY_S = 0.5
READ_BYTES = 1024 * 1024
_REQUESTS = uuid.UUID("c5a3a9a6-0f2e-5d0b-8d8e-0f8a1e4a9b11")

_Signature = tuple[int, int, int, int]


@dataclass(slots=True)
class _Seen:
    signature: _Signature
    since_s: float
    is_done: bool = False


class WatchedFolder:
    """A folder whose files are imported as they come and grow."""

    def __init__(
        self,
        folder: Path,
        wishes: ImportWishes,
        *,
        as_json: bool,
        still_s: float = STILL_S,
        look_s: float = LOOK_EVERY_S,
    ) -> None:
        self._folder = folder
        self._wishes = wishes
        self._as_json = as_json
        self._still_s = still_s
        self._look_s = look_s
        self._seen: dict[Path, _Seen] = {}
        self._contents: set[bytes] = set()

    async def run(self, steelyard: Steelyard) -> None:
        """Looks for ever. Raises `OSError` when the folder cannot be read."""
        if not self._folder.is_dir():
            raise OSError(f"there is no folder {self._folder}")
        aside.print(f"watching {self._folder} (end with Ctrl-C)")
        while True:
            await self.look(steelyard)
            await asyncio.sleep(self._look_s)

    async def look(self, steelyard: Steelyard) -> None:
        """Looks once: notes what has changed, imports what lies still."""
        now_s = asyncio.get_running_loop().time()
        files = await asyncio.to_thread(_signatures, self._folder)
        for path in self._seen.keys() - files.keys():
            del self._seen[path]
        for path, signature in sorted(files.items()):
            seen = self._seen.get(path)
            if seen is None or seen.signature != signature:
                self._seen[path] = _Seen(signature, now_s)
            elif not seen.is_done and now_s - seen.since_s >= self._still_s:
                seen.is_done = await self._take(steelyard, path, seen=seen)

    async def _take(self, steelyard: Steelyard, path: Path, *, seen: _Seen) -> bool:
        """Imports a file unless its content was sent before; False where it has to be tried again."""
        try:
            digest = await asyncio.to_thread(_digest, path)
            if await asyncio.to_thread(_signature, path) != seen.signature:
                return False  # It has changed while it was read; the next look notices.
            if digest not in self._contents:
                await self._send(steelyard, path, digest=digest)
        except (Unavailable, TryLater, OSError) as error:
            aside.print(f"{path.name}: {_line(error)}; tried again")
            seen.since_s = asyncio.get_running_loop().time()
            return False
        self._contents.add(digest)
        return True

    async def _send(self, steelyard: Steelyard, path: Path, *, digest: bytes) -> None:
        # A watcher that is started again gives the same content the same id, and gets the answer of the first time.
        request_id = str(uuid.uuid5(_REQUESTS, f"{path.name}\n{self._wishes}\n{digest.hex()}"))
        try:
            taken = await take_file(steelyard, path, wishes=self._wishes, waits=True, request_id=request_id)
        except (Unavailable, TryLater):
            raise
        except SteelyardCallError as error:
            aside.print(f"{path.name}: {_line(error)}")
        else:
            self._tell(taken)

    def _tell(self, taken: ImportedFile) -> None:
        if self._as_json:
            print(json_line(taken), flush=True)
        else:
            screen.print(summary([taken]))


def _line(error: Exception) -> str:
    return failure_line(error, server="the address given") if isinstance(error, SteelyardCallError) else str(error)


def _signatures(folder: Path) -> dict[Path, _Signature]:
    """What can be seen of each file from outside; hidden ones are left alone."""
    return dict(_existing(path for path in folder.iterdir() if not path.name.startswith(".")))


def _existing(paths: Iterable[Path]) -> Iterable[tuple[Path, _Signature]]:
    for path in paths:
        try:
            if path.is_file():
                yield path, _signature(path)
        except FileNotFoundError:
            continue  # It was moved away between two looks.


def _signature(path: Path) -> _Signature:
    # The change time cannot be set by anyone, so also content that comes with an old date is noticed.
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
    return digest.digest()
