"""Which files of a folder are ready to be imported: those that have been still for a while, each content once.

An exporter writes its file over and over during a day, under one name and with whatever date. So neither counts: a file
is ready once its size and times have not changed for some seconds by our own clock, and it is new if its content is.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

STILL_S = 5.0
READ_BYTES = 1024 * 1024

_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class StillFile:
    """A file that is ready."""

    path: Path
    digest: str
    """SHA-256 of its content, in hex."""


@dataclass(slots=True)
class _Seen:
    stamp: _Stamp
    since_s: float
    is_done: bool = False


class StillFiles:
    """Looks at a folder again and again; hidden files and folders in it are passed over."""

    def __init__(self, folder: Path, *, still_s: float = STILL_S) -> None:
        self._folder = folder
        self._still_s = still_s
        self._seen: dict[Path, _Seen] = {}
        self._contents: set[str] = set()

    def look(self, now_s: float) -> Iterator[StillFile]:
        """The files that are ready at `now_s` of a clock that never steps back; each is offered until it is `done`.

        Reads the files: call it in a thread. Raises `OSError` when the folder cannot be read.
        """
        present = dict(_stamps(self._folder))
        self._seen = {path: seen for path, seen in self._seen.items() if path in present}
        for path, stamp in sorted(present.items()):
            seen = self._seen.get(path)
            if seen is None or seen.stamp != stamp:
                self._seen[path] = _Seen(stamp, now_s)
            elif not seen.is_done and now_s - seen.since_s >= self._still_s:
                yield from self._ready(path, seen)

    def done(self, file: StillFile) -> None:
        """This content needs no more attention, whatever file it comes in."""
        self._contents.add(file.digest)
        if (seen := self._seen.get(file.path)) is not None:
            seen.is_done = True

    def _ready(self, path: Path, seen: _Seen) -> Iterator[StillFile]:
        try:
            digest = _digest(path)
            has_changed = _stamp(path.stat()) != seen.stamp
        except OSError:
            return  # it went away, or may not be read yet: the next look sees
        if has_changed:
            return
        if digest in self._contents:
            seen.is_done = True
        else:
            yield StillFile(path, digest)


def _stamps(folder: Path) -> Iterator[tuple[Path, _Stamp]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if not entry.name.startswith(".") and entry.is_file():
                    yield Path(entry.path), _stamp(entry.stat())
            except FileNotFoundError:
                continue


def _stamp(stat: os.stat_result) -> _Stamp:
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def _digest(path: Path) -> str:
    content = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(READ_BYTES):
            content.update(chunk)
    return content.hexdigest()
