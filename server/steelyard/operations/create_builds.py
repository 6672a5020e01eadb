"""Starting, stopping and repeating builds."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid4

from steelyard.operations.building import (
    Asker,
    Build,
    BuildMode,
    BuildPriority,
    BuildScope,
    BuildStore,
    BuildTrigger,
    NewBuild,
    RequestMark,
)


@dataclass(frozen=True, slots=True)
class WantedBuild:
    """What a caller wants built."""

    scope: BuildScope
    mode: BuildMode = BuildMode.INCREMENTAL
    priority: BuildPriority | None = None
    """None: immediate where it is small."""
    is_validate_only: bool = False


class CreateBuilds:
    """Makes builds for callers; the jobs that do them wait for the same commit."""

    def __init__(self, store: BuildStore, *, build_timeout_s: int = 3_600) -> None:
        self._store = store
        self._build_timeout_s = build_timeout_s

    async def create(self, wanted: WantedBuild, mark: RequestMark, *, asker: Asker | None = None) -> tuple[Build, bool]:
        """A new build, or that of an earlier call (True). Raises `NotFound`, `RequestIdReused`, `StoreUnavailable`, and
        `QueueFull` while as many of the asker's builds are under way as may be."""
        new = NewBuild(
            build_id=uuid4(),
            scope=wanted.scope,
            mode=wanted.mode,
            trigger=BuildTrigger.MANUAL,
            priority=wanted.priority,
            timeout_s=self._build_timeout_s,
            is_validate_only=wanted.is_validate_only,
            asker=asker,
        )
        return await self._store.create(new, mark)

    async def cancel(self, build_id: UUID, mark: RequestMark) -> tuple[Build, bool]:
        """Asks a build to stop; keys that are finished stay built. Raises `NotFound`, `BuildAlreadyDone`,
        `RequestIdReused`, `StoreUnavailable`."""
        return await self._store.cancel(build_id, mark)

    async def retry(self, build_id: UUID, mark: RequestMark, *, asker: Asker | None = None) -> tuple[Build, bool]:
        """A new build of what an ended one left undone. Raises `NotFound`, `BuildAlreadyDone` where nothing was,
        `InvalidField` where it has not ended, `RequestIdReused`, `QueueFull`, `StoreUnavailable`."""
        new = NewBuild(
            build_id=uuid4(),
            scope=BuildScope(),
            mode=BuildMode.INCREMENTAL,
            trigger=BuildTrigger.RETRY,
            priority=None,
            timeout_s=self._build_timeout_s,
            retry_of=build_id,
            asker=asker,
        )
        return await self._store.retry(new, mark)
