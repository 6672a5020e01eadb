"""The gRPC server: servicers in, a port out, and an end that loses nothing.

Draining: health says NOT_SERVING, so balancers and clients go elsewhere; a short wait, since calls are on their way
already (`stop` answers CANCELLED to what it has not dispatched yet); then `stop` with a grace; then our own count of
calls in flight, because `stop` forgets those it has cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc

from steelyard.rpc import health, services
from steelyard.rpc.audit import Audit
from steelyard.rpc.health import Health, Needs, Ping
from steelyard.rpc.interceptors import CallChain, Refuser, Watcher
from steelyard.rpc.limits import RpcLimits, hard_concurrency, server_options
from steelyard.rpc.observe import Admit, CallMeter, InFlight, Observe
from steelyard.rpc.reflection import add_reflection
from steelyard.rpc.services import Services
from steelyard.rpc.trace import Trace
from steelyard.rpc.translate import Translate
from steelyard.telemetry.logs import Log
from steelyard.telemetry.metrics import Meters
from steelyard.telemetry.tracing import Tracer

TERMINATION_LOOK_S = 1.0
CUT_MARGIN_S = 0.1

__all__ = ["GrpcServer", "ServerSettings", "Services"]


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where and how one server listens."""

    host: str = "127.0.0.1"
    port: int = 4800
    """0: a free one."""
    limits: RpcLimits = field(default_factory=RpcLimits)
    has_reflection: bool = True
    shares_port: bool = False
    """Whether several processes listen on the port (SO_REUSEPORT)."""
    drain_wait_s: float = 0.5
    """How long calls already on their way are still taken on; 0.5 to 5 s behind a balancer."""
    drain_grace_s: float = 10.0
    health_interval_s: float = 1.0
    health_timeout_s: float = 2.0


class GrpcServer:
    """One gRPC server of this process."""

    def __init__(
        self,
        servicers: Services,
        *,
        settings: ServerSettings,
        ping: Ping,
        needs: Needs | None = None,
        log: Log,
        refusals: Sequence[Refuser] = (),
        meters: Meters | None = None,
        tracer: Tracer | None = None,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        """`refusals` may refuse a call (authenticate, limit); they lie within observe and translate."""
        self._settings = settings
        self.in_flight = InFlight()
        meter = CallMeter(meters or Meters(), self.in_flight)
        admit = Admit(self.in_flight, limit=settings.limits.concurrent_rpcs)
        chain = CallChain(
            _watchers(log, self.in_flight, meter=meter, tracer=tracer),
            translate=Translate(log),
            refusers=(admit, *refusals),
            limits=settings.limits,
        )
        self.service_names = services.add_all(servicers, chain)
        self.health = Health(
            self.service_names,
            ping=ping,
            needs=needs,
            log=log,
            interval_s=settings.health_interval_s,
            timeout_s=settings.health_timeout_s,
        )
        health_pb2_grpc.add_HealthServicer_to_server(self.health.servicer, cast(Any, chain))
        if settings.has_reflection:
            add_reflection(chain, (*self.service_names, health.SERVICE_NAME))
        self._server = _server_of(chain, settings)
        self.port = self._bind(credentials)
        self._monitor: asyncio.Task[None] | None = None
        self._before_stop: list[Callable[[], None]] = []

    @property
    def address(self) -> str:
        """`host:port`, as a client takes it."""
        return f"{self._settings.host}:{self.port}"

    async def start(self) -> None:
        """Answers calls from now on; health has been asked for once."""
        await self.health.check()
        await self._server.start()
        self._monitor = asyncio.create_task(self.health.monitor(), name="health-monitor")

    def on_drain(self, tell: Callable[[], None]) -> None:
        """Calls `tell` when the drain begins, so that streams say goodbye with a token and end."""
        self._before_stop.append(tell)

    async def wait(self) -> None:
        """Returns when the server has stopped; raises when its health monitor died, which must end the process."""
        assert self._monitor is not None
        stopped = asyncio.create_task(self._wait_for_termination(), name="grpc-termination")
        try:
            await asyncio.wait((stopped, self._monitor), return_when=asyncio.FIRST_COMPLETED)
            if self._monitor.done() and not self._monitor.cancelled():
                await self._monitor
            await stopped
        finally:
            stopped.cancel()

    async def stop(self) -> bool:
        """Drains and stops; False when calls were still being handled after the grace, which cut them off."""
        settings = self._settings
        await self.health.drain()
        if self._monitor is not None:
            self._monitor.cancel()
        for tell in self._before_stop:
            tell()
        if self.in_flight.count or settings.drain_wait_s:
            await asyncio.sleep(settings.drain_wait_s)
        stopping = asyncio.create_task(self._server.stop(settings.drain_grace_s + CUT_MARGIN_S), name="grpc-stop")
        # Looked at before the server cuts calls off: afterwards those have ended as well, and look like others.
        is_drained = await self.in_flight.wait_idle(timeout_s=settings.drain_grace_s)
        if is_drained:
            # What is left are watchers of health, who would hold us up for the whole grace.
            await self._server.stop(CUT_MARGIN_S)
        await stopping
        await self.in_flight.wait_idle(timeout_s=settings.drain_grace_s)
        return is_drained

    async def _wait_for_termination(self) -> None:
        # With a timeout, because without one a cancelled wait cancels the future that `stop` itself waits for.
        while await self._server.wait_for_termination(TERMINATION_LOOK_S):
            pass

    def _bind(self, credentials: grpc.ServerCredentials | None) -> int:
        address = f"{self._settings.host}:{self._settings.port}"
        try:
            if credentials is not None:
                return self._server.add_secure_port(address, credentials)
            return self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: is it in use?") from error


def _watchers(log: Log, in_flight: InFlight, *, meter: CallMeter, tracer: Tracer | None) -> tuple[Watcher, ...]:
    """Who traces nothing pays for no tracing."""
    observe = Observe(log, in_flight, meter=meter, audit=Audit(log))
    return (observe,) if tracer is None or not tracer.is_on else (Trace(tracer), observe)


def _server_of(chain: CallChain, settings: ServerSettings) -> grpc.aio.Server:
    server = grpc.aio.server(
        options=server_options(settings.limits, shares_port=settings.shares_port),
        maximum_concurrent_rpcs=hard_concurrency(settings.limits),
    )
    server.add_generic_rpc_handlers((chain,))
    return server
