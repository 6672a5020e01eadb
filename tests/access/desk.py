"""A service that asks for keys, on a real database, and whoever holds one."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc.aio
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from pydantic import SecretStr

from steelyard.accounting.keys import Account
from steelyard.app.assembly import Service, system_clock
from steelyard.app.settings import Settings
from steelyard.client import Steelyard
from steelyard.operations.access import KeyTerms, Scope
from steelyard.operations.answering_once import RequestIdentity
from steelyard.operations.keep_keys import KeepKeys, KeyReceipt
from steelyard.rpc.access import account_paths
from steelyard.rpc.services import REGISTRATIONS
from steelyard.storage.access import KeyRecords
from steelyard.storage.database import Database
from steelyard.telemetry.logs import silent_log

PEPPER = "a pepper of sixteen bytes or more"
METHODS = {
    f"/{registration.full_name}/{method.name}": method
    for registration in REGISTRATIONS.values()
    for method in registration.file.DESCRIPTOR.services_by_name[registration.name].methods
}


@asynccontextmanager
async def guarded(url: str, **settings: Any) -> AsyncIterator[Service]:
    """A service on a database that needs keys."""
    known = {"port": 0, "drain_wait_s": 0.01, "pool_size": 4, "key_pepper": SecretStr(PEPPER), **settings}
    service = Service(Settings(**known), url=url, log=silent_log())
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


async def new_key(
    url: str, *scopes: Scope, accounts: Collection[str] | None = None, owner: str | None = None, **terms: Any
) -> KeyReceipt:
    """A key made in the database itself, as the first one is."""
    database = Database(url)
    keep = KeepKeys(KeyRecords(database), pepper=PEPPER.encode(), clock=system_clock, jitter=random.random)
    bound = None if accounts is None else frozenset(Account(name) for name in accounts)
    asked = KeyTerms(owner=owner or uuid.uuid4().hex, scopes=frozenset(scopes), accounts=bound, **terms)
    try:
        return await keep.create(asked, request=RequestIdentity(uuid.uuid4(), b"test"))
    finally:
        await database.close()


def client(service: Service, receipt: KeyReceipt) -> Steelyard:
    """A client with a key."""
    return Steelyard.connect(service.address, api_key=receipt.secret, timeout_s=10)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended."""

    code: grpc.StatusCode
    reason: str
    trailers: dict[str, Any]


async def call(channel: grpc.aio.Channel, method: str, *, secret: str | None, account: str = "") -> Ended:
    """Calls any method of the contract with an empty request, or one that names an account wherever it can."""
    described = METHODS[method]
    request = GetMessageClass(described.input_type)()
    if account:
        for path in account_paths(described.input_type):
            name_account(request, path, account=account)
    kind = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }[described.client_streaming, described.server_streaming]
    callable_: Any = kind(method)
    raw = request.SerializeToString()
    metadata = [] if secret is None else [("x-api-key", secret)]
    running = callable_(iter([raw]) if described.client_streaming else raw, metadata=metadata, timeout=10)
    try:
        if described.server_streaming:
            async for _ in running:
                running.cancel()
                return Ended(grpc.StatusCode.OK, "", {})
        else:
            await running
    except grpc.aio.AioRpcError as error:
        trailers = dict(error.trailing_metadata() or ())
        return Ended(error.code(), reason_of(trailers), trailers)
    return Ended(await running.code(), "", dict(await running.trailing_metadata() or ()))


def name_account(message: Message, path: tuple[str, ...], *, account: str) -> None:
    """Writes an account where a message may name one."""
    field = message.DESCRIPTOR.fields_by_name[path[0]]
    value: Any = getattr(message, path[0])
    if len(path) > 1:
        inner = value.add() if field.is_repeated else value
        name_account(inner, path[1:], account=account)
    elif field.is_repeated:
        value.append(account)
    else:
        setattr(message, path[0], account)


def reason_of(trailers: dict[str, Any]) -> str:
    """The reason in the trailers of a failed call; empty where there is none."""
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    for packed in status.details:
        info = error_details_pb2.ErrorInfo()
        if packed.Unpack(info):
            return str(info.reason)
    return ""
