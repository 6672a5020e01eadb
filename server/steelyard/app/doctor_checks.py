"""What the doctor looks at, one small function each."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc.aio
from aio_pika import connect
from aio_pika.exceptions import AMQPError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from redis.asyncio import Redis
from redis.exceptions import RedisError

from steelyard.app.doctor import Check, Finding, Patient, failure, fine, plain, warning
from steelyard.app.feed_side import DEFAULT_PORTS
from steelyard.app.serve import CONNECTIONS_BESIDE
from steelyard.app.serving_processes import hold_port
from steelyard.app.settings import Settings
from steelyard.embedded import EmbeddedError, EmbeddedPostgres, find_binaries
from steelyard.migrations import head_revision
from steelyard.storage.inspection import (
    DURABILITY,
    DatabaseAway,
    DatabaseFacts,
    DatabaseRefuses,
    inspect_database,
)

POSTGRES_MIN = 150_000
SKEW_WARNED = timedelta(seconds=1)
SKEW_MAX = timedelta(seconds=30)
SLOW_S = 0.5
EXPIRY_WARNED = timedelta(days=30)
ROOM_WARNED_BYTES = 2 << 30
ROOM_MIN_BYTES = 256 << 20
ANSWER_MAX_S = 3.0
MIB = 1 << 20


async def configuration(patient: Patient) -> Sequence[Finding]:
    """Whether the settings can be used; wrong ones never get here."""
    settings = patient.settings
    found = [fine("configuration", f"{settings.mode}, {settings.host}:{settings.port}")]
    if settings.mode == "development" and not settings.is_on_loopback:
        found.append(
            warning(
                "configuration",
                "reachable from the network in development mode",
                what_to_do="set STEELYARD_MODE=production",
            )
        )
    return found


async def database(patient: Patient) -> Sequence[Finding]:
    """Whether the store is there and fit to keep a book in."""
    settings = patient.settings
    if settings.database_url is not None:
        return await _answering(settings.database_url.get_secret_value(), patient)
    found = await asyncio.to_thread(_embedded, settings.folder)
    try:
        url = await asyncio.to_thread(EmbeddedPostgres.url_of_running, settings.folder)
    except OSError as error:
        return [*found, warning("database", f"runs, and is another user's: {plain(error)}", what_to_do="be that user")]
    return found if url is None else [*found, *await _answering(url, patient)]


async def _answering(url: str, patient: Patient) -> Sequence[Finding]:
    try:
        facts = await inspect_database(url, clock=patient.clock)
    except DatabaseRefuses as error:
        return [failure("database", plain(error), what_to_do="correct STEELYARD_DATABASE_URL, or grant what it needs")]
    except DatabaseAway as error:
        return [
            failure(
                "database", f"away: {plain(error)}", what_to_do="start PostgreSQL, or correct STEELYARD_DATABASE_URL"
            )
        ]
    return judged(facts, patient.settings)


def judged(facts: DatabaseFacts, settings: Settings) -> Sequence[Finding]:
    """What to think of a database that answered."""
    return [
        _reached(facts),
        _schema(facts),
        _durability(facts),
        _sessions(facts),
        _connections(facts, settings),
        _clocks(facts),
        *_keys(facts, settings),
    ]


def _embedded(folder: Path) -> Sequence[Finding]:
    try:
        programs = find_binaries()
    except EmbeddedError as error:
        what_to_do = "pip install 'steelyard[embedded]', or set STEELYARD_DATABASE_URL"
        return [failure("database", plain(error), what_to_do=what_to_do)]
    there = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    return [
        fine("database", f"embedded, {programs.postgres}, kept in {folder}"),
        room(folder, free=shutil.disk_usage(there).free),
    ]


def room(folder: Path, *, free: int) -> Finding:
    """Whether so many bytes are enough for an embedded database."""
    told = f"{free // MIB:,} MiB free for {folder}"
    what_to_do = "make room, or name another folder in STEELYARD_DATA_DIRECTORY"
    if free < ROOM_MIN_BYTES:
        return failure("disk", told, what_to_do=what_to_do)
    return warning("disk", told, what_to_do=what_to_do) if free < ROOM_WARNED_BYTES else fine("disk", told)


def _reached(facts: DatabaseFacts) -> Finding:
    told = (
        f"PostgreSQL {facts.version // 10_000}.{facts.version % 10_000}, answers in {facts.answered_in_s * 1e3:.0f} ms"
    )
    if facts.version < POSTGRES_MIN:
        return failure("database", told, what_to_do=f"upgrade it to {POSTGRES_MIN // 10_000} or newer")
    if facts.answered_in_s > SLOW_S:
        return warning("database", told, what_to_do="bring it nearer, or see what slows it")
    return fine("database", told)


def _schema(facts: DatabaseFacts) -> Finding:
    needed = head_revision()
    told = f"revision {facts.revision or 'none'}, this release needs {needed}"
    if facts.revision is None or facts.revision < needed:
        return failure("schema", told, what_to_do="run `steelyard migrate`")
    if facts.revision > needed:
        return warning("schema", told, what_to_do="upgrade this release: the database was migrated by a newer one")
    return fine("schema", told)


def _durability(facts: DatabaseFacts) -> Finding:
    off = [name for name in DURABILITY if facts.settings.get(name) == "off"]
    if off:
        what_to_do = "switch them on: acknowledged fills may be lost in a crash"
        return failure("durability", f"{', '.join(off)} off", what_to_do=what_to_do)
    return fine("durability", ", ".join(f"{name} {facts.settings.get(name)}" for name in DURABILITY))


def _sessions(facts: DatabaseFacts) -> Finding:
    if facts.is_session_shared:
        return failure(
            "sessions",
            "a pooler by transaction stands before the database",
            what_to_do="name the database itself, or pool by session: prepared statements, locks and NOTIFY need one",
        )
    return fine("sessions", "each connection has a session of its own")


def _connections(facts: DatabaseFacts, settings: Settings) -> Finding:
    needed = settings.processes * (settings.pool_size + CONNECTIONS_BESIDE)
    told = f"this service may need {needed}, the database takes {facts.connections_max}"
    if needed > facts.connections_max:
        return warning("connections", told, what_to_do="raise max_connections, or lower STEELYARD_POOL_SIZE")
    return fine("connections", told)


def _clocks(facts: DatabaseFacts) -> Finding:
    ahead = facts.clock_ahead
    side = "ahead of" if ahead > timedelta() else "behind"
    told = f"the database's clock is {abs(ahead).total_seconds():.3f} s {side} this machine's"
    what_to_do = "keep both right by NTP"
    if abs(ahead) > SKEW_MAX:
        return failure("clocks", told, what_to_do=what_to_do)
    return warning("clocks", told, what_to_do=what_to_do) if abs(ahead) > SKEW_WARNED else fine("clocks", told)


def _keys(facts: DatabaseFacts, settings: Settings) -> Sequence[Finding]:
    if settings.needs_keys and not facts.live_keys:
        return [warning("keys", "calls need a key, and there is none", what_to_do="run `steelyard keys first`")]
    return [fine("keys", f"{facts.live_keys} live")] if settings.needs_keys else []


async def guard(patient: Patient) -> Sequence[Finding]:
    """Whether somebody unknown can get at the service."""
    settings = patient.settings
    if settings.needs_keys:
        return [fine("guard", "calls need an API key")]
    if settings.is_on_loopback:
        return [fine("guard", "without keys, this machine only")]
    what_to_do = "set STEELYARD_KEY_PEPPER, unless something else guards the port"
    return [warning("guard", "reachable from the network without keys", what_to_do=what_to_do)]


async def cache(patient: Patient) -> Sequence[Finding]:
    """Whether Redis answers, where it is named."""
    if patient.settings.redis_url is None:
        return [fine("redis", "none is named")]
    what_to_do = "start it, or correct STEELYARD_REDIS_URL; the service runs without, answers take longer"
    try:
        redis = Redis.from_url(
            patient.settings.redis_url.get_secret_value(),
            socket_timeout=ANSWER_MAX_S,
            socket_connect_timeout=ANSWER_MAX_S,
        )
    except ValueError as error:
        return [failure("redis", plain(error), what_to_do=what_to_do)]
    try:
        async with asyncio.timeout(ANSWER_MAX_S):
            await redis.ping()
    except (RedisError, OSError, TimeoutError) as error:
        return [failure("redis", plain(error), what_to_do=what_to_do)]
    finally:
        await redis.aclose()
    return [fine("redis", "answers")]


async def broker(patient: Patient) -> Sequence[Finding]:
    """Whether RabbitMQ lets us in, where it is named."""
    if patient.settings.amqp_url is None:
        return [fine("broker", "none is named")]
    url = patient.settings.amqp_url.get_secret_value()
    parts = urlsplit(url)
    where = f"{parts.hostname}:{parts.port or DEFAULT_PORTS[parts.scheme]}"
    try:
        async with asyncio.timeout(ANSWER_MAX_S):
            connection = await connect(url)
    except (AMQPError, OSError, TimeoutError) as error:
        what_to_do = "start it, or correct STEELYARD_AMQP_URL; meanwhile nothing is followed and nothing published"
        return [failure("broker", f"{where}: {plain(error)}", what_to_do=what_to_do)]
    await connection.close()
    return [fine("broker", f"{where} lets us in")]


async def certificates(patient: Patient) -> Sequence[Finding]:
    """Whether the port's certificate can be used, and for how long yet."""
    settings = patient.settings
    if settings.tls_certificate is None or settings.tls_key is None:
        return [fine("certificates", "none: the port is not TLS")]
    named = [settings.tls_certificate] + ([settings.tls_client_ca] if settings.tls_client_ca else [])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (ssl.SSLError, OSError) as error:
        told = f"{settings.tls_certificate} and {settings.tls_key}: {plain(error)}"
        return [failure("certificates", told, what_to_do="name a PEM certificate and the key that belongs to it")]
    try:
        return [_expiry(path, patient.clock()) for path in named]
    except (ssl.SSLError, OSError) as error:
        return [failure("certificates", plain(error), what_to_do="name a PEM file of authorities")]


def _expiry(path: Path, now: datetime) -> Finding:
    # The only way of the standard library to read a certificate from a file.
    decoded: dict[str, Any] = ssl._ssl._test_decode_cert(str(path))  # type: ignore[attr-defined]
    ends_at = datetime.fromtimestamp(ssl.cert_time_to_seconds(decoded["notAfter"]), UTC)
    told = f"{path.name} is good until {ends_at:%Y-%m-%d %H:%M} UTC"
    what_to_do = "put a new one in its place; it is taken up without a restart"
    if ends_at <= now:
        return failure("certificates", f"{path.name} ended at {ends_at:%Y-%m-%d %H:%M} UTC", what_to_do=what_to_do)
    if ends_at - now < EXPIRY_WARNED:
        return warning("certificates", told, what_to_do=what_to_do)
    return fine("certificates", told)


async def port(patient: Patient) -> Sequence[Finding]:
    """Whether the port can be had, or a steelyard has it already."""
    settings = patient.settings
    where = f"{settings.host}:{settings.port}"
    try:
        hold_port(settings).close()
    except OSError as error:
        if await _is_served(where, is_tls=settings.tls_certificate is not None):
            return [fine("port", f"{where}: a service serves there")]
        return [failure("port", plain(error), what_to_do="end the other program, or set STEELYARD_PORT")]
    return [fine("port", f"{where} is free")]


async def _is_served(address: str, *, is_tls: bool) -> bool:
    """Whether a gRPC service with health is there. Over TLS, whose authorities we do not know, that cannot be told."""
    if is_tls:
        return False
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=ANSWER_MAX_S)
        except grpc.aio.AioRpcError:
            return False
    return True


CHECKS: Sequence[Check] = (configuration, database, cache, broker, guard, certificates, port)
