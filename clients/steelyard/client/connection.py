"""The client itself: a connection to the service, with every call of it."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import grpc
import grpc.aio

from steelyard.client.build_calls import BuildCalls
from steelyard.client.fill_calls import FillCalls
from steelyard.client.fill_stream import FillStreamCalls
from steelyard.client.key_calls import KeyCalls
from steelyard.client.market_calls import AdminCalls, MarketCalls
from steelyard.client.performance_calls import PerformanceCalls
from steelyard.client.portfolio_watch import PortfolioWatchCalls
from steelyard.client.position_calls import PositionCalls
from steelyard.client.reconciliation_calls import ReconciliationCalls
from steelyard.client.report_calls import PortfolioCalls
from steelyard.client.risk_calls import RiskCalls
from steelyard.client.service_config import service_config
from steelyard.client.snapshot_calls import SnapshotCalls
from steelyard.client.watch_calls import WatchCalls

DEFAULT_ADDRESS = "127.0.0.1:4800"
TIMEOUT_S = 30.0
MESSAGE_BYTES = 4 * 1024 * 1024
KEEPALIVE_MS = 30_000
RECONNECT_MIN_MS = 200
RECONNECT_MAX_MS = 2_000
"""gRPC's own pause grows to two minutes, in which a server that is back long since would not be seen."""

_OPTIONS: Sequence[tuple[str, object]] = [
    ("grpc.service_config", service_config()),
    ("grpc.enable_retries", 1),
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_MIN_MS),
    ("grpc.min_reconnect_backoff_ms", RECONNECT_MIN_MS),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_MAX_MS),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
]
_WHATEVER_HEALTH = [*_OPTIONS, ("grpc.inhibit_health_checking", 1)]


class Steelyard(
    FillCalls,
    FillStreamCalls,
    PositionCalls,
    WatchCalls,
    PortfolioWatchCalls,
    PortfolioCalls,
    RiskCalls,
    BuildCalls,
    ReconciliationCalls,
    PerformanceCalls,
    SnapshotCalls,
    MarketCalls,
    AdminCalls,
    KeyCalls,
):
    """A connection to steelyard: `async with Steelyard.connect() as steelyard: await steelyard.get_position(...)`.

    One method for each rpc of the contract, under its name in snake_case. Failed calls raise `SteelyardCallError` by
    reason. Safe to share between tasks; it spreads calls over all servers the address names and repeats what was cut.
    """

    @classmethod
    def connect(
        cls,
        address: str = DEFAULT_ADDRESS,
        *,
        api_key: str | None = None,
        authorities: bytes | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Self:
        """A client of the service at `host:port`; connects with the first call. `authorities` (PEM) make it TLS, or
        `credentials` where clients show a certificate, too."""
        if credentials is None and authorities is not None:
            credentials = grpc.ssl_channel_credentials(authorities)
        metadata = [] if api_key is None else [("x-api-key", api_key)]
        client = cls(_channel(address, credentials, options=_OPTIONS), timeout_s=timeout_s, metadata=metadata)
        client.unhealthy_channel = _channel(address, credentials, options=_WHATEVER_HEALTH)
        return client

    async def close(self) -> None:
        """Gives up the connection; calls under way are cancelled."""
        await self.channel.close()
        if self.unhealthy_channel is not self.channel:
            await self.unhealthy_channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        *ended: type[BaseException] | BaseException | TracebackType | None,
    ) -> None:
        await self.close()


def _channel(
    address: str, credentials: grpc.ChannelCredentials | None, *, options: Sequence[tuple[str, object]]
) -> grpc.aio.Channel:
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=options)
    return grpc.aio.secure_channel(address, credentials, options=options)
