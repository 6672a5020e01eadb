"""Clients of several server processes: each on a connection of its own, so that the kernel spreads them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import psutil

from steelyard.client import Steelyard
from steelyard.client.connection import _OPTIONS
from tests.app.processes import Serving, until

TOKEN_KEY = "the same for every server of a test"
CONNECTIONS_MAX = 60


def own_client(address: str, *, timeout_s: float = 30.0) -> Steelyard:
    """A client that shares its connection with no other of this process."""
    options: list[tuple[str, Any]] = [*_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
    return Steelyard(grpc.aio.insecure_channel(address, options=options), timeout_s=timeout_s, metadata=())


def servers(service: Serving) -> dict[int, psutil.Process]:
    """The serving processes under a `steelyard serve --processes N`, by process id."""
    children = psutil.Process(service.process.pid).children()
    return {child.pid: child for child in children if "serve" in _words(child)}


def _words(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except (psutil.ZombieProcess, psutil.NoSuchProcess):
        return []


def connections(service: Serving) -> dict[int, set[int]]:
    """The client ports that each serving process has a connection with."""
    port = int(service.address.rsplit(":", 1)[1])
    return {
        pid: {one.raddr.port for one in process.net_connections("tcp") if one.laddr.port == port and one.raddr}
        for pid, process in servers(service).items()
    }


@asynccontextmanager
async def spread_clients(service: Serving, count: int) -> AsyncIterator[list[Steelyard]]:
    """Clients of which each serving process has as many as any other, give or take one."""
    share = -(-count // len(servers(service)))
    async with AsyncExitStack() as stack:
        kept: list[Steelyard] = []
        taken: dict[int, int] = {}
        known = _owners(service)
        for _ in range(CONNECTIONS_MAX):
            client = await stack.enter_async_context(own_client(service.address))
            await client.channel.channel_ready()
            owners = _owners(service)
            (owner,) = {owners[port] for port in owners.keys() - known.keys()}
            known = owners
            if taken.get(owner, 0) < share:
                taken[owner] = taken.get(owner, 0) + 1
                kept.append(client)
            if len(kept) == count:
                break
        assert len(kept) == count, "the kernel spread too few connections"
        yield kept


def _owners(service: Serving) -> dict[int, int]:
    return {port: pid for pid, ports in connections(service).items() for port in ports}


def logged(log: Path) -> list[Mapping[str, Any]]:
    """The lines of a service's log, of all its processes."""
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


async def until_so(service: Serving, count: int) -> dict[int, psutil.Process]:
    """Waits until so many processes serve; gives them."""
    await asyncio.to_thread(until, lambda: len(servers(service)) == count, what=f"{count} servers")
    return servers(service)
