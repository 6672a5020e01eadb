"""The keys of AdminService: who may call the service, for what, and how often."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from steelyard.client.caller import Caller, new_request_id
from steelyard.client.translation import enum_number, message_of, record_of
from steelyard.v1 import access_pb2, admin_service_pb2, admin_service_pb2_grpc


class Scope(StrEnum):
    """What a key may be used for."""

    POSITIONS_READ = "POSITIONS_READ"
    POSITIONS_WRITE = "POSITIONS_WRITE"
    FILLS_WRITE = "FILLS_WRITE"
    FILLS_IMPORT = "FILLS_IMPORT"
    BUILDS_RUN = "BUILDS_RUN"
    PERFORMANCE_READ = "PERFORMANCE_READ"
    LIMITS_WRITE = "LIMITS_WRITE"
    MARKET_WRITE = "MARKET_WRITE"
    ADMIN = "ADMIN"
    """Stands for every other one."""


class Tier(StrEnum):
    """How many calls a minute: 100, 100, 200, 1,000."""

    DEFAULT = "DEFAULT"
    MODEL = "MODEL"
    RISK = "RISK"
    UI = "UI"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTerms:
    """What a key is to be good for; what is None takes the service's default."""

    owner: str
    accounts: tuple[str, ...] = ()
    """Empty: all."""
    tier: Tier | None = None
    calls_per_minute: int | None = None
    fills_per_second: int | None = None
    streams_max: int | None = None
    builds_max: int | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is kept, without its secret."""

    key_id: str
    owner: str
    scopes: tuple[Scope, ...]
    accounts: tuple[str, ...]
    tier: Tier
    calls_per_minute: int
    fills_per_second: int
    streams_max: int
    builds_max: int
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key and, this one time, its secret; empty in a repeat of the request."""

    key: ApiKey
    secret: str
    replayed: bool


class KeyCalls(Caller):
    """The calls that keep keys."""

    @cached_property
    def _keys(self) -> admin_service_pb2_grpc.AdminServiceStub:
        return admin_service_pb2_grpc.AdminServiceStub(self.channel)

    async def create_api_key(
        self, terms: KeyTerms, *, scopes: tuple[Scope, ...], request_id: str | None = None
    ) -> NewKey:
        """Makes a key. Raises `PreconditionFailed` where its owner has two live ones."""
        key = message_of(access_pb2.ApiKey, terms)
        for scope in scopes:
            key.scopes.append(access_pb2.Scope.ValueType(enum_number(key, "scopes", word=scope)))
        request = admin_service_pb2.CreateApiKeyRequest(request_id=new_request_id(request_id), key=key)
        return record_of(NewKey, await self._write(self._keys.CreateApiKey, request))

    async def revoke_api_key(self, key_id: str, *, request_id: str | None = None) -> ApiKey:
        """Takes a key back: every server refuses it within 30 seconds. Raises `NotFound`."""
        request = admin_service_pb2.RevokeApiKeyRequest(request_id=new_request_id(request_id), key_id=key_id)
        answer = await self._write(self._keys.RevokeApiKey, request)
        return record_of(ApiKey, answer.key)

    def list_api_keys(self, *, owner: str = "", live_only: bool = False, page_size: int = 0) -> AsyncIterator[ApiKey]:
        """The keys, by owner and id."""
        request = admin_service_pb2.ListApiKeysRequest(owner=owner, live_only=live_only, page_size=page_size)
        return self._pages(
            self._keys.ListApiKeys, request, rows=lambda answer: (record_of(ApiKey, key) for key in answer.keys)
        )
