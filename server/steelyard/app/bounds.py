"""What settings say of bounds, in the words of the parts that keep to them."""

from __future__ import annotations

import secrets

from steelyard.app.settings import Settings
from steelyard.operations.import_trades import ImportLimits
from steelyard.rpc.limits import RpcLimits
from steelyard.rpc.server import ServerSettings
from steelyard.storage.database import DatabaseLimits


def database_limits(settings: Settings) -> DatabaseLimits:
    """What bounds the use of the store."""
    return DatabaseLimits(pool_size=settings.pool_size, statement_timeout_ms=int(settings.statement_timeout_s * 1_000))


def import_limits(settings: Settings) -> ImportLimits:
    """What bounds one import, and how many run."""
    return ImportLimits(
        file_bytes_max=settings.import_file_mib * 1024 * 1024,
        rows_max=settings.import_rows,
        small_rows_max=settings.small_import_rows,
        running_max=settings.imports_at_once,
        build_timeout_s=settings.build_timeout_s,
    )


def server_settings(settings: Settings) -> ServerSettings:
    """Where and how the port is served."""
    return ServerSettings(
        host=settings.host,
        port=settings.port,
        limits=RpcLimits(
            unary_deadline_s=settings.unary_deadline_s,
            import_deadline_s=settings.import_deadline_s,
            concurrent_rpcs=settings.concurrent_rpcs,
        ),
        has_reflection=settings.has_reflection,
        shares_port=settings.shares_port,
        drain_wait_s=settings.drain_wait_s,
        drain_grace_s=settings.drain_grace_s,
    )


def page_token_key(settings: Settings) -> bytes:
    """What page tokens are signed with."""
    if settings.page_token_key is None:
        return secrets.token_bytes(32)
    return settings.page_token_key.get_secret_value().encode()
