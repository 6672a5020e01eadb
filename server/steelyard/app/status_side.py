"""How the service says how it is: the status that anyone may ask for, and what services need beside the store."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import version

from steelyard.app.access_side import AccessSide
from steelyard.app.feed_side import FeedSide
from steelyard.app.live_side import CachedAnswers
from steelyard.app.settings import Settings
from steelyard.migrations import head_revision
from steelyard.operations.ports import Clock
from steelyard.operations.service_status import BrokerPart, ReadServiceStatus, Surroundings
from steelyard.rpc.encode_status import ServerFacts
from steelyard.rpc.services import REGISTRATIONS
from steelyard.rpc.tell_status import TellStatus
from steelyard.storage.database import Database
from steelyard.storage.service_signs import ServiceSigns


class StatusSide:
    """The status of the service, on one database."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        *,
        cache: CachedAnswers,
        access: AccessSide,
        feeds: FeedSide,
        clock: Clock,
    ) -> None:
        self._silence_max_s = settings.worker_silence_max_s
        self._signs = ServiceSigns(database, stale_after=settings.stale_after, silence_max_s=self._silence_max_s)
        self._feeds = feeds if settings.amqp_url is not None else None
        self._beaten_at_s: float | None = None
        around = Surroundings(self._broker_parts, cache.probe, silence_max_s=self._silence_max_s)
        facts = ServerFacts(
            version=version("steelyard"),
            started_at=clock(),
            schema_needed=head_revision(),
            needs_keys=settings.needs_keys,
        )
        self.read = ReadServiceStatus(self._signs, around, clock=clock, now_s=time.monotonic)
        self.tell = TellStatus(self.read, facts, knows_key=access.knows)

    @property
    def needs(self) -> Mapping[str, Callable[[], Awaitable[bool]]]:
        """What services need beside the store, by their full names."""
        return {REGISTRATIONS["builds"].full_name: self._has_worker}

    async def _has_worker(self) -> bool:
        """Whether a worker has beaten of late, as far as this process has seen: one that ends in order takes its beats
        with it, and the next one may need a moment. Raises `StoreUnavailable`."""
        now_s = time.monotonic()
        age_s = await self._signs.last_beat_age_s()
        if age_s is not None:
            self._beaten_at_s = max(now_s - age_s, self._beaten_at_s or now_s - age_s)
        return self._beaten_at_s is not None and now_s - self._beaten_at_s <= self._silence_max_s

    def _broker_parts(self) -> Sequence[BrokerPart] | None:
        if self._feeds is None:
            return None
        return [BrokerPart(part.name, part.is_connected, part.waiting, part.last_at) for part in self._feeds.parts()]
