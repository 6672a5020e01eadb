"""The composition root: the only place that knows concrete classes and their order, and that reads the clock."""

from __future__ import annotations

import asyncio
import random
import secrets
from datetime import UTC, datetime

from steelyard.accounting.keys import Account
from steelyard.app.settings import Settings
from steelyard.builds.worker import WorkerSettings, run_worker
from steelyard.operations.build_positions import BuildPositions
from steelyard.operations.ports import AccountRules
from steelyard.operations.record_fills import RecordFills
from steelyard.rpc.limits import RpcLimits
from steelyard.rpc.page_tokens import PageTokens
from steelyard.rpc.server import GrpcServer, ServerSettings, Services
from steelyard.storage.build_chunks import PostgresChunkWork
from steelyard.storage.build_sweep import PostgresSweep
from steelyard.storage.database import Database, DatabaseLimits
from steelyard.storage.ledger import PostgresLedger
from steelyard.telemetry.logs import Log


def system_clock() -> datetime:
    """The current time, aware UTC: what everything else is handed as `now` or `clock`."""
    return datetime.now(UTC)


class Service:
    """The gRPC service of one process on one database."""

    def __init__(self, settings: Settings, *, url: str, log: Log) -> None:
        """Raises `OSError` when the port cannot be had. Needs a running event loop."""
        self._database = Database(url, database_limits(settings))
        self._record_fills = RecordFills(
            PostgresLedger(self._database, system_clock),
            system_clock,
            new_accounts=new_accounts(settings),
            jitter=random.random,  # noqa: S311 - spreads retries, no secret
        )
        self._tokens = PageTokens(_page_token_key(settings))
        self.server = GrpcServer(Services(), settings=_server_settings(settings), ping=self._database.ping, log=log)

    @property
    def address(self) -> str:
        """`host:port`, as a client takes it."""
        return self.server.address

    async def start(self) -> None:
        """Answers calls from now on."""
        self._record_fills.start()
        await self.server.start()

    async def wait(self) -> None:
        """Runs until the server ends, or one of its background tasks dies, which raises."""
        await self.server.wait()

    async def stop(self) -> bool:
        """Takes no more calls, ends those under way, commits what was handed in, lets the store go; False when calls
        were cut off."""
        is_drained = await self.server.stop()
        await self._record_fills.close()
        await self._database.close()
        return is_drained


class Worker:
    """The worker of one process: builds positions, and sees to what others left undone."""

    def __init__(self, settings: Settings, *, url: str) -> None:
        self._settings = settings
        self._database = Database(url, database_limits(settings))
        self._builder = BuildPositions(PostgresChunkWork(self._database, system_clock), system_clock)
        self._sweep = PostgresSweep(self._database, build_timeout_s=settings.build_timeout_s)

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set; raises what made one of its parts end."""
        await run_worker(
            self._database.url,
            builder=self._builder,
            sweep=self._sweep,
            settings=WorkerSettings(bulk_slots=self._settings.worker_bulk_jobs),
            stop=stop,
        )

    async def close(self) -> None:
        """Lets the store go."""
        await self._database.close()


def database_limits(settings: Settings) -> DatabaseLimits:
    """What bounds the use of the store."""
    return DatabaseLimits(pool_size=settings.pool_size, statement_timeout_ms=int(settings.statement_timeout_s * 1_000))


def new_accounts(settings: Settings) -> AccountRules:
    """The pattern after which accounts are made that do not exist before their first fill."""
    return AccountRules(Account(""), time_zone=settings.account_time_zone)


def _server_settings(settings: Settings) -> ServerSettings:
    return ServerSettings(
        host=settings.host,
        port=settings.port,
        limits=RpcLimits(
            unary_deadline_s=settings.unary_deadline_s,
            import_deadline_s=settings.import_deadline_s,
            concurrent_rpcs=settings.concurrent_rpcs,
        ),
        has_reflection=settings.has_reflection,
        drain_wait_s=settings.drain_wait_s,
        drain_grace_s=settings.drain_grace_s,
    )


def _page_token_key(settings: Settings) -> bytes:
    if settings.page_token_key is None:
        return secrets.token_bytes(32)
    return settings.page_token_key.get_secret_value().encode()
