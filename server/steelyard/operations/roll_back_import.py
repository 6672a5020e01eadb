"""Taking an import back: what only it attests is withdrawn, and a build makes the positions follow."""

from __future__ import annotations

from uuid import UUID, uuid4

from steelyard.operations.building import RequestMark
from steelyard.operations.importing import ImportBuild, RollbackStore, RolledBack
from steelyard.operations.ports import Clock


class RollBackImport:
    """Takes imports back."""

    def __init__(self, store: RollbackStore, clock: Clock, *, build_timeout_s: int = 3_600) -> None:
        self._store = store
        self._clock = clock
        self._build_timeout_s = build_timeout_s

    async def run(self, import_id: UUID, mark: RequestMark | None = None) -> RolledBack:
        """Withdraws the fills of an import that nobody else attests; a second time nothing happens.

        Raises `NotFound` (also while it runs), `PeriodSealed`, `RequestIdReused`, `StoreUnavailable`.
        """
        build = ImportBuild(uuid4(), is_immediate=True, timeout_s=self._build_timeout_s)
        return await self._store.roll_back(import_id, mark=mark, build=build, now=self._clock())
