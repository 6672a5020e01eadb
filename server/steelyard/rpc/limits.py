"""Every bound of the gRPC face, by name, and the options that tell grpcio about them."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 1_000
BATCH_FILLS_MAX = 5_000
ATOMIC_BATCH_FILLS_MAX = 1_000
BATCH_KEYS_MAX = 1_000
CURRENCIES_MAX = 100
WATCHED_INSTRUMENTS_MAX = 500
BUILD_SCOPE_MAX = 10_000
IMPORT_CHUNK_MAX_BYTES = MIB
LABELS_MAX = 32
LABEL_NAME_MAX = 64
LABEL_VALUE_MAX = 256
NOTE_MAX = 1_000
ORDER_ID_MAX = 128


@dataclass(frozen=True, slots=True)
class RpcLimits:
    """What one server takes on."""

    message_bytes: int = 4 * MIB
    metadata_bytes: int = 8 * KIB
    unary_deadline_s: float = 30.0
    import_deadline_s: float = 600.0
    """For calls whose request is a stream: ImportTrades, ReportMarks."""
    concurrent_rpcs: int = 1_000
    """Beyond this a call is refused with QUEUE_FULL."""
    streams_per_connection: int = 1_000
    keepalive_time_s: float = 60.0
    keepalive_timeout_s: float = 20.0
    client_ping_interval_s: float = 10.0
    """How often an idle client may ping without being sent away."""
    connection_age_s: float = 1_800.0
    connection_grace_s: float = 300.0
    connection_idle_s: float = 900.0


# Above our own limit, whose refusals carry a reason; grpcio's own carry none.
_HARD_LIMIT_HEADROOM = 256


def hard_concurrency(limits: RpcLimits) -> int:
    """Where grpcio itself refuses calls."""
    return limits.concurrent_rpcs + _HARD_LIMIT_HEADROOM


def server_options(limits: RpcLimits, *, shares_port: bool) -> list[tuple[str, int]]:
    """The channel arguments of a server.

    `min_ping_interval_without_data_ms` is the name that works; the often quoted `min_recv_ping...` has no effect.
    """
    return [
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_send_message_length", limits.message_bytes),
        ("grpc.max_metadata_size", limits.metadata_bytes),
        ("grpc.absolute_max_metadata_size", 2 * limits.metadata_bytes),
        ("grpc.max_concurrent_streams", limits.streams_per_connection),
        ("grpc.keepalive_time_ms", _ms(limits.keepalive_time_s)),
        ("grpc.keepalive_timeout_ms", _ms(limits.keepalive_timeout_s)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(limits.client_ping_interval_s)),
        ("grpc.max_connection_age_ms", _ms(limits.connection_age_s)),
        ("grpc.max_connection_age_grace_ms", _ms(limits.connection_grace_s)),
        ("grpc.max_connection_idle_ms", _ms(limits.connection_idle_s)),
        # grpcio lets two servers share a port in silence otherwise.
        ("grpc.so_reuseport", int(shares_port)),
    ]


def _ms(seconds: float) -> int:
    return int(seconds * 1_000)
