"""A real server whose one service fails in the way the account's name says: for tests of what surrounds servicers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from steelyard.accounting.errors import SteelyardError
from steelyard.rpc.limits import RpcLimits
from steelyard.rpc.server import GrpcServer, ServerSettings, Services
from steelyard.v1 import admin_service_pb2, admin_service_pb2_grpc

Trouble = Callable[[Any], Awaitable[None]]


class TroubleServicer(admin_service_pb2_grpc.AdminServiceServicer):
    """GetAccount does what `troubles` says for the account's name; the other methods are fine."""

    def __init__(self, troubles: dict[str, Trouble | BaseException]) -> None:
        self.troubles = troubles
        self.begun = asyncio.Event()

    async def GetAccount(self, request: Any, context: Any) -> admin_service_pb2.GetAccountResponse:
        self.begun.set()
        trouble = self.troubles.get(request.account)
        if isinstance(trouble, BaseException):
            raise trouble
        if trouble is not None:
            await trouble(context)
        return admin_service_pb2.GetAccountResponse()

    async def ListAccounts(self, request: Any, context: Any) -> admin_service_pb2.ListAccountsResponse:
        return admin_service_pb2.ListAccountsResponse()

    async def UpsertAccount(self, request: Any, context: Any) -> admin_service_pb2.UpsertAccountResponse:
        return admin_service_pb2.UpsertAccountResponse()

    async def CreateApiKey(self, request: Any, context: Any) -> admin_service_pb2.CreateApiKeyResponse:
        return admin_service_pb2.CreateApiKeyResponse()

    async def ListApiKeys(self, request: Any, context: Any) -> admin_service_pb2.ListApiKeysResponse:
        return admin_service_pb2.ListApiKeysResponse()

    async def RevokeApiKey(self, request: Any, context: Any) -> admin_service_pb2.RevokeApiKeyResponse:
        return admin_service_pb2.RevokeApiKeyResponse()

    async def GetServiceStatus(self, request: Any, context: Any) -> admin_service_pb2.GetServiceStatusResponse:
        return admin_service_pb2.GetServiceStatusResponse()


class LogLines:
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def _keep(self, event: str, **fields: Any) -> None:
        self.lines.append({"event": event, **fields})

    debug = info = warning = error = _keep

    def of(self, event: str) -> list[dict[str, Any]]:
        """The lines of one event."""
        return [line for line in self.lines if line["event"] == event]


class Store:
    """A store as health sees it: there, away, or silent."""

    def __init__(self) -> None:
        self.error: SteelyardError | None = None
        self.is_silent = False

    async def ping(self) -> None:
        if self.is_silent:
            await asyncio.sleep(60)
        if self.error is not None:
            raise self.error


class Served:
    """A running server with a channel to it."""

    def __init__(self, server: GrpcServer, channel: grpc.aio.Channel, log: LogLines) -> None:
        self.server = server
        self.channel = channel
        self.log = log
        self.admin = admin_service_pb2_grpc.AdminServiceStub(channel)

    async def get(self, account: str, **options: Any) -> tuple[grpc.StatusCode, str, dict[str, Any]]:
        """Calls GetAccount: code, text and trailers of what came back."""
        call = self.admin.GetAccount(admin_service_pb2.GetAccountRequest(account=account), **options)
        try:
            await call
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or "", dict(error.trailing_metadata() or ())
        return await call.code(), "", dict(await call.trailing_metadata())


@asynccontextmanager
async def serving(
    servicer: TroubleServicer | None = None,
    *,
    limits: RpcLimits | None = None,
    store: Store | None = None,
    drain_wait_s: float = 0.0,
    drain_grace_s: float = 5.0,
    refusals: tuple[Any, ...] = (),
) -> AsyncIterator[Served]:
    """A server of that servicer on a free port."""
    log = LogLines()
    settings = ServerSettings(
        port=0,
        limits=limits or RpcLimits(),
        drain_wait_s=drain_wait_s,
        drain_grace_s=drain_grace_s,
        health_interval_s=0.02,
        health_timeout_s=0.1,
    )
    server = GrpcServer(
        Services(admin=servicer or TroubleServicer({})),
        settings=settings,
        ping=(store or Store()).ping,
        log=log,
        refusals=refusals,
    )
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        try:
            yield Served(server, channel, log)
        finally:
            await server.stop()
