"""Who is told how much of the service's status: everyone its states, the machine's own callers and key holders all."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import unquote

from steelyard.operations.service_status import ReadServiceStatus
from steelyard.rpc.access import API_KEY
from steelyard.rpc.calls import Context, current_call
from steelyard.rpc.encode_status import ServerFacts, service_status
from steelyard.rpc.header import write_header
from steelyard.v1 import admin_service_pb2

FORWARDED = ("x-forwarded-", "x-envoy-", "x-real-ip", "forwarded", "via")
"""Metadata that a proxy adds: then the peer is the proxy, and not the caller."""


class TellStatus:
    """Answers GetServiceStatus."""

    def __init__(
        self, read: ReadServiceStatus, facts: ServerFacts, *, knows_key: Callable[[str], Awaitable[bool]]
    ) -> None:
        """`knows_key` says whether a secret is that of a live key; it raises nothing."""
        self._read = read
        self._facts = facts
        self._knows_key = knows_key

    async def answer(self, context: Context) -> admin_service_pb2.GetServiceStatusResponse:
        """The status, as much of it as the caller may have."""
        metadata = current_call().metadata
        is_detailed = is_local(context.peer(), metadata) or await self._has_key(metadata)
        status = await self._read.get()
        return admin_service_pb2.GetServiceStatusResponse(
            header=write_header((), at=status.at),
            status=service_status(status, self._facts, is_detailed=is_detailed),
        )

    async def _has_key(self, metadata: Mapping[str, str | bytes]) -> bool:
        secret = metadata.get(API_KEY)
        return isinstance(secret, str) and await self._knows_key(secret)


def is_local(peer: str, metadata: Mapping[str, str | bytes]) -> bool:
    """Whether a call comes from this machine itself, and not through a proxy on it."""
    if any(name.startswith(FORWARDED) for name in metadata):
        return False
    kind, _, address = unquote(peer).partition(":")
    if kind == "unix":
        return True
    host = address.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback
