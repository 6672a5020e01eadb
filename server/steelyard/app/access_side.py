"""Who may call: keys, what they allow and how often, and the certificates of the port; off where settings say so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import grpc

from steelyard.accounting.errors import ApiKeyInvalid, StoreUnavailable
from steelyard.app.settings import Settings
from steelyard.operations.access import ApiKey
from steelyard.operations.allowances import Allowances, NoSharedCount, SharedCount
from steelyard.operations.keep_keys import KeepKeys
from steelyard.operations.key_ring import KeyRing
from steelyard.operations.ports import Clock
from steelyard.rpc.access import Authenticate
from steelyard.rpc.allowances import LimitCalls
from steelyard.rpc.certificates import CertificateFiles, server_credentials
from steelyard.rpc.interceptors import Refuser
from steelyard.storage.access import KeyRecords
from steelyard.storage.change_reads import ChangeReads
from steelyard.storage.database import Database
from steelyard.telemetry.logs import Log

if TYPE_CHECKING:
    from steelyard.cache.redis_cache import RedisCache


class AccessSide:
    """The keys of the service, on one database."""

    def __init__(self, settings: Settings, database: Database, *, clock: Clock, jitter: Callable[[], float]) -> None:
        self.keep_keys: KeepKeys | None = None
        self._ring: KeyRing | None = None
        self._shared: RedisCache | None = None
        self._settings = settings
        self._clock = clock
        self._is_on = settings.needs_keys
        if settings.key_pepper is None:
            return
        pepper = settings.key_pepper.get_secret_value().encode()
        records = KeyRecords(database)
        self.keep_keys = KeepKeys(records, pepper=pepper, clock=clock, jitter=jitter)
        self._ring = KeyRing(records, pepper=pepper, clock=clock, now_s=time.monotonic)
        if settings.redis_url is not None:
            # Imported here: most processes are named no Redis, and its driver takes long to load.
            from steelyard.cache.redis_cache import RedisCache

            url = settings.redis_url.get_secret_value()
            self._shared = RedisCache(url, epoch=ChangeReads(database).epoch)

    def layers(self, log: Log) -> Sequence[Refuser]:
        """What stands between a call and its handler: who is it, and may he; then, how often."""
        if not self._is_on or self._ring is None:
            return ()

        def refused(method: str, reason: str) -> None:
            log.warning("refused", method=method, reason=reason)

        def used(key: ApiKey, what: str, is_refused: bool) -> None:
            if is_refused:
                log.warning("limited", key_id=key.key_id, what=what)

        shared: SharedCount = self._shared or NoSharedCount()
        allowances = Allowances(shared, epoch_s=lambda: self._clock().timestamp())
        return (Authenticate(self._ring, refused=refused), LimitCalls(allowances, used=used))

    async def knows(self, secret: str) -> bool:
        """Whether a secret is that of a live key; without keys none is. Raises nothing."""
        if not self._is_on or self._ring is None:
            return False
        try:
            await self._ring.of(secret)
        except (ApiKeyInvalid, StoreUnavailable):
            return False
        return True

    def credentials(self, log: Log) -> grpc.ServerCredentials | None:
        """What makes the port TLS; None where no certificate is named. Raises `OSError`."""
        settings = self._settings
        if settings.tls_certificate is None or settings.tls_key is None:
            return None
        files = CertificateFiles(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
        return server_credentials(files, log=log)

    def start(self) -> None:
        """Begins to read the keys anew from time to time."""
        if self._is_on and self._ring is not None:
            self._ring.start()

    @property
    def tasks(self) -> Sequence[asyncio.Task[None] | None]:
        """What runs as long as the service."""
        return () if not self._is_on or self._ring is None else (self._ring.task,)

    async def close(self) -> None:
        """Notes which keys were used; gives up connections."""
        if self._ring is not None:
            await self._ring.close()
        if self._shared is not None:
            await self._shared.close()


def guard_line(settings: Settings) -> str:
    """Who is let in, for the person who starts the service."""
    keys = "calls need an API key" if settings.needs_keys else "without keys"
    if settings.tls_certificate is None:
        return keys
    return f"{keys}, TLS" + (", clients with certificates only" if settings.tls_client_ca else "")
