"""Several processes that serve on one port: each has its event loop, its pool of connections and its gRPC server.

Problem: one Python process serves with one core. Choice: children are started anew, never forked (gRPC cannot be), and
share the port by SO_REUSEPORT, so the kernel deals out connections; their owner holds the port with a socket that never
listens, so that port 0 gives all of them the same one and no other program takes it while a child is between two lives.
Rejected: a balancer in front (one more part and hop), and one port for each process (clients would have to know them).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from steelyard.app.child_process import ChildProcess
from steelyard.app.failures import CommandFailed
from steelyard.app.settings import Settings
from steelyard.telemetry.logs import Log

START_TIMEOUT_S = 60.0
STOP_MARGIN_S = 10.0
"""Given to a process beyond what its drain may take."""


class ServerNotStarted(CommandFailed):
    """A serving process ended before it served; it has said why itself."""


class ServingProcesses:
    """As many serving processes as settings say; started, waited for and stopped like the one service it stands for."""

    def __init__(self, settings: Settings, *, url: str, log: Log, is_held: bool = False) -> None:
        """Raises `OSError` when the port cannot be had. `is_held` is each child's own affair."""
        self._host = settings.host
        self._holder = hold_port(settings)
        self.port: int = self._holder.getsockname()[1]
        self._log = log
        self._children = [
            ChildProcess(
                "server",
                ("serve", "--owned", "--no-worker"),
                variables=_variables(settings, url=url, port=self.port),
                stop_timeout_s=drain_max_s(settings) + STOP_MARGIN_S,
                log=log,
                speaks=True,
            )
            for _ in range(settings.processes)
        ]

    @property
    def address(self) -> str:
        """`host:port`, as a client takes it."""
        return f"{self._host}:{self.port}"

    @property
    def pids(self) -> Sequence[int]:
        """The processes that run now, or ran last."""
        return [child.pid for child in self._children]

    def admit(self) -> None:
        """Each process finds out by itself that the store is there."""

    async def start(self) -> None:
        """Starts all, and returns when each of them answers calls. Raises `ServerNotStarted`."""
        try:
            await asyncio.gather(*(child.start() for child in self._children))
            async with asyncio.timeout(START_TIMEOUT_S):
                words = await asyncio.gather(*(child.word() for child in self._children))
            if not all(words):
                raise ServerNotStarted("a serving process ended before it served, see above")
        except BaseException as error:
            await self.stop()
            if isinstance(error, TimeoutError):
                raise ServerNotStarted(f"a serving process did not serve within {START_TIMEOUT_S:.0f} s") from None
            raise
        self._log.info("servers_started", pids=self.pids)

    async def wait(self) -> None:
        """Starts those again that die, for ever."""
        async with asyncio.TaskGroup() as group:
            for child in self._children:
                group.create_task(child.keep_running(), name="keep server running")

    async def stop(self) -> bool:
        """Drains and ends all at the same time; False when one of them cut calls off, or had to be killed."""
        ended_well = await asyncio.gather(*(child.stop() for child in self._children))
        self._holder.close()
        return all(ended_well)


def drain_max_s(settings: Settings) -> float:
    """How long a drain may take at the most: the wait, the grace, and the wait for calls that were cut off."""
    return settings.drain_wait_s + 2 * settings.drain_grace_s


def hold_port(settings: Settings) -> socket.socket:
    """A socket on the port of settings that leaves listening to others. Raises `OSError` when another program has the
    port, also one that would share it, unless settings say that it is shared."""
    host = settings.host.strip("[]")
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    try:
        if settings.port and not settings.shares_port:
            with socket.socket(family, kind, protocol) as alone:
                # Past connections of a server that is gone do not count.
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(address)
        holder = socket.socket(family, kind, protocol)
        try:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind(address)
        except BaseException:
            holder.close()
            raise
    except OSError as error:
        raise OSError(f"cannot listen on {settings.host}:{settings.port}: is it in use?") from error
    return holder


def _variables(settings: Settings, *, url: str, port: int) -> dict[str, str]:
    """What a child is told besides our own environment."""
    assert settings.page_token_key is not None, "what one process gives out, the others must know"
    return {
        "STEELYARD_DATABASE_URL": url,
        "STEELYARD_HOST": settings.host,
        "STEELYARD_PORT": str(port),
        "STEELYARD_PROCESSES": "1",
        "STEELYARD_SHARES_PORT": "true",
        "STEELYARD_PAGE_TOKEN_KEY": settings.page_token_key.get_secret_value(),
    }
